"""Estimates an activation's range from what it gave over many images: five ways, each in bounded memory.

Two see only the extremes of each image; three see a histogram over the extremes of all images, which takes a second
pass. Every range is widened to hold 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from pipeline.core.registry import pick

BINS = 2048
"""TensorRT's number of histogram bins (Migacz: 8-bit Inference with TensorRT, GTC 2017)."""
LEVELS = 256
MOMENTUM = 0.9
PERCENTILE = 99.99
"""Between the 99.9 and 99.99 of Wu et al., arXiv 2004.09602, table 5: the least clipping of those that they compare."""
SHRINKS = np.geomspace(1.0, 0.05, 61)
"""What mean squared error tries: an end of the range, times 1 down to 1/20 in steps of 5 %."""
EPSILON = 1e-9
"""Stands for an empty bin of the quantized distribution, whose divergence would be infinite."""

Extremes = tuple[np.ndarray, np.ndarray]
"""Lowest and highest value of each activation, float64 [points]; low ≤ 0 ≤ high."""


@dataclasses.dataclass(frozen=True)
class Histogram:
    """How often an activation's values fell into equal bins.

    Attributes:
      counts: float64 [BINS].
      low, high: the outer edges of the first and the last bin; low ≤ 0 ≤ high.
    """

    counts: np.ndarray
    low: float
    high: float

    @property
    def edges(self) -> np.ndarray:
        return np.linspace(self.low, self.high, len(self.counts) + 1)

    @property
    def centres(self) -> np.ndarray:
        edges = self.edges
        return (edges[1:] + edges[:-1]) / 2


@dataclasses.dataclass(frozen=True)
class Estimator:
    """One way to choose a range.

    Attributes:
      follow: (extremes so far, extremes of the next image) → extremes so far; what the first pass keeps.
      narrow: histogram → (low, high); None where the extremes are the range and no second pass is needed.
    """

    name: str
    title: str
    follow: Callable[[Extremes, Extremes], Extremes]
    narrow: Callable[[Histogram], tuple[float, float]] | None = None


def widest(so_far: Extremes, image: Extremes) -> Extremes:
    return np.minimum(so_far[0], image[0]), np.maximum(so_far[1], image[1])


def smoothed(so_far: Extremes, image: Extremes) -> Extremes:
    """m ← 0.9 m + 0.1 x, from the first image's extremes on; it depends on the order of the images."""
    return tuple(MOMENTUM * m + (1 - MOMENTUM) * x for m, x in zip(so_far, image, strict=True))  # type: ignore[return-value]


def percentile(histogram: Histogram) -> tuple[float, float]:
    """The values that all but 0.01 % lie below, and all but 0.01 % above; within a bin, values count as uniform."""
    reached = np.concatenate([[0.0], np.cumsum(histogram.counts)]) / histogram.counts.sum()
    low, high = np.interp([1 - PERCENTILE / 100, PERCENTILE / 100], reached, histogram.edges)
    return min(0.0, float(low)), max(0.0, float(high))


def quantization_errors(values: np.ndarray, counts: np.ndarray, low: float, highs: np.ndarray) -> np.ndarray:
    """Of each range [low, high]: sum of counts · (value − its 8-bit form)², rounding inside and clipping outside."""
    steps = (highs[:, None] - low) / (LEVELS - 1)
    codes = np.clip(np.rint((values - low) / steps), 0, LEVELS - 1)
    return np.asarray(np.square(values - (low + codes * steps)) @ counts)


def mean_squared_error(histogram: Histogram) -> tuple[float, float]:
    """The range with the least quantization error among all pairs of shrunken ends."""
    values, counts = histogram.centres, histogram.counts
    used = counts > 0
    values, counts = values[used], counts[used]
    lows = histogram.low * SHRINKS if histogram.low < 0 else np.zeros(1)
    highs = histogram.high * SHRINKS if histogram.high > 0 else np.zeros(1)
    errors = np.stack([quantization_errors(values, counts, low, highs) for low in lows])
    i, j = np.unravel_index(errors.argmin(), errors.shape)
    return float(lows[i]), float(highs[j])


def divergence(counts: np.ndarray, first: int, last: int) -> float:
    """KL divergence of the bins [first, last) with all outliers moved into the end bins, from their 256-level form.

    The quantized form spreads what falls into a level evenly over that level's non-empty bins; it has not seen the
    outliers (Migacz 2017, slides 38 to 40).
    """
    inside = counts[first:last]
    reference = inside.copy()
    reference[0] += counts[:first].sum()
    reference[-1] += counts[last:].sum()
    level = np.arange(len(inside)) * LEVELS // len(inside)
    filled = reference > 0
    mass = np.bincount(level, inside, LEVELS)
    bins = np.bincount(level, filled, LEVELS)
    quantized = np.where(filled, (mass / np.maximum(bins, 1))[level], 0.0)
    if not quantized.any():
        return float("inf")
    p = reference[filled] / reference.sum()
    q = np.maximum(quantized[filled] / quantized.sum(), EPSILON)
    return float(p @ np.log(p / q))


def entropy(histogram: Histogram) -> tuple[float, float]:
    """The range with the least KL divergence among those whose ends shrink towards 0 in one proportion.

    The bin of 0, which a ReLU fills with most of the values, counts as much as its fuller neighbour: 0 is exact in
    every range and says nothing of it.
    """
    counts, size = histogram.counts.copy(), len(histogram.counts)
    zero = min(size - 1, int(-histogram.low / (histogram.high - histogram.low) * size))
    beside = [counts[i] for i in (zero - 1, zero + 1) if 0 <= i < size]
    counts[zero] = min(counts[zero], max(beside))
    edges = histogram.edges
    best, chosen = float("inf"), (histogram.low, histogram.high)
    for width in range(size, LEVELS - 1, -8):
        first = round(zero * (1 - width / size))
        found = divergence(counts, first, first + width)
        if found < best:
            best, chosen = found, (min(0.0, float(edges[first])), max(0.0, float(edges[first + width])))
    return chosen


ESTIMATORS = {
    e.name: e
    for e in (
        Estimator("min-max", "the extremes over all images", widest),
        Estimator("moving-average", "extremes of each image, averaged with momentum 0.9", smoothed),
        Estimator("percentile", f"leaves out {100 - PERCENTILE:.2g} % of the values at each end", widest, percentile),
        Estimator("mse", "least squared rounding and clipping error", widest, mean_squared_error),
        Estimator("entropy", "least Kullback-Leibler divergence, as TensorRT does", widest, entropy),
    )
}


def estimator(name: str) -> Estimator:
    """Raises UnknownName."""
    return pick(ESTIMATORS, "calibration", name)
