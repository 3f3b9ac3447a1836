"""Progress of long work: a bar where the ``Say`` can draw one, else plain lines at growing intervals."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from pipeline.core.say import Say

Advance = Callable[[int], None]
"""Called with the number of items finished since the last call."""
T = TypeVar("T")

FIRST_SECONDS, LONGEST_SECONDS = 2.0, 30.0
"""Time to the first line; the interval doubles with each line, up to the longest."""
LEAST_SHARE = 0.02
"""A remaining time is shown once this share of the work, and at least two items, are finished."""


def clock(seconds: float) -> str:
    """A duration as m:ss or h:mm:ss."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class _Lines:
    def __init__(self, say: Say, what: str, total: int | None, unit: str) -> None:
        self._say, self._what, self._total, self._unit = say, what, total, unit
        self._done, self._began = 0, time.monotonic()
        self._wait, self._next = FIRST_SECONDS, self._began + FIRST_SECONDS

    def __call__(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now < self._next or self._done == self._total:
            return
        self._wait = min(2 * self._wait, LONGEST_SECONDS)
        self._next = now + self._wait
        seconds = now - self._began
        rate = self._done / seconds
        of = f" of {self._total}" if self._total else ""
        left = ""
        if self._total and self._done >= max(2, LEAST_SHARE * self._total):
            left = f", {clock((self._total - self._done) / rate)} left"
        self._say(f"{self._what}: {self._done}{of} {self._unit}, {rate:.3g} per second{left}")


@contextlib.contextmanager
def progress(say: Say, what: str, total: int | None = None, unit: str = "images") -> Iterator[Advance]:
    """Shows the progress of ``total`` items (None: unknown) inside the context; call its value as items finish."""
    drawn = getattr(say, "progress", None)
    if drawn is None:
        yield _Lines(say, what, total, unit)
        return
    with drawn(what, total, unit) as advance:
        yield advance


def track(say: Say, items: Iterable[T], what: str, total: int | None = None, unit: str = "images") -> Iterator[T]:
    """Yields the items; each counts as finished when the next one is requested."""
    with progress(say, what, total, unit) as advance:
        for item in items:
            yield item
            advance(1)
