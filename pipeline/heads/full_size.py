"""From a network's output to a mask of the image's size."""

from __future__ import annotations

import numpy as np

from pipeline.core.mask import Grid
from pipeline.core.spec import Resize
from pipeline.heads.exact import axis as axis_of
from pipeline.heads.exact import exact_mask, nearest_mask


def mask_of(output: np.ndarray, height: int, width: int, grid: Grid | None = None) -> np.ndarray:
    """A network's output → uint8 mask [height, width].

    An output of another size than ``grid``, the network's own pixels, is first brought to them as the network's last
    resize would: int8 logits or scores [1, h, w, classes] exactly where that is the mask's size too, others in
    floating point; an int32 mask [1, h, w] takes the nearest sample. From there to the mask, or without ``grid`` at
    once, pixels have half-pixel centres, as images have. The argmax takes the lowest index on ties.
    """
    output = output[0]
    pixels = Grid(height, width, "half_pixel")
    grids = [pixels] if grid is None or grid.size == output.shape[:2] else [grid, pixels]
    if output.ndim == 2:
        for each in grids:
            output = nearest_mask(output, each)
        return output.astype(np.uint8)
    if grids[0].size == pixels.size and output.dtype == np.int8 and output.shape[:2] != pixels.size:
        return exact_mask(output, grids[0])
    for each in grids:
        for axis, size in enumerate(each.size):
            output = interpolate(output, axis, size, each.resize)
    return output.argmax(-1).astype(np.uint8)


def interpolate(x: np.ndarray, axis: int, size: int, resize: Resize = "half_pixel") -> np.ndarray:
    if x.shape[axis] == size:
        return x
    place = axis_of(x.shape[axis], size, resize)
    share = (place.share / place.den).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    low, high = (np.take(x, at, axis).astype(np.float32) for at in (place.low, place.high))
    return low * (1 - share) + high * share
