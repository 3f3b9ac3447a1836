"""Keeps decoded images and labels, so that each file is read once."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from pipeline.core.dataset import Sample
from pipeline.core.errors import DataError

CACHE_BYTES = 4 << 30
"""Memory for decoded images and labels; what does not fit is decoded again when needed."""


def same_size(name: str, image: np.ndarray, label: np.ndarray) -> None:
    """Raises DataError for a label that has not its image's size."""
    if image.shape[:2] != label.shape:
        (height, width), (rows, columns) = image.shape[:2], label.shape
        raise DataError(
            f"the label of {name} is {rows}x{columns} but its image is {height}x{width} (HEIGHTxWIDTH):"
            " they must have one size."
        )


class Decoded:
    """The decoded images and labels of samples, kept in memory up to ``cache_bytes``; safe to use from any thread."""

    def __init__(self, samples: Sequence[Sample], cache_bytes: int = CACHE_BYTES) -> None:
        if not samples:
            raise DataError("the split holds no samples: give a dataset with at least one image.")
        self.samples = samples
        self._free_bytes = cache_bytes
        self._full = False
        self._lock = threading.Lock()
        self._cached: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.error: DataError | None = None
        """The error of a read inside tf.data, which would hide it behind an error of its own."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [h, w, 3] and uint8 [h, w]; raises DataError, IndexError."""
        if index in self._cached:
            return self._cached[index]
        sample = self.samples[index]
        pair = sample.image(), sample.label()
        same_size(sample.name, *pair)
        size_bytes = pair[0].nbytes + pair[1].nbytes
        with self._lock:
            if index not in self._cached and size_bytes <= self._free_bytes:
                self._free_bytes -= size_bytes
                self._cached[index] = pair
            elif size_bytes > self._free_bytes:
                self._full = True
        return pair

    def label(self, index: int) -> np.ndarray:
        """uint8 [h, w]; its image is decoded too only while both fit in memory. Raises DataError, IndexError."""
        return self.samples[index].label() if self._full and index not in self._cached else self[index][1]
