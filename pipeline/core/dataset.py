"""Images with labels, as every loader returns them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from pipeline.core.errors import DataError

IGNORE = 255
"""The label value that counts neither in the loss nor in a score. Loaders map their own ignored values to it."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image and its label, read when they are needed.

    Attributes:
      name: unique in its split.
      image: () → uint8 [h, w, 3] RGB.
      label: () → uint8 [h, w] of train ids, IGNORE where there is none.
      files: what they read: the image and, where there is one, the label; none of a generated sample.
    Both raise DataError.
    """

    name: str
    image: Callable[[], np.ndarray]
    label: Callable[[], np.ndarray]
    files: tuple[Path, ...] = ()


def no_test_split() -> tuple[Sample, ...]:
    raise DataError("this dataset has no test split: score on val.")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset on disk, or a generated one, with its splits 'train' and 'val'.

    The test split is not among ``splits``, so that nothing that trains, calibrates or chooses can meet it.

    Attributes:
      text: what the user wrote, e.g. 'camvid:/data/camvid'.
      classes: names in the order of their train ids.
      colours: RGB of each class, for overlays.
      notes: () → what a user should know about the labels read so far.
      how_split: who decided which images are for validation, in words.
      open_test: () → the test split, for the final score alone; raises DataError where there is none.
      val_is_test: why val stands for the test split; empty where it does not.
      skipped: split → image → why it is left out of ``splits``; empty where all are used.
    """

    text: str
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    splits: dict[str, tuple[Sample, ...]]
    notes: Callable[[], tuple[str, ...]] = tuple
    how_split: str = "as the dataset's folders or lists say"
    open_test: Callable[[], tuple[Sample, ...]] = no_test_split
    val_is_test: str = ""
    skipped: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)

    def counted(self, split: str, used: int) -> str:
        """'98 of 100 (2 skipped)' for 98 used images of a split, of which two are skipped; '100' if all are used."""
        skipped = len(self.skipped.get(split, ()))
        total = len(self.splits[split]) + skipped
        more = f" ({skipped} skipped)" if skipped else ""
        return f"{used} of {total}{more}" if used < total else str(used)


@dataclasses.dataclass(frozen=True)
class TrainingDefaults:
    """How to train on a dataset where the user gives no settings.

    Attributes:
      size: HEIGHTxWIDTH of the network's input; None where the user must give it.
      steps, qat_steps: weight updates of the float training and of quantization-aware training.
      tuning_steps, tuning_learning_rate: of a float training that starts from trained weights.
      evaluations: how often the validation images are scored during the float training.
      weight_decay, hard: of a float training; see pipeline.train.schedule.Schedule.
      scale, colour, exposure, gamma, paste: see pipeline.train.feed.Augmentation.
    """

    size: str | None = None
    steps: int = 4000
    qat_steps: int = 230
    learning_rate: float = 2e-3
    qat_learning_rate: float = 1e-4
    tuning_steps: int = 800
    tuning_learning_rate: float = 1e-3
    evaluations: int = 10
    weight_decay: float = 0.01
    hard: float = 0.0
    scale: tuple[float, float] = (0.6, 1.8)
    colour: float = 0.25
    exposure: float = 0.0
    gamma: float = 0.0
    paste: float = 0.0


@dataclasses.dataclass(frozen=True)
class DatasetSource:
    """A registered kind of dataset.

    Attributes:
      layout: one line that shows the folder it expects; empty for a dataset that needs no folder.
      open: (text after the colon) → Dataset; raises DataError.
    """

    name: str
    title: str
    layout: str
    open: Callable[[str], Dataset]
    training: TrainingDefaults = TrainingDefaults()
