"""Decoded images and labels, each file read once."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from pipeline.core.dataset import Sample
from pipeline.core.errors import DataError

CACHE_BYTES = 4 << 30
"""Decoded images and labels kept in memory, per process. What does not fit is decoded again when needed."""


def same_size(name: str, image: np.ndarray, label: np.ndarray) -> None:
    """Raises DataError for a label that has not its image's size."""
    if image.shape[:2] != label.shape:
        (height, width), (rows, columns) = image.shape[:2], label.shape
        raise DataError(
            f"the label of {name} is {rows}x{columns} but its image is {height}x{width} (HEIGHTxWIDTH):"
            " they must have one size."
        )


class Decoded:
    """The decoded images and labels of some samples, kept in memory up to ``cache_bytes``; any thread may ask."""

    def __init__(self, samples: Sequence[Sample], cache_bytes: int = CACHE_BYTES) -> None:
        if not samples:
            raise DataError("the split holds no samples: give a dataset with at least one image.")
        self.samples = samples
        self._free_bytes = cache_bytes
        self._full = False
        self._keeping = threading.Lock()
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.error: DataError | None = None
        """The error that ended a read inside tf.data, which would report it as its own."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [h, w, 3] and uint8 [h, w]; raises DataError, IndexError."""
        if index in self._kept:
            return self._kept[index]
        sample = self.samples[index]
        pair = sample.image(), sample.label()
        same_size(sample.name, *pair)
        size_bytes = pair[0].nbytes + pair[1].nbytes
        with self._keeping:
            if index not in self._kept and size_bytes <= self._free_bytes:
                self._free_bytes -= size_bytes
                self._kept[index] = pair
            elif size_bytes > self._free_bytes:
                self._full = True
        return pair

    def label(self, index: int) -> np.ndarray:
        """uint8 [h, w]; its image is decoded as well only while both can be kept. Raises DataError, IndexError."""
        return self.samples[index].label() if self._full and index not in self._kept else self[index][1]
