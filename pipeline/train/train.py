"""Trains the float parent."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

import models
from pipeline.core.dataset import Dataset, TrainingDefaults
from pipeline.core.errors import BadSpec, RunError
from pipeline.core.files import write_atomically
from pipeline.core.preprocessing import Preprocessing
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.data import dataset_of, source_of
from pipeline.data.census import check_labels, count_pixels
from pipeline.data.decoded import Decoded
from pipeline.measure.score import Infer, mask_of, score_masks
from pipeline.train.feed import Augmentation, class_weights, frequencies_of
from pipeline.train.fit import Judge, Lesson, Schedule, fit
from pipeline.weights import checkpoint

BEST = "best.weights.h5"


def keras_logits(model: tf_keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """uint8 [h, w, 3] → float32 [1, height, width, classes] of a Keras network, through the one preprocessing."""
    preprocessing = Preprocessing(*model.input_shape[1:3])
    call = tf.function(lambda image: model(image, training=False))
    return lambda image: call(tf.constant(preprocessing.tensor(image, "float32"))).numpy()


def keras_infer(model: tf_keras.Model) -> Infer:
    """Masks of a Keras network, which has all cores for one image at a time."""
    logits, using = keras_logits(model), threading.Lock()

    def infer(image: np.ndarray) -> np.ndarray:
        with using:
            output = logits(image)
        return mask_of(output, *image.shape[:2])

    return infer


def defaults_of(run: Run) -> TrainingDefaults:
    """How to train this run when the user does not say: as its dataset suggests, at rates that suit its network."""
    of_data = source_of(run.config.data).training
    factor = models.network(run.config.model.network).learning_rate_factor
    return dataclasses.replace(
        of_data,
        learning_rate=of_data.learning_rate * factor,
        qat_learning_rate=of_data.qat_learning_rate * factor,
    )


def float_schedule(run: Run, steps: int | None, batch: int, learning_rate: float | None) -> Schedule:
    """What was asked for, and for the rest the dataset's suggestion."""
    defaults = defaults_of(run)
    steps = steps or defaults.steps
    return Schedule(
        steps, batch, learning_rate or defaults.learning_rate,
        evaluations=max(1, min(defaults.evaluations, steps // 100)),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class FloatTraining:
    """A float training that is still to be done, or to be gone on with."""

    schedule: Schedule
    encoder_weights: str | None


def float_training(run: Run, steps: int | None, batch: int, encoder_weights: str | None) -> FloatTraining | None:
    """What must be trained before the run has a float parent; None where it has one.

    One that was begun goes on as it was begun, unless ``steps`` says otherwise. Raises RunError where the parent that
    is there had another number of steps than ``steps``.
    """
    file = run.float_dir / "settings.json"
    before = read_json(file) if file.is_file() else {}
    schedule = before.get("schedule")
    if (run.float_dir / "result.json").is_file():
        had = schedule["steps"] if isinstance(schedule, dict) and "steps" in schedule else None
        if steps is not None and steps != had:
            what = "was given with --parent" if had is None else f"was trained for {had} steps"
            raise RunError(
                f"--float-steps {steps}: the float parent of {run.path} {what}. Leave --float-steps out, or name a new"
                " --run."
            )
        return None
    if steps is None and isinstance(schedule, dict):
        with contextlib.suppress(TypeError):  # of another version: settle says so
            return FloatTraining(Schedule(**schedule), before.get("encoder_weights"))
    return FloatTraining(float_schedule(run, steps, batch, None), encoder_weights)


def plain(noun: Any) -> dict[str, Any]:
    """A dataclass as JSON gives it back, so that settings can be compared with those on disk."""
    return dict(json.loads(json.dumps(dataclasses.asdict(noun))))


def read_json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{file} is broken ({error}): restore it, or pass --force to train again.") from None


def settle(folder: Path, settings: dict[str, Any], force: bool) -> dict[str, Any] | None:
    """Writes what a training is to be; returns its result when that very training is finished.

    Raises RunError when another one was begun there; ``force`` sets that one aside under another name.
    """
    result = finished(folder, settings, force)
    if result is None:
        begin(folder, settings, force)
    return result


def finished(folder: Path, settings: dict[str, Any], force: bool) -> dict[str, Any] | None:
    """The result of that very training where it is finished; raises RunError when another one was begun there."""
    file = folder / "settings.json"
    if force or not file.is_file():
        return None
    if changed := changes(read_json(file), settings):
        raise RunError(
            f"{folder} was trained with other settings, listed below: pass --force to train again (the old training is"
            " set aside), or --run with a new directory.", changed,
        )  # fmt: skip
    return read_json(folder / "result.json") if (folder / "result.json").is_file() else None


def begin(folder: Path, settings: dict[str, Any], force: bool) -> None:
    """Writes what a training is to be; ``force`` sets another one aside."""
    file = folder / "settings.json"
    if file.is_file() and not force:
        return
    if folder.is_dir():
        retired = folder.with_name(f"{folder.name}.replaced-{time.strftime('%Y%m%d-%H%M%S')}")
        folder.rename(retired)
    write_json(file, settings)


def changes(before: dict[str, Any], now: dict[str, Any], above: str = "") -> list[str]:
    """'schedule.steps: 4000, now 100' for each setting of ``now`` that is another one than before."""
    found = []
    for key, value in now.items():
        was = before.get(key)
        if isinstance(was, dict) and isinstance(value, dict):
            found += changes(was, value, f"{above}{key}.")
        elif was != value:
            found.append(f"{above}{key}: {was}, now {value}")
    return found


def write_json(file: Path, data: dict[str, Any]) -> None:
    write_atomically(file, (json.dumps(data, indent=2) + "\n").encode())


def pixels_to_learn(dataset: Dataset, training: Decoded, validation: Decoded, say: Say) -> np.ndarray:
    """int64 [training images, classes], labelled pixels; opens every label, so that none is found bad later.

    Says what the labels do not show; raises DataError for a label that cannot be used, and where nothing can be learnt
    or scored.
    """
    count = len(dataset.classes)
    learnt = count_pixels(training, count, "training", say)
    judged = count_pixels(validation, count, "val", say)
    notes = check_labels(learnt, judged, dataset.classes, dataset.text)
    for note in (*dataset.notes(), *notes):
        say(f"note: {note}")
    return learnt


def train(
    run: Run, schedule: Schedule, augmentation: Augmentation, say: Say, *, encoder_weights: str | None = None,
    force: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Trains the run's float network, or reuses or resumes the training that is there; returns its result."""
    folder = run.float_dir
    settings = {
        "schedule": plain(schedule), "augmentation": plain(augmentation),
        "encoder_weights": encoder_weights,
    }  # fmt: skip
    result = finished(folder, settings, force)
    if result is not None:
        say(f"float network: trained already, val mIoU {result['best_val_miou_percent']:.2f} % ({folder}): reused")
        return result
    dataset = dataset_of(run)
    training, validation = Decoded(dataset.splits["train"]), Decoded(dataset.splits["val"])
    spec = run.config.model
    pixels = pixels_to_learn(dataset, training, validation, say)
    begin(folder, settings, force)
    family = models.network(spec.network)
    tf_keras.utils.set_random_seed(run.config.seed)
    model = models.build(spec)
    if encoder_weights:
        if family.load_encoder is None:
            raise BadSpec(f"--encoder-weights does not fit {spec.network}: it has no published encoder; leave it out.")
        family.load_encoder(model, encoder_weights)
    say(f"training {family.title} {spec.size} on {run.config.data}: {len(training)} images, {schedule.steps} steps")
    weights = class_weights(frequencies_of(pixels))

    judge = Judge(
        score=lambda: score_masks(validation, keras_infer(model), dataset.classes).miou_percent,
        keep=lambda path: checkpoint.write(model, path, class_weights=weights.tolist()),
    )
    lesson = Lesson(training, weights, augmentation)
    fitted = fit(model, family.auxiliary, spec.resize, lesson, schedule, judge, folder, run.config.seed, say)
    result = {
        "best_val_miou_percent": fitted.best_percent, "last_val_miou_percent": fitted.last_percent,
        "seconds": fitted.seconds, "step_seconds": fitted.step_seconds, "history": list(fitted.history),
    }  # fmt: skip
    write_json(folder / "result.json", result)
    return result
