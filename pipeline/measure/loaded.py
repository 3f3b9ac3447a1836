"""A file on a device, and what is known of it so far."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.core.device import Runner
from pipeline.core.errors import DeviceError
from pipeline.core.measurement import Latency, Measured
from pipeline.core.score import Score
from pipeline.measure.confusion import confusion

Labelled = tuple[np.ndarray, np.ndarray]
"""An image uint8 [h, w, 3] and its label uint8 [h, w]."""


@dataclasses.dataclass
class Loaded:
    """A file on the device, and what is known of it so far.

    Attributes:
      files: it and what belongs to it: its size is theirs together.
    """

    path: Path
    name: str
    sha256: str
    runner: Runner
    threads: int
    files: tuple[Path, ...]
    total: np.ndarray | None = None
    latency: Latency | None = None

    def count(self, samples: Sequence[Labelled], masks: Sequence[tuple[np.ndarray, str]], classes: int) -> None:
        """Adds what ``masks_on`` gave for these samples to the confusions."""
        if self.total is None:
            self.total = np.zeros((classes, classes), np.int64)
        for (_, label), (mask, _) in zip(samples, masks, strict=True):
            self.total += confusion(label, mask, classes)

    def measured(self, classes: tuple[str, ...], images: int) -> Measured:
        memory = None
        with contextlib.suppress(DeviceError):
            memory = self.runner.peak_memory_bytes()
        score = None if self.total is None else Score.from_confusion(self.total, classes, images)
        size_bytes = sum(file.stat().st_size for file in self.files if file.is_file())
        return Measured(self.name, self.sha256, size_bytes, self.runner.facts.runs_on, score, self.latency, memory)
