"""Masks as MediaPipe's ImageSegmenter makes them on a CPU, for an app that uses it.

Between the image and the mask it does otherwise than `predict`: it samples the image at the corners of the network's
pixels instead of averaging over them, and it places the logits by their corners instead of by their centres.
Source: google-ai-edge/mediapipe, mediapipe/calculators/tensor/image_to_tensor_converter_opencv.cc and
mediapipe/tasks/cc/vision/image_segmenter/calculators/tensors_to_segmentation_calculator.cc. Its GPU paths interpolate
in hardware, whose rounding is no one's to repeat.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from pipeline.core.graph import Tensor
from pipeline.core.preprocessing import Preprocessing

STEPS = 32
"""OpenCV's warpPerspective knows so many places between two pixels (INTER_BITS is 5) ..."""
WEIGHT_BITS = 10
"""... and weights of so many bits, the product of two of them, for uint8."""
BAND_ROWS = 16
"""Rows of a mask that are made at a time: whole, the interpolated logits would not fit the processor's caches."""


@dataclasses.dataclass(frozen=True)
class MediaPipePreprocessing(Preprocessing):
    """Its image-to-tensor conversion: OpenCV's warpPerspective, bilinear, pixel i of n at i · size / n."""

    def fit(self, image: np.ndarray) -> np.ndarray:
        """uint8 [h, w, 3] RGB of any size → uint8 [height, width, 3]."""
        if image.shape[:2] == (self.height, self.width):
            return image
        top, bottom, below = _places(image.shape[0], self.height)
        left, right, beside = _places(image.shape[1], self.width)
        below, beside = below[:, None, None], beside[None, :, None]
        rows = [image[at].astype(np.int32) for at in (top, bottom)]
        upper, lower = (row[:, left] * (STEPS - beside) + row[:, right] * beside for row in rows)
        half = 1 << (WEIGHT_BITS - 1)
        return ((upper * (STEPS - below) + lower * below + half) >> WEIGHT_BITS).astype(np.uint8)


def _places(pixels: int, samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixel before each sample, the one behind it, and the latter's share in STEPS; the border pixel repeats."""
    place = np.rint(np.arange(samples) * (pixels / samples) * STEPS).astype(np.int64)
    low = place // STEPS
    return np.clip(low, 0, pixels - 1), np.clip(low + 1, 0, pixels - 1), (place % STEPS).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class MediaPipeMask:
    """(output, height, width) → uint8 mask: reals, bilinear from corner to corner in float32, the first of the largest.

    Attributes:
      scale, zero_point: of a quantized output; 1 and 0 of a float one.
    """

    scale: float = 1.0
    zero_point: int = 0

    def __call__(self, output: np.ndarray, height: int, width: int) -> np.ndarray:
        reals = (output[0].astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)
        top, bottom, below = _corners(reals.shape[0], height)
        left, right, beside = _corners(reals.shape[1], width)
        mask = np.empty((height, width), np.uint8)
        for begin in range(0, height, BAND_ROWS):
            band = slice(begin, begin + BAND_ROWS)
            upper, lower = reals[top[band]], reals[bottom[band]]
            rows = upper + (lower - upper) * below[band, None, None]
            first, second = rows[:, left], rows[:, right]
            mask[band] = (first + (second - first) * beside[:, None]).argmax(-1)
        return mask


def _corners(samples: int, pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sample before each pixel, the one behind it, and the latter's share, in float32 as it counts."""
    # It divides by pixels − 1 as it is: of one pixel, all that is defined is the first sample.
    scale = np.float32(samples - 1) / np.float32(max(1, pixels - 1))
    place = np.arange(pixels).astype(np.float32) * scale
    low = np.floor(place).astype(np.int64)
    high = np.minimum(np.ceil(place), samples - 1).astype(np.int64)
    return low, high, np.clip(place - low.astype(np.float32), 0, 1)


def mediapipe_mask(output: Tensor) -> MediaPipeMask:
    """For a file's output tensor [1, h, w, classes]."""
    return MediaPipeMask(output.scale[0], output.zero_point[0]) if output.scale else MediaPipeMask()
