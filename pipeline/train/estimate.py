"""Estimates how long a float training would take, from a few real steps and a few scored images."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tf_keras

import models
from pipeline.core.dataset import Dataset, TrainingDefaults
from pipeline.core.say import Say
from pipeline.core.spec import ModelSpec
from pipeline.data.decoded import Decoded
from pipeline.train.balance import class_weights, frequencies_of
from pipeline.train.feed import Augmentation
from pipeline.train.fit import prepare
from pipeline.train.schedule import Schedule
from pipeline.train.train import keras_infer
from pipeline.train.update import Lesson

SKIPPED_STEPS, TIMED_STEPS, TIMED_IMAGES = 2, 5, 3
"""The first steps build the graph, and have batches waiting."""


@dataclasses.dataclass(frozen=True)
class TrainingTime:
    """An estimate for this machine.

    Attributes:
      step_seconds, image_seconds: measured: median of a few steps, waiting for their images included, and of scoring an
        image.
      first_step_seconds: measured: building the graph and the first step.
      seconds: estimated for ``steps`` steps and ``evaluations`` scorings of ``val_images`` images.
      tuning_seconds: the same for ``tuning_steps`` steps, from trained weights.
    """

    network: str
    size: str
    batch: int
    steps: int
    evaluations: int
    val_images: int
    first_step_seconds: float
    step_seconds: float
    image_seconds: float
    seconds: float
    tuning_steps: int
    tuning_seconds: float

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def estimate(
    spec: ModelSpec, dataset: Dataset, pixels: np.ndarray, defaults: TrainingDefaults, batch: int, say: Say
) -> TrainingTime:
    """Takes real steps with fresh weights on the dataset's images; writes nothing. Raises DataError and BadSpec.

    ``pixels``: int64 [classes], labelled training pixels: a training may paste the rare classes, which takes time.
    """
    models.check_size(spec)
    steps = SKIPPED_STEPS + TIMED_STEPS
    say(f"timing {steps} training steps of {spec.network} at {spec.size}: the first builds the graph")
    model, family = models.build(spec), models.network(spec.network)
    decoded = Decoded(dataset.splits["train"])
    lesson = Lesson(
        decoded,
        class_weights(frequencies_of(pixels[None])),
        Augmentation.of(defaults),
        0,
        spec.resize,
        family.auxiliary,
    )
    schedule = Schedule(steps, batch, defaults.learning_rate * family.learning_rate_factor, evaluations=1)
    with tempfile.TemporaryDirectory(prefix="segquant-") as folder:
        laps = _time_steps(model, lesson, schedule, Path(folder))
    step, image_seconds = median(laps[SKIPPED_STEPS:]), _time_scoring(model, dataset)
    val_images = len(dataset.splits["val"])

    def scorings(steps: int) -> int:
        return max(1, min(defaults.evaluations, steps // 100))

    def seconds(steps: int) -> float:
        return laps[0] + steps * step + scorings(steps) * val_images * image_seconds

    return TrainingTime(
        spec.network,
        spec.size,
        batch,
        defaults.steps,
        scorings(defaults.steps),
        val_images,
        laps[0],
        step,
        image_seconds,
        seconds(defaults.steps),
        defaults.tuning_steps,
        seconds(defaults.tuning_steps),
    )


def _time_steps(model: tf_keras.Model, lesson: Lesson, schedule: Schedule, folder: Path) -> list[float]:
    update, _, feed = prepare(model, lesson, schedule, folder)
    laps, lap = [], time.monotonic()
    for images, labels in feed.batches(0, schedule.steps):
        update(images, labels, True)
        now = time.monotonic()
        laps.append(now - lap)
        lap = now
    return laps


def _time_scoring(model: tf_keras.Model, dataset: Dataset) -> float:
    """Seconds an image; the first one builds the graph."""
    infer, seconds = keras_infer(model), []
    for sample in dataset.splits["val"][: TIMED_IMAGES + 1]:
        image = sample.image()
        began = time.monotonic()
        infer(image)
        seconds.append(time.monotonic() - began)
    return median(seconds[1:] or seconds)
