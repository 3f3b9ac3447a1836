"""The group of all commands: every error becomes one sentence and an exit code."""

from __future__ import annotations

import sys
import tempfile
import traceback
from typing import Any

import click

from pipeline.cli.screen import NORMAL, QUIET, say
from pipeline.cli.streams import READER_LEFT, abandon, reader_left
from pipeline.core.errors import SegquantError
from pipeline.core.files import disk_error
from pipeline.core.keeper import Stopped, interruption, signals_stop
from pipeline.core.printable import printable
from pipeline.core.temporary import own_temporary_folder, shared_temporary_folder
from pipeline.core.workers import Followed

OUT_OF_MEMORY = "ResourceExhaustedError"
"""TensorFlow's error for it; this file loads no TensorFlow."""


class Closing(click.Context):
    """A signal that comes while a command that has ended is cleaned up behind is answered as any other."""

    def close(self) -> None:
        try:
            super().close()
        except KeyboardInterrupt as interruption:
            sys.exit(_interrupted(interruption))


class Main(click.Group):
    """Turns every error into one sentence and an exit code, and shows what is under way."""

    context_class = Closing

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            with signals_stop():
                return super().main(*args, **extra)
        except KeyboardInterrupt as interruption:  # before or after the command itself
            sys.exit(_interrupted(interruption))

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        say.loudness = NORMAL
        try:
            return super().make_context(*args, **extra)
        except KeyboardInterrupt as interruption:
            sys.exit(_interrupted(interruption))

    def invoke(self, ctx: click.Context) -> Any:
        if "--quiet" in ctx.args and say.loudness == NORMAL:  # the command itself reads it when bars are drawn already
            say.loudness = QUIET
        try:
            with say.opened(), own_temporary_folder():
                return self._invoke(ctx)
        except KeyboardInterrupt as interruption:  # while that is closed
            ctx.exit(_interrupted(interruption))

    def _stopped(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if not isinstance(error, click.exceptions.Exit) and (stopped := interruption()) is not None:
                raise stopped from None  # native code, such as TensorFlow's, made this error of it
            raise

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            return self._stopped(ctx)
        except SegquantError as error:
            say.error(f"error: {error.message}")
            for line in error.details:
                say.error(f"  {line}")
            ctx.exit(error.exit_code)
        except Followed as end:
            say(str(end))
        except KeyboardInterrupt as interruption:
            ctx.exit(_interrupted(interruption))
        except OSError as error:
            if isinstance(error, BrokenPipeError) and reader_left(sys.stdout):
                abandon(sys.stdout)
                ctx.exit(READER_LEFT)
            where = f" ({error.filename})" if error.filename else ""
            say.error(f"error: {error.strerror or error}{where}: free space or correct the path, and repeat.")
            ctx.exit(2)
        except click.UsageError as error:
            lines = "\n".join(map(printable, error.message.split("\n")))
            if lines != error.message:  # the message quotes what was typed
                raise click.UsageError(lines, error.ctx) from None
            raise
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if (why := disk_error(error)) is not None:
                say.error(f"error: {why.strerror}: free space in the run's folder and for temporary files, and repeat.")
                ctx.exit(2)
            if isinstance(error, MemoryError) or type(error).__name__ == OUT_OF_MEMORY:
                say.error(
                    "error: out of memory: take fewer images at once (--batch), a smaller --size, or a machine with"
                    " more memory; end other programs; and repeat."
                )
                ctx.exit(2)
            say.error(
                f"error: internal error ({type(error).__name__}): please report it{_with_log(traceback.format_exc())}"
            )
            ctx.exit(70)


def _interrupted(interruption: KeyboardInterrupt) -> int:
    """Says that the command was stopped; its exit code."""
    by = f" by {interruption}" if isinstance(interruption, Stopped) else ""
    say.error(f"interrupted{by}: repeat the command to go on where it stopped.")
    return getattr(interruption, "exit_code", 130)


def _with_log(trace: str) -> str:
    """Ends the sentence: with a new file that holds the trace, or where none can be written with the trace's end."""
    try:
        handle, path = tempfile.mkstemp(".log", "segquant-error-", shared_temporary_folder())
        with open(handle, "w") as log:
            log.write(trace)
    except OSError:
        return f". It ended so: {' | '.join(line.strip() for line in trace.splitlines()[-4:])}"
    return f", and attach {path}."
