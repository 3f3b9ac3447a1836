"""The full-size mask of a network from its small output, exactly: see ``pipeline/heads/segquant_mask.h``.

The same result as that C file, in NumPy.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from pipeline.core.errors import ArtifactError
from pipeline.core.mask import Grid
from pipeline.core.spec import Resize


@dataclasses.dataclass(frozen=True)
class Axis:
    """Where pixels lie between samples, int64 [pixels] each.

    Attributes:
      low, high: the sample before and the one after each pixel; equal beyond the first and the last sample.
      share: the weight of ``high``, in units of 1 / ``den``.
      samples: how many samples there are.
    """

    low: np.ndarray
    high: np.ndarray
    share: np.ndarray
    den: int
    samples: int

    @property
    def begin(self) -> np.ndarray:
        """For each sample, the first pixel whose ``low`` is that sample or a later one; int64 [samples]."""
        return np.searchsorted(self.low, np.arange(self.samples))

    @property
    def pixels(self) -> np.ndarray:
        """For each sample, how many pixels have it as ``low``; int64 [samples]."""
        return np.bincount(self.low, minlength=self.samples)

    def pixels_of(self, cells: np.ndarray) -> np.ndarray:
        """The pixels behind each of these samples, int64 [cells, most]; shorter rows repeat their last one."""
        count = self.pixels[cells, None]
        return self.begin[cells, None] + np.minimum(np.arange(count.max()), count - 1)


def axis(samples: int, pixels: int, resize: Resize) -> Axis:
    """Where ``pixels`` lie between ``samples``, in integers, by TensorFlow's conventions.

    Source: tensorflow/core/util/image_resizer_state.h.
    """
    pixel = np.arange(pixels)
    if resize == "half_pixel":
        place, den = (2 * pixel + 1) * samples - pixels, 2 * pixels
        place = np.clip(place, 0, (samples - 1) * den)
    else:
        place, den = pixel * (samples - 1 if pixels > 1 else 0), max(1, pixels - 1)
    divisor = math.gcd(den, *place.tolist())
    place, den = place // divisor, den // divisor
    low = place // den
    return Axis(low, np.minimum(low + 1, samples - 1), place - low * den, den, samples)


def exact_mask(logits: np.ndarray, grid: Grid) -> np.ndarray:
    """int8 [h, w, classes] → uint8 [height, width]: argmax, lowest on ties, of the bilinear interpolation in integers.

    Interpolates only where the four samples around a pixel have different winners: elsewhere a convex combination has
    the same winner. Raises ArtifactError for more than 256 classes or another type.
    """
    if logits.ndim != 3 or logits.dtype != np.int8 or not 1 <= logits.shape[2] <= 256:
        raise ArtifactError(
            f"an exact mask needs int8 logits [h, w, 1 to 256 classes], not {logits.dtype} {logits.shape}: convert"
            " with an integer --io."
        )
    height, width = logits.shape[:2]
    down, across = axis(height, grid.height, grid.resize), axis(width, grid.width, grid.resize)
    winners = logits.argmax(-1).astype(np.uint8)
    mask = winners[down.low][:, across.low]

    # A cell lies between its sample (y, x) and the next ones.
    next_y, next_x = np.minimum(np.arange(height) + 1, height - 1), np.minimum(np.arange(width) + 1, width - 1)
    below = winners[next_y]
    differ = (winners != winners[:, next_x]) | (winners != below) | (winners != below[:, next_x])
    y, x = np.nonzero(differ & (down.pixels > 0)[:, None] & (across.pixels > 0))
    if not y.size:
        return mask
    corners = [logits[j, i].astype(np.int64) for j in (y, next_y[y]) for i in (x, next_x[x])]
    # A class cannot win if its highest corner is below the lowest corner of another class.
    floor = np.minimum.reduce(corners).max(1, keepdims=True)
    possible = np.maximum.reduce(corners) >= floor
    # Cells with many candidates come first, so that those with an r-th candidate are a prefix.
    order = np.argsort(-possible.sum(1), kind="stable")
    y, x, possible, corners = y[order], x[order], possible[order], [corner[order] for corner in corners]
    candidates, counts = np.argsort(~possible, 1, kind="stable"), possible.sum(1)

    dtype = np.int32 if 128 * down.den * across.den < 1 << 31 else np.int64
    rows, columns = down.pixels_of(y), across.pixels_of(x)
    (up, low), (left, right) = (
        ((a.den - a.share[at]).astype(dtype), a.share[at].astype(dtype)) for a, at in ((down, rows), (across, columns))
    )
    best = np.full((len(y), rows.shape[1], columns.shape[1]), np.iinfo(dtype).min, dtype)
    winning = np.zeros(best.shape, np.uint8)
    for r in range(counts[0]):
        n = int((counts > r).sum())
        k = candidates[:n, r]
        tl, tr, bl, br = (corner[np.arange(n), k].astype(dtype)[:, None] for corner in corners)
        value = (tl * up[:n] + bl * low[:n])[:, :, None] * left[:n, None]
        value += (tr * up[:n] + br * low[:n])[:, :, None] * right[:n, None]
        higher = value > best[:n]
        np.copyto(best[:n], value, where=higher)
        np.copyto(winning[:n], k.astype(np.uint8)[:, None, None], where=higher)
    mask[rows[:, :, None], columns[:, None]] = winning
    return mask


def nearest_mask(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """int32 [h, w] → uint8 [height, width]: each pixel takes its nearest sample, of two equally near ones the later."""
    rows, columns = (
        np.where(2 * a.share >= a.den, a.high, a.low)
        for a in (axis(mask.shape[0], grid.height, grid.resize), axis(mask.shape[1], grid.width, grid.resize))
    )
    return mask[rows][:, columns].astype(np.uint8)
