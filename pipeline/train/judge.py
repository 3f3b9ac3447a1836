"""Tests whether a gain of quantization-aware training on held-out images is more than chance."""

from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist

import numpy as np

from pipeline.measure.confusion import gain

LUCK = 0.05
"""Probability of replacing the start though no checkpoint is better: one-sided, normal, with Bonferroni's correction,
because the best of several is chosen."""


def fewest_held_out(evaluations: int) -> int:
    """How many images must be held out to distinguish a gain of the best of so many checkpoints from luck.

    If a checkpoint is as good as the start, each image gains or loses with even chance, so all of n images gain by luck
    once in 2ⁿ trainings (the sign test). That must be rarer than LUCK over the number of checkpoints, or even the
    clearest outcome proves nothing. A bootstrap over so few images does not show this: over one, its error is 0.
    """
    return math.ceil(math.log2(evaluations / LUCK))


UNREACHABLE = 100.0
"""Points of mIoU: no gain is larger."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether the best checkpoint is better than the start; ``points`` and ``error`` are None if that was not tested.

    Attributes:
      points, error: gain in points of mIoU, and its standard error; see ``gain``.
      needed: the gain that luck alone exceeds once in 1 / LUCK trainings; UNREACHABLE if it was not tested, as then
        no gain is enough.
      why_not: why it was not tested; None if it was.
      asked: whether the last checkpoint is to be kept, whatever it gains.
    """

    points: float | None = None
    error: float | None = None
    needed: float = UNREACHABLE
    why_not: str | None = None
    asked: bool = False

    @property
    def gained(self) -> bool:
        return self.points is not None and self.points > self.needed

    @property
    def replaces(self) -> bool:
        """Whether a checkpoint replaces the start."""
        return self.asked or self.gained

    def __str__(self) -> str:
        if self.asked and self.why_not is not None:
            return f"the last step is kept, as asked; whether it gains was not tested: {self.why_not}"
        if self.why_not is not None:
            return f"the start is kept: {self.why_not}"
        kept = "the last step is kept, as asked: it" if self.asked else "the best step is kept: it"
        if not self.replaces:
            kept = "the start is kept: the best step"
        return f"{kept} gains {self.points:+.2f} points, luck alone may give {self.needed:.2f}"


def too_few(held_out: int, evaluations: int, images: int, what: str = "held out") -> str | None:
    """Why a gain on so few images cannot be distinguished from luck, and what helps; None if it can."""
    fewest = fewest_held_out(evaluations)
    if held_out >= fewest:
        return None
    return (
        f"{held_out} of {images} images {what} are too few to tell a gain from luck: it takes {fewest}. Give"
        f" {5 * fewest} training images or more: a fifth of them is held out."
    )


def judge_gain(before: np.ndarray, after: np.ndarray, evaluations: int, images: int) -> Verdict:
    """Whether the best of ``evaluations`` checkpoints gained, and by how much.

    ``before`` and ``after``: confusions [held out, classes, classes] of the start and of that checkpoint. ``images``:
    how many are held out or trained on.
    """
    labelled = int((before.sum((1, 2)) > 0).sum())
    if (why_not := too_few(labelled, evaluations, images, "held out with labels")) is not None:
        return Verdict(why_not=why_not)
    points, error = gain(before, after)
    if points > 0 and error < 1e-9:
        return Verdict(
            why_not="the images held out are all alike, so a gain cannot be told from luck. Give images that differ."
        )
    return Verdict(points, error, error * NormalDist().inv_cdf(1 - LUCK / evaluations))
