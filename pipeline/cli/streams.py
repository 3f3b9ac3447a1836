"""Standard output and standard error: whose reader has left, and which lead elsewhere for a while."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterator
from typing import IO, TextIO

READER_LEFT = 1
"""The exit code that click and Rich end with, too."""


def abandon(stream: IO[str]) -> None:
    """What is written to ``stream`` from now on, and what it still holds, goes nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def reader_left(stream: IO[str]) -> bool:
    """Whether ``stream`` is a pipe that nobody reads any more, as behind `| head -1`."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def copy_of(stream: TextIO) -> Iterator[TextIO]:
    """Reaches the terminal or the log also while file descriptor 2 leads elsewhere."""
    with os.fdopen(os.dup(stream.fileno()), "w", encoding=stream.encoding, errors="replace") as copy:
        yield copy
