"""Tells whether quantization-aware training gained anything on images held out, or was lucky."""

from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist

import numpy as np

from pipeline.measure.confusion import gain

LUCK = 0.05
"""Chance that the start is given up though no checkpoint is better: one-sided, normal, with Bonferroni's correction, as
the best of several is chosen."""


def fewest_held_out(evaluations: int) -> int:
    """How many images must be held out to tell a gain of the best of so many checkpoints from luck.

    Where a checkpoint is as good as the start, an image gains or loses with even chance, so all of n images gain by
    luck once in 2ⁿ (the sign test). That must be rarer than LUCK over the number of checkpoints, or even the clearest
    outcome proves nothing. A bootstrap of so few images does not see that: of one, its error is always 0.
    """
    return math.ceil(math.log2(evaluations / LUCK))


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether the best checkpoint is better than the start; the figures are None where that cannot be told.

    Attributes:
      points, error, needed: of mIoU; see ``gain``, and the gain that luck alone exceeds once in 1 / LUCK trainings.
      why_not: why nothing can be told, in words; None where it can.
    """

    points: float | None = None
    error: float | None = None
    needed: float | None = None
    why_not: str | None = None

    @property
    def gained(self) -> bool:
        return self.points is not None and self.needed is not None and self.points > self.needed

    def __str__(self) -> str:
        if self.why_not is not None:
            return f"the start is kept: {self.why_not}"
        if self.gained:
            return f"the best step is kept: it gains {self.points:+.2f} points, luck alone may give {self.needed:.2f}"
        return (
            f"the start is kept: the best step gains {self.points:+.2f} points, luck alone may give {self.needed:.2f}"
        )


def too_few(held_out: int, evaluations: int, images: int, what: str = "held out") -> str | None:
    """Why a gain on so few images cannot be told from luck, and what helps; None where it can."""
    fewest = fewest_held_out(evaluations)
    if held_out >= fewest:
        return None
    return (
        f"{held_out} of {images} images {what} cannot tell a gain from luck, it takes {fewest}. Give {5 * fewest}"
        " training images or more: a fifth of them is held out."
    )


def judge_gain(before: np.ndarray, after: np.ndarray, evaluations: int, images: int) -> Verdict:
    """``before`` and ``after``: confusions [held out, classes, classes] of the start and of the best checkpoint.

    evaluations: how many checkpoints that is the best of; images: held out or trained on.
    """
    labelled = int((before.sum((1, 2)) > 0).sum())
    if (why_not := too_few(labelled, evaluations, images, "held out with labels")) is not None:
        return Verdict(why_not=why_not)
    points, error = gain(before, after)
    if points > 0 and error < 1e-9:
        return Verdict(
            why_not="the images held out are all alike, so they cannot tell a gain from luck. Give images that differ."
        )
    return Verdict(points, error, error * NormalDist().inv_cdf(1 - LUCK / evaluations))
