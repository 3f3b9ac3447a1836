"""Estimates how long a training still takes, once enough steps were timed."""

from __future__ import annotations

import collections
from statistics import fmean, median

from pipeline.core.progress import is_pause

SKIPPED = 2
"""The first steps build the training graph, which may take minutes: they are not counted."""
ENOUGH_STEPS, ENOUGH_SECONDS, ENOUGH_SHARE = 10, 10.0, 0.05
"""Steps, seconds, or share of all steps before an estimate is given: the first batches were prepared while the graph
was built."""
WINDOW = 50


class Pace:
    """Times the steps, waiting for images included and scoring excluded.

    ``steps``: of the whole training.
    """

    def __init__(self, steps: int) -> None:
        self._skip, self._total = SKIPPED, steps
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
        enough = min(ENOUGH_STEPS, max(2, ENOUGH_SHARE * self._total))
        return len(self._steps) >= enough or sum(self._steps) >= ENOUGH_SECONDS

    @property
    def step_seconds(self) -> float:
        """Mean over the last steps, but for a pause; only if ``known``."""
        *others, longest = sorted(self._steps)
        return fmean(others if is_pause(longest, len(others), sum(others)) else self._steps)

    def left_seconds(self, steps: int, scorings: int, scoring_seconds: float = 0.0) -> float | None:
        """The time for so many steps and scorings; None if not ``known``.

        ``scoring_seconds``: expected for a scoring, before one was timed.
        """
        if not self.known:
            return None
        each = median(self._scorings) if self._scorings else scoring_seconds
        return steps * self.step_seconds + scorings * each
