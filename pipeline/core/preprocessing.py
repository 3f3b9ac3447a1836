"""From a decoded image to the network's input: one definition for training, calibration, scoring and devices."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from PIL import Image

from pipeline.core.errors import BadSpec

InputType = Literal["uint8", "int8", "float32"]

SCALE = 1 / 255
ZERO_POINTS = {"uint8": 0, "int8": -128}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Plain bilinear resize to height × width, RGB, real = raw / 255.

    The network sees reals in [0, 1], with no mean and deviation. So an integer input is the raw pixel, at scale 1/255
    with zero point 0 (uint8) or −128 (int8), and nothing is computed between the camera and the network.
    """

    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the network's input."""
        return 1, self.height, self.width, 3

    def fit(self, image: np.ndarray) -> np.ndarray:
        """uint8 [h, w, 3] RGB of any size → uint8 [height, width, 3]."""
        if image.shape[:2] == (self.height, self.width):
            return image
        resized = Image.fromarray(image).resize((self.width, self.height), Image.Resampling.BILINEAR)
        return np.asarray(resized)

    def tensor(self, image: np.ndarray, dtype: InputType) -> np.ndarray:
        """uint8 [h, w, 3] → [1, height, width, 3] of ``dtype``, as the network's input takes it."""
        raw = self.fit(image)[None]
        if dtype == "uint8":
            return raw
        if dtype == "int8":
            return (raw.astype(np.int16) + ZERO_POINTS["int8"]).astype(np.int8)
        if dtype == "float32":
            return raw.astype(np.float32) * np.float32(SCALE)
        raise BadSpec(f"input type {dtype!r} is not one of uint8, int8, float32.")

    def to_json(self) -> dict[str, Any]:
        return {
            "height": self.height,
            "width": self.width,
            "channels": "RGB",
            "resize": "bilinear (Pillow)",
            "scale": SCALE,
            "zero_point": ZERO_POINTS,
        }
