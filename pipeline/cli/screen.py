"""What the commands show while they work: messages and progress on standard error, results on standard output.

A terminal gets bars and, where nothing can be counted, the time so far; a file or a pipe gets plain lines.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

import click

from pipeline.cli.streams import abandon, copy_of
from pipeline.cli.substitute import Substitute
from pipeline.core.command import as_called
from pipeline.core.printable import printable
from pipeline.core.progress import LONGEST_SECONDS, Advance, Count, clock

QUIET, NORMAL, VERBOSE = -1, 0, 1
TICK_SECONDS, CALM_TICK_SECONDS, CALM_AFTER_SECONDS = 0.1, 0.5, 5.0
"""How often a terminal is drawn: less often in long steps, because drawing takes time from what is being timed."""
SPINNER_SECONDS = 0.5
"""A terminal shows the time so far after this long without a message; shorter steps would only flicker."""
LINE_SECONDS, LOG_TICK_SECONDS = 1.5, 0.25
"""A log gets a line after so long without one, and whether it is time is looked up so often."""
SUBSTITUTE_SECONDS = 0.5
"""Commands that take longer get somebody to write for them."""
STEADY_SECONDS = 3600.0
"""After so much of a command the time between a log's lines doubles with each, up to LONGEST_SECONDS: else a night
would fill it."""
ANNOUNCED_SECONDS = 1.0
"""A log gets the name of a step that takes longer than this."""
STARTING, STILL = "starting", "still working"


@dataclasses.dataclass(eq=False)
class Step:
    """Work that is under way; without a ``count`` nothing can be counted."""

    what: str
    count: Count | None = None
    began: float = dataclasses.field(default_factory=time.monotonic)
    announced: bool = False

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    @property
    def so_far(self) -> str:
        counted = f"{self.count}, " if self.count is not None and self.count.done else ""
        return f"{self.what}: {counted}{clock(self.elapsed)} so far"

    @property
    def ended(self) -> str:
        if self.count is None:
            return f"{self.what}: {self.elapsed:.1f} s"
        return f"{self.what}: {self.count.done} {self.count.unit} in {self.elapsed:.1f} s"


class Screen:
    """The ``Say`` of the commands: call it with a message.

    Attributes:
      loudness: QUIET shows errors and results alone; VERBOSE shows every step's end and when each message came.
    """

    def __init__(self) -> None:
        self.loudness = NORMAL
        self._lock = threading.RLock()
        self._steps: list[Step] = []
        self._began = self._last = time.monotonic()
        self._wait = LINE_SECONDS
        self._spoken = False
        self._display: Any = None
        self._stream: TextIO | None = None
        self._substitute: Substitute | None = None

    def __call__(self, message: str) -> None:
        """One line; control characters in it are made harmless."""
        if self.loudness != QUIET:
            self._show(message)

    def error(self, message: str) -> None:
        """One line that --quiet shows too."""
        self._show(message)

    def _show(self, message: str) -> None:
        if self.loudness == VERBOSE:
            message = f"[{clock(time.monotonic() - self._began)}] {message}"
        with self._lock:
            self._last, self._wait, self._spoken = time.monotonic(), LINE_SECONDS, True
            try:
                if self._display is not None:
                    self._display.above(f"{printable(as_called(message))}\n")
                else:
                    click.echo(printable(as_called(message)), err=self._stream is None, file=self._stream)
            except OSError:  # whoever read the messages has left, or the disk with the log is full: the work goes on
                abandon(self._stream or sys.stderr)

    @contextlib.contextmanager
    def progress(self, what: str, total: int | None, unit: str, estimated: bool = True) -> Iterator[Advance]:
        """See ``pipeline.core.progress.progress``."""
        count = Count(total, unit, estimated)
        with self._under_way(Step(what, count)):
            yield count.advance

    @contextlib.contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """See ``pipeline.core.progress.waiting``."""
        with self._under_way(Step(what)):
            yield

    @contextlib.contextmanager
    def _under_way(self, step: Step) -> Iterator[None]:
        with self._lock:
            self._steps.append(step)
            self._wait = LINE_SECONDS
        try:
            yield
        finally:
            with self._lock:
                self._steps.remove(step)
                self._wait = LINE_SECONDS
                if self.loudness == VERBOSE:
                    self(step.ended)

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """A command runs inside: its progress is drawn, and it is never silent for long."""
        if self.loudness == QUIET:
            yield
            return
        self._began = self._last = time.monotonic()
        finished = threading.Event()
        with contextlib.ExitStack() as stack:
            if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
                from pipeline.cli.bars import Display

                self._display = stack.enter_context(Display(self._lock))
            ticker = threading.Thread(target=self._tick, args=(finished, stack), daemon=True)
            ticker.start()
            try:
                yield
            finally:
                finished.set()
                ticker.join()
                self._display = self._substitute = None

    def _tick(self, finished: threading.Event, stack: contextlib.ExitStack) -> None:
        while not finished.wait(self._tick_seconds):
            with self._lock, contextlib.suppress(OSError, ValueError):  # standard error was closed
                if self._display is not None:
                    self._display.draw(self._steps_to_draw())
                else:
                    self._write_lines()
                    self._tell_substitute(stack)

    def _tell_substitute(self, stack: contextlib.ExitStack) -> None:
        """Who writes to a log while Python is locked."""
        if self._substitute is None:
            if time.monotonic() - self._began < SUBSTITUTE_SECONDS:
                return
            log = stack.enter_context(copy_of(sys.stderr))
            self._substitute = stack.enter_context(Substitute(log, LINE_SECONDS))
        step = self._steps[-1] if self._steps else Step(self._unnamed, began=self._last)
        self._substitute.shows(printable(step.what), step.began, self._last + self._wait)

    @property
    def _tick_seconds(self) -> float:
        if self._display is None:
            return LOG_TICK_SECONDS
        with self._lock:
            began = max([step.began for step in self._steps], default=self._last)
        return TICK_SECONDS if time.monotonic() - began < CALM_AFTER_SECONDS else CALM_TICK_SECONDS

    def _steps_to_draw(self) -> list[Step]:
        now = time.monotonic()
        shown = [step for step in self._steps if step.count is not None or step.elapsed > SPINNER_SECONDS]
        if not self._steps and now - self._last > SPINNER_SECONDS:
            shown.append(Step(self._unnamed, began=self._last))
        return shown

    @property
    def _unnamed(self) -> str:
        """What is under way where nothing says what."""
        return STILL if self._spoken else STARTING

    def _write_lines(self) -> None:
        """To a log: the name of a step that takes long, then how far it is and how long it takes."""
        step = self._steps[-1] if self._steps else None
        idle = time.monotonic() - self._last
        if step is not None and step.count is None and not step.announced:
            if step.elapsed > ANNOUNCED_SECONDS:
                step.announced = True
                self(step.what if step.elapsed < 2 * ANNOUNCED_SECONDS else step.so_far)
        elif idle > self._wait:
            grows = self.loudness != VERBOSE and time.monotonic() - self._began > STEADY_SECONDS
            wait = min(2 * self._wait, LONGEST_SECONDS) if grows else self._wait
            self(step.so_far if step is not None else f"{self._unnamed}: {clock(idle)} so far")
            self._wait = wait

    @contextlib.contextmanager
    def diverted(self, stream: TextIO) -> Iterator[None]:
        """Messages go to ``stream`` inside, because file descriptor 2 leads elsewhere."""
        self._stream = stream
        try:
            yield
        finally:
            with self._lock:
                self._stream = None


say = Screen()


def tell(result: str) -> None:
    """One line on standard output: the result of the command."""
    click.echo(printable(as_called(result)), file=sys.stdout)
