"""Estimates how long a training still takes, once enough steps were timed."""

from __future__ import annotations

import collections
from statistics import fmean, median

SKIPPED = 2
"""The first steps build the training graph, which may take minutes: they are not counted."""
ENOUGH_STEPS, ENOUGH_SECONDS = 10, 10.0
"""Steps, or seconds, before an estimate is given: the first batches were prepared while the graph was built."""
WINDOW = 50


def in_words(seconds: float) -> str:
    """An estimated duration: 'about 40 s', 'about 3 minutes', 'about 2.5 hours'."""
    if seconds < 100:
        return f"about {max(1, round(seconds)) if seconds < 10 else 5 * round(seconds / 5)} s"
    if seconds < 100 * 60:
        return f"about {round(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours"


class Pace:
    """Times the steps, waiting for images included and scoring excluded."""

    def __init__(self) -> None:
        self._skip = SKIPPED
        self._steps: collections.deque[float] = collections.deque(maxlen=WINDOW)
        self._scorings: list[float] = []

    def step(self, seconds: float) -> None:
        if self._skip:
            self._skip -= 1
        else:
            self._steps.append(seconds)

    def scoring(self, seconds: float) -> None:
        self._scorings.append(seconds)

    def graph_changes(self) -> None:
        """The next step builds another graph: it is not counted."""
        self._skip = max(self._skip, 1)

    @property
    def known(self) -> bool:
        return len(self._steps) >= ENOUGH_STEPS or sum(self._steps) >= ENOUGH_SECONDS

    @property
    def step_seconds(self) -> float:
        """Mean over the last steps; only if ``known``."""
        return fmean(self._steps)

    def left(self, steps: int, scorings: int) -> str:
        """The time for so many steps and scorings, in words; '' if not ``known``."""
        if not self.known:
            return ""
        seconds = steps * self.step_seconds
        if scorings and not self._scorings:
            return f"{in_words(seconds)} left, without scoring"
        return f"{in_words(seconds + scorings * (median(self._scorings) if scorings else 0.0))} left"
