"""Confusion matrices: counts of labelled and predicted classes, and statistics of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from pipeline.core.dataset import IGNORE
from pipeline.core.errors import BadSpec
from pipeline.core.score import mean_iou_percent
from pipeline.heads.full_size import BAND_ROWS, interpolate


def confusion(label: np.ndarray, mask: np.ndarray, num_classes: int) -> np.ndarray:
    """int64 [classes, classes]: row = label, column = predicted; IGNORE in the label does not count.

    Raises BadSpec for a mask with a class beyond, which would count as another one.
    """
    if (highest := int(mask.max(initial=0))) >= num_classes:
        raise BadSpec(
            f"the masks hold class {highest}, and the labels have classes 0 to {num_classes - 1}: score the network on"
            " a dataset of its own classes."
        )
    counted = label != IGNORE
    index = label[counted].astype(np.int64) * num_classes + mask[counted]
    return np.bincount(index, minlength=num_classes**2).reshape(num_classes, num_classes)


def expected_confusion(shares: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """float64 [classes, classes] like ``confusion``: each pixel counts for every class with its probability.

    ``shares``: float [h, w, classes], summing to 1; ``mask``: uint8 [h, w].
    """
    classes = shares.shape[-1]  # one after the other: all in float64 would take 150 bytes for each pixel
    return np.stack([np.bincount(mask.ravel(), shares[..., i].ravel(), classes) for i in range(classes)])


def believed(logits: np.ndarray, height: int, width: int, weights: Sequence[float] | None) -> np.ndarray:
    """The class probabilities that a network predicts for each pixel: float16 [height, width, classes].

    A loss that weights classes makes softmax(logits) proportional to weight · probability; dividing them out gives
    the probability itself (Elkan, The Foundations of Cost-Sensitive Learning, 2001, theorem 2, for many classes).
    """
    probabilities = np.empty((height, width, logits.shape[-1]), np.float16)
    for top in range(0, height, BAND_ROWS):  # all in float32 would not fit the processor's caches
        rows = slice(top, min(top + BAND_ROWS, height))
        resized = interpolate(interpolate(logits[0], 0, height, part=rows), 1, width)
        if weights is not None:
            resized = resized - np.log(np.asarray(weights, np.float32))
        odds = np.exp(resized - resized.max(-1, keepdims=True))
        probabilities[rows] = odds / odds.sum(-1, keepdims=True)
    return probabilities


def confusions(pairs: Iterable[tuple[np.ndarray, np.ndarray]], num_classes: int) -> np.ndarray:
    """int64 [images, classes, classes]: the ``confusion`` of each (label, mask) pair."""
    return np.stack([confusion(label, mask, num_classes) for label, mask in pairs])


def gain(before: np.ndarray, after: np.ndarray, resamples: int = 2000) -> tuple[float, float]:
    """(points of mIoU that ``after`` has more than ``before``, the standard error of that difference).

    Both are ``confusions`` of the same images in the same order. The error is a paired bootstrap over images (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993): each resample draws as many images, with replacement, for both.
    """
    drawn = np.random.default_rng(0).integers(0, len(before), (resamples, len(before)))
    times = np.stack([np.bincount(row, minlength=len(before)) for row in drawn])
    first, second = (mean_iou_percent(np.tensordot(times, each, 1)) for each in (before, after))
    return float(mean_iou_percent(after.sum(0)) - mean_iou_percent(before.sum(0))), float(np.std(second - first))


@dataclasses.dataclass
class PixelAgreement:
    """On how many pixels two masks have the same class, over many pairs of masks."""

    same: int = 0
    pixels: int = 0

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """Both [h, w], of one size."""
        self.same += int((first == second).sum())
        self.pixels += first.size

    @property
    def percent(self) -> float:
        return 100 * self.same / max(1, self.pixels)
