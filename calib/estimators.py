"""Estimates an activation's range from its values over many images: five estimators, each in bounded memory.

Two use only the extremes of each image. Three use a histogram between the extremes of all images, which takes a second
pass. Every range contains 0.
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
"""The percentile that clips least of those in Wu et al., arXiv 2004.09602, table 5."""
SHRINKS = np.geomspace(1.0, 0.05, 61)
"""Factors that the mean squared error tries on each end of the range: 1 down to 1/20 in steps of 5 %."""
EPSILON = 1e-9
"""Takes the place of an empty bin of the quantized distribution, whose divergence would be infinite."""

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
      accumulate: (extremes so far, extremes of the next image) → extremes so far; the first pass.
      narrow: histogram → (low, high); None if the extremes are the range and no second pass is needed.
    """

    name: str
    title: str
    accumulate: Callable[[Extremes, Extremes], Extremes]
    narrow: Callable[[Histogram], tuple[float, float]] | None = None


def widest(so_far: Extremes, image: Extremes) -> Extremes:
    return np.minimum(so_far[0], image[0]), np.maximum(so_far[1], image[1])


def smoothed(so_far: Extremes, image: Extremes) -> Extremes:
    """m ← 0.9 m + 0.1 x, starting with the first image's extremes; depends on the order of the images."""
    return tuple(MOMENTUM * m + (1 - MOMENTUM) * x for m, x in zip(so_far, image, strict=True))  # type: ignore[return-value]


def percentile(histogram: Histogram) -> tuple[float, float]:
    """The values that cut off 0.01 % at each end; within a bin, values are assumed to be uniform."""
    reached = np.concatenate([[0.0], np.cumsum(histogram.counts)]) / histogram.counts.sum()
    low, high = np.interp([1 - PERCENTILE / 100, PERCENTILE / 100], reached, histogram.edges)
    return min(0.0, float(low)), max(0.0, float(high))


def quantization_errors(values: np.ndarray, counts: np.ndarray, low: float, highs: np.ndarray) -> np.ndarray:
    """For each range [low, high]: sum of counts · (value − its 8-bit value)², by rounding inside, clipping outside."""
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
    """KL divergence of the bins [first, last), with all outliers moved into the end bins, from their 256-level form.

    The quantized form spreads the count of a level evenly over that level's non-empty bins; it leaves the outliers out
    (Migacz 2017, slides 38 to 40).
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
    """The range with the least KL divergence among those whose ends shrink towards 0 in the same proportion.

    The bin of 0, which a ReLU fills with most of the values, is limited to the count of its fuller neighbour: 0 is
    exact in every range, so these values do not distinguish them.
    """
    counts, size = histogram.counts.copy(), len(histogram.counts)
    zero = min(size - 1, int(-histogram.low / (histogram.high - histogram.low) * size))
    neighbours = [counts[i] for i in (zero - 1, zero + 1) if 0 <= i < size]
    counts[zero] = min(counts[zero], max(neighbours))
    edges = histogram.edges
    least, ends = float("inf"), (histogram.low, histogram.high)
    for width in range(size, LEVELS - 1, -8):
        first = round(zero * (1 - width / size))
        distance = divergence(counts, first, first + width)
        if distance < least:
            least, ends = distance, (min(0.0, float(edges[first])), max(0.0, float(edges[first + width])))
    return ends


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
