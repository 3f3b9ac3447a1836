"""A file that is open on a device, and its numbers so far."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.core.device import Runner
from pipeline.core.errors import DeviceError
from pipeline.core.measurement import FileMeasurement, Latency
from pipeline.core.score import Score
from pipeline.measure.confusion import confusion
from pipeline.measure.evaluation import Labelled, Prediction


@dataclasses.dataclass
class Loaded:
    """A file that is open on a device, and its numbers so far.

    Attributes:
      name: what the measurement calls it.
      files: the file and its companions; its size is theirs together.
      total: the confusion over all images so far, int64 [classes, classes]; None for a file that is only timed.
    """

    path: Path
    name: str
    sha256: str
    runner: Runner
    threads: int
    files: tuple[Path, ...]
    total: np.ndarray | None = None
    latency: Latency | None = None

    def count(self, samples: Sequence[Labelled], predictions: Sequence[Prediction], classes: int) -> list[np.ndarray]:
        """Adds the predictions of these samples to the confusion; returns that of each sample."""
        if self.total is None:
            self.total = np.zeros((classes, classes), np.int64)
        each = [
            confusion(label, prediction.mask, classes)
            for (_, label), prediction in zip(samples, predictions, strict=True)
        ]
        self.total += sum(each)
        return each

    def measured(self, classes: tuple[str, ...], images: int) -> FileMeasurement:
        """``images``: how many were scored."""
        memory = None
        with contextlib.suppress(DeviceError):
            memory = self.runner.peak_memory_bytes()
        score = counts = None
        if self.total is not None:
            score = Score.from_confusion(self.total, classes, images)
            counts = tuple(map(tuple, self.total.tolist()))
        size_bytes = sum(file.stat().st_size for file in self.files if file.is_file())
        return FileMeasurement(
            self.name, self.sha256, size_bytes, self.runner.facts.runs_on, score, self.latency, memory, counts
        )
