"""The options --workers and --rank: a training in several processes, of which the chief alone writes the run."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import say
from pipeline.cli.resolve import Wanted, run_to_train
from pipeline.core.errors import RunError, SegquantError
from pipeline.core.keeper import kept, scratch_folder
from pipeline.core.printable import printable
from pipeline.core.run import Run, open_run
from pipeline.core.workers import CONFIG, GPU, Followed, Workers

ENDING_SECONDS = 60
"""Workers that this process started may take so long to end after it."""
NOT_COPIED = ("artifacts", "measurements", "resume", "tensorboard", "*.replaced-*", ".*")
"""Of the chief's run: a training needs none of it, or gets it from the chief."""


def worker_options(command: Any) -> Any:
    for option in (
        click.option(
            "--rank",
            type=click.IntRange(0),
            metavar="N",
            help="Which of the --workers this is; 0: the chief.",
        ),
        click.option(
            "--workers",
            metavar="HOST:PORT,...",
            help="Train in several processes, each on its part of every batch; start the same command on each machine."
            " local:N starts N processes on this one, each with a GPU of its own. See docs/machines.md."
            "  [default: as TF_CONFIG says, else this process alone]",
        ),
    ):
        command = option(command)
    return command


def workers_of(text: str | None, rank: int | None, batch: int) -> Workers | None:
    """The workers of the options or of TF_CONFIG; those of this machine are started. Raises BadSpec."""
    workers = Workers.of(text, rank, os.environ)
    if workers is not None:
        workers.part(batch)
        if workers.starts_others:
            click.get_current_context().with_resource(_others(workers))
        others = ", ".join(each for each in workers.addresses if each != workers.addresses[workers.rank])
        say(f"worker {workers.rank} of {workers.count}: connecting; {others} must start within 10 minutes")
    return workers


@contextlib.contextmanager
def _others(workers: Workers) -> Iterator[None]:
    """Starts the other workers on this machine with the command of this process; they end with it."""
    with contextlib.ExitStack() as ending:
        for rank in range(1, workers.count):
            log = ending.enter_context(tempfile.TemporaryFile())
            environment = {**os.environ, CONFIG: workers.config(rank), GPU: str(rank)}
            process = subprocess.Popen(
                [sys.executable, *sys.argv],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            ending.enter_context(kept("group", str(process.pid)))
            ending.callback(_end, process, log, rank)
        yield


def _end(process: subprocess.Popen, log: Any, rank: int) -> None:
    try:
        code = process.wait(1 if sys.exc_info()[0] else ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    if code:
        log.seek(0)
        lines = log.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
        say(f"note: worker {rank} ended with {code}: {printable(lines[-1]) if lines else 'it said nothing'}")


def run_of_workers(workers: Workers | None, path: Path | None, wanted: Wanted) -> AbstractContextManager[Run]:
    """The run that is trained: for a worker that does not lead, a copy that is thrown away."""
    if workers is None:
        return run_to_train(path, wanted, say)
    return _led(path, wanted) if workers.leads else _followed(workers)


@contextlib.contextmanager
def _led(path: Path | None, wanted: Wanted) -> Iterator[Run]:
    """The others are let go where there is nothing to train."""
    from pipeline.train.distribute import joined

    team = joined()
    assert team is not None
    try:
        with run_to_train(path, wanted, say) as run:
            yield run
    finally:
        if not team.met:
            with contextlib.suppress(SegquantError):
                team.meet("")


@contextlib.contextmanager
def _followed(workers: Workers) -> Iterator[Run]:
    from pipeline.train.distribute import joined

    team = joined()
    assert team is not None
    who = f"worker {workers.rank} of {workers.count}"
    say(f"{who}: waiting for the chief to prepare the training")
    place = team.meet("")
    if not place:
        raise Followed(f"{who}: the chief has nothing to train, its messages say why")
    with scratch_folder("segquant-worker-") as scratch:
        copy = scratch / "run"
        try:
            shutil.copytree(place, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
        except OSError as error:
            raise RunError(
                f"{who}: the chief's run {place} cannot be copied here ({error.strerror or type(error).__name__}): keep"
                " runs and datasets on a file system that all machines have at the same path, or free some space for"
                " temporary files."
            ) from None
        say(f"{who}: run {place}, written by the chief alone")
        yield open_run(copy)
