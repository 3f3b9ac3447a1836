"""Progress of long work: a bar where the ``Say`` can draw one, else plain lines at growing intervals.

A ``Say`` that draws has two methods more, ``progress`` and ``waiting``, with the arguments of the functions here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from pipeline.core.say import Say

T = TypeVar("T")

FIRST_SECONDS, LONGEST_SECONDS = 2.0, 30.0
"""Time to the first line; the interval doubles with each line, up to the longest."""
LEAST_SHARE = 0.02
"""A remaining time is shown once this share of the work, and at least two items, are finished."""

PAUSE_TIMES, PAUSE_SECONDS, PAUSE_ITEMS = 20.0, 5.0, 5
"""The longest wait for an item, where it took so many times and seconds longer than the others, was a pause, as of a
process that was stopped (Ctrl-Z) or of a machine that slept; known after so many others."""


class Advance(Protocol):
    """Called as items finish."""

    def __call__(self, count: int, left_seconds: float | None = None, detail: str = "") -> None:
        """``count``: items finished since the last call; ``left_seconds``: the caller's own estimate, where it has one;
        ``detail``: a figure to show beside the count, such as the loss."""


def clock(seconds: float) -> str:
    """A duration as m:ss or h:mm:ss."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def is_pause(seconds: float, others: int, others_seconds: float) -> bool:
    """Whether an item that took so long waited for something else, as all the others together tell."""
    return others >= PAUSE_ITEMS and seconds > max(PAUSE_SECONDS, PAUSE_TIMES * others_seconds / others)


class Count:
    """How many items are finished, and how long the others will take.

    The first items are not timed: they compile, open files and fill caches. ``estimated``: whether the time left
    follows from the count; otherwise the caller gives it. ``now``: the clock, in seconds.
    """

    def __init__(
        self, total: int | None, unit: str, estimated: bool = True, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.total, self.unit, self.done, self.detail = total, unit, 0, ""
        self._estimated, self._now = estimated, now
        self.began = self._last = now()
        self._first: tuple[int, float] | None = None
        self._longest = 0, 0.0  # items, and seconds that they took
        self._given: float | None = None

    def advance(self, count: int, left_seconds: float | None = None, detail: str = "") -> None:
        self.done += count
        if not count:
            return
        before, self._last, self._given, self.detail = self._last, self._now(), left_seconds, detail
        if self._first is None:
            self._first = self.done, self._last
        elif (seconds := self._last - before) > self._longest[1]:
            self._longest = count, seconds

    @property
    def elapsed(self) -> float:
        return self._now() - self.began

    @property
    def rate(self) -> float | None:
        """Items per second, but for a pause; None before it is known."""
        if self._first is None or not self._estimated:
            return None
        items, seconds = self.done - self._first[0], self._last - self._first[1]
        count, longest = self._longest
        if is_pause(longest / max(1, count), items - count, seconds - longest):
            items, seconds = items - count, seconds - longest
        return items / seconds if items and seconds > 0 else None

    @property
    def left_seconds(self) -> float | None:
        """None before it is known."""
        left = self._given
        if self._estimated and self.total:
            if self.done < max(2, LEAST_SHARE * self.total) or (rate := self.rate) is None:
                return None
            left = (self.total - self.done) / rate
        return None if left is None else max(0.0, left - (self._now() - self._last))

    def __str__(self) -> str:
        """'12 of 30 images, loss 0.3, 2.5 per second, 0:07 left'."""
        parts = [f"{self.done}{f' of {self.total}' if self.total else ''} {self.unit}", self.detail]
        if (rate := self.rate) is not None:
            parts.append(f"{rate:.3g} per second")
        if (left := self.left_seconds) is not None:
            parts.append(f"{clock(left)} left")
        return ", ".join(part for part in parts if part)


class Lines:
    """Shows a count in lines at growing intervals."""

    def __init__(self, say: Say, what: str, count: Count) -> None:
        self._say, self._what, self._count = say, what, count
        self._wait, self._next = FIRST_SECONDS, FIRST_SECONDS

    def __call__(self, count: int, left_seconds: float | None = None, detail: str = "") -> None:
        self._count.advance(count, left_seconds, detail)
        elapsed = self._count.elapsed
        if elapsed < self._next or self._count.done == self._count.total:
            return
        self._wait = min(2 * self._wait, LONGEST_SECONDS)
        self._next = elapsed + self._wait
        self._say(f"{self._what}: {self._count}")


@contextlib.contextmanager
def progress(
    say: Say, what: str, total: int | None = None, unit: str = "images", estimated: bool = True
) -> Iterator[Advance]:
    """Shows the progress of ``total`` items (None: unknown) inside the context; call its value as items finish.

    ``estimated``: whether the time left follows from the count; otherwise the caller gives it.
    """
    drawn = getattr(say, "progress", None)
    if drawn is None:
        yield Lines(say, what, Count(total, unit, estimated))
        return
    with drawn(what, total, unit, estimated) as advance:
        yield advance


def track(say: Say, items: Iterable[T], what: str, total: int | None = None, unit: str = "images") -> Iterator[T]:
    """Yields the items; each counts as finished when the next one is requested."""
    with progress(say, what, total, unit) as advance:
        for item in items:
            yield item
            advance(1)


@contextlib.contextmanager
def waiting(say: Say, what: str) -> Iterator[None]:
    """Shows that ``what`` is under way inside the context, where nothing can be counted."""
    shown = getattr(say, "waiting", None)
    if shown is None:
        say(what)
        yield
        return
    with shown(what):
        yield


class Prefixed:
    """A ``Say`` that puts a prefix before each line and bar of another."""

    def __init__(self, say: Say, prefix: str) -> None:
        self._say, self._prefix = say, prefix

    def __call__(self, message: str) -> None:
        self._say(self._prefix + message)

    def progress(self, what: str, *how: Any) -> contextlib.AbstractContextManager[Advance]:
        return progress(self._say, self._prefix + what, *how)

    def waiting(self, what: str) -> contextlib.AbstractContextManager[None]:
        return waiting(self._say, self._prefix + what)
