"""Keeps decoded images and labels, so that each file is read once."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence

import numpy as np

from pipeline.core.dataset import Sample
from pipeline.core.errors import DataError
from pipeline.core.memory import free_bytes

CACHE_BYTES = 4 << 30
"""Memory for the decoded images and labels of all splits together; what does not fit is decoded again when needed."""
FREE_SHARE = 0.5
"""They take at most this share of the memory that is free without them: training and the system need the rest."""
LOOK_BYTES = 64 << 20
"""The free memory is looked up again each time so much more was taken."""


class Allowance:
    """The memory that holders of decoded images share: ``most_bytes``, and a share of what is ``free``.

    What a holder took returns when the holder is deleted. Safe to use from any thread.
    """

    def __init__(self, most_bytes: int, free: Callable[[], int | None] = free_bytes) -> None:
        self._most, self._free = most_bytes, free
        self._taken: weakref.WeakKeyDictionary[object, int] = weakref.WeakKeyDictionary()
        self._looked_at: int | None = None
        self._least = most_bytes
        self._lock = threading.Lock()

    def take(self, holder: object, size_bytes: int) -> bool:
        """Whether the holder may keep so much more; it is then counted."""
        with self._lock:
            before = sum(self._taken.values())
            if self._looked_at is None or abs(before - self._looked_at) >= LOOK_BYTES:
                free, self._looked_at = self._free(), before
                self._least = self._most if free is None else min(self._most, int(FREE_SHARE * (free + before)))
            if before + size_bytes > self._least:
                return False
            self._taken[holder] = self._taken.get(holder, 0) + size_bytes
            return True

    def taken(self, holder: object) -> int:
        return self._taken.get(holder, 0)


SHARED = Allowance(CACHE_BYTES)


def same_size(name: str, image: np.ndarray, label: np.ndarray) -> None:
    """Raises DataError for a label that has not its image's size."""
    if image.shape[:2] != label.shape:
        (height, width), (rows, columns) = image.shape[:2], label.shape
        raise DataError(
            f"the label of {name} is {rows}x{columns} but its image is {height}x{width} (HEIGHTxWIDTH):"
            " they must have one size."
        )


class Decoded:
    """The decoded images and labels of samples, kept in memory as far as it reaches; safe to use from any thread.

    ``cache_bytes``: keeps at most so much of its own, instead of what all others leave of CACHE_BYTES.
    """

    def __init__(self, samples: Sequence[Sample], cache_bytes: int | None = None) -> None:
        if not samples:
            raise DataError("the split holds no samples: give a dataset with at least one image.")
        self.samples = samples
        self._allowance = SHARED if cache_bytes is None else Allowance(cache_bytes)
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
            if index not in self._cached:
                if self._allowance.take(self, size_bytes):
                    self._cached[index] = pair
                else:
                    self._full = True
        return pair

    def label(self, index: int) -> np.ndarray:
        """uint8 [h, w]; its image is decoded too only while both fit in memory. Raises DataError, IndexError."""
        return self.samples[index].label() if self._full and index not in self._cached else self[index][1]

    @property
    def is_full(self) -> bool:
        """Whether an image was not kept for lack of memory."""
        return self._full

    @property
    def kept_images(self) -> int:
        return len(self._cached)

    @property
    def kept_bytes(self) -> int:
        return self._allowance.taken(self)


def kept_note(*splits: Decoded) -> str | None:
    """What of the splits that were read once is not in memory; None where all of it is."""
    images, kept = sum(map(len, splits)), sum(split.kept_images for split in splits)
    if kept == images or not any(split.is_full for split in splits):
        return None
    gibibytes = sum(split.kept_bytes for split in splits) / (1 << 30)
    return (
        f"note: {kept} of {images} decoded images are kept in memory, {gibibytes:.1f} GiB; the others are decoded again"
        " each time they are used"
    )
