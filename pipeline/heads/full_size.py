"""From a network's output to a mask of the image's size."""

from __future__ import annotations

import numpy as np

from pipeline.core.errors import ArtifactError
from pipeline.core.mask import Grid
from pipeline.core.spec import Resize
from pipeline.heads.exact import axis as axis_of
from pipeline.heads.exact import exact_mask, nearest_mask

MOST_CLASSES = 256
"""Of a mask, which is uint8."""
BAND_ROWS = 16
"""Rows of a mask that are made at a time."""


def mask_of(output: np.ndarray, height: int, width: int, grid: Grid | None = None) -> np.ndarray:
    """A network's output → uint8 mask [height, width].

    An output of another size than ``grid``, the network's own pixels, is first resized to them as the network's last
    resize would do it: int8 logits or scores [1, h, w, classes] exactly where the mask has that size as well, others in
    floating point; an int32 mask [1, h, w] takes the nearest sample. From there to the mask's size, and without
    ``grid`` directly, pixels have half-pixel centres, as in images. The argmax takes the lowest index on ties.
    Raises ArtifactError for an output of another form.
    """
    if output.ndim not in (3, 4) or not output.size or output.shape[3:] > (MOST_CLASSES,):
        raise ArtifactError(
            f"the output has shape {output.shape}: expected [1, h, w], or [1, h, w, classes] with {MOST_CLASSES} at"
            " most."
        )
    output = output[0]
    pixels = Grid(height, width, "half_pixel")
    grids = [pixels] if grid is None or grid.size == output.shape[:2] else [grid, pixels]
    if output.ndim == 2:
        if output.dtype.kind not in "iu" or not 0 <= output.min() <= output.max() < MOST_CLASSES:
            raise ArtifactError(
                f"the output is a mask of {output.dtype} from {output.min()} to {output.max()}: expected whole numbers"
                f" from 0 to {MOST_CLASSES - 1}."
            )
        for each in grids:
            output = nearest_mask(output, each)
        return output.astype(np.uint8)
    if grids[0].size == pixels.size and output.dtype == np.int8 and output.shape[:2] != pixels.size:
        return exact_mask(output, grids[0])
    for each in grids[:-1]:
        for axis, size in enumerate(each.size):
            output = interpolate(output, axis, size, each.resize)
    mask = np.empty((height, width), np.uint8)
    for top in range(0, height, BAND_ROWS):  # all interpolated logits at once would not fit the processor's caches
        rows = slice(top, min(top + BAND_ROWS, height))
        band = interpolate(output, 0, grids[-1].height, grids[-1].resize, rows)
        mask[rows] = interpolate(band, 1, grids[-1].width, grids[-1].resize).argmax(-1)
    return mask


def interpolate(
    x: np.ndarray, axis: int, size: int, resize: Resize = "half_pixel", part: slice = slice(None)
) -> np.ndarray:
    """``x`` resized bilinearly to ``size`` along ``axis``, float32; unchanged at that size. ``part``: only these."""
    if x.shape[axis] == size:
        return x[(slice(None),) * axis + (part,)]
    place = axis_of(x.shape[axis], size, resize)
    share = (place.share[part] / place.den).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    low, high = (np.take(x, at[part], axis).astype(np.float32) for at in (place.low, place.high))
    return low * (1 - share) + high * share
