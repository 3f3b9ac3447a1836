"""Trains the float parent."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras

import models
from pipeline.core.dataset import Dataset, TrainingDefaults
from pipeline.core.errors import BadSpec, RunError
from pipeline.core.from_json import from_json
from pipeline.core.json_file import BadJson, made
from pipeline.core.preprocessing import Preprocessing
from pipeline.core.progress import waiting
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.core.score import Score
from pipeline.core.training import FloatResult, Symptom, Training
from pipeline.data import dataset_of, source_of
from pipeline.data.census import SEED, check_labels, take_census
from pipeline.data.decoded import Decoded, kept_note
from pipeline.heads.full_size import mask_of
from pipeline.measure.score import Infer, masks_of, score_masks
from pipeline.train.balance import adjusted, class_weights, frequencies_of
from pipeline.train.feed import Augmentation
from pipeline.train.fit import fit
from pipeline.train.health import Health
from pipeline.train.initialize import as_setting, initialize, weights_file
from pipeline.train.precision import Precision, computing_in_float16, note_without_gpu
from pipeline.train.schedule import Schedule
from pipeline.train.teachers import settings_of, teacher_of
from pipeline.train.update import Lesson
from pipeline.weights import checkpoint


def keras_logits(model: tf_keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """uint8 [h, w, 3] → float32 [1, height, width, classes] of a Keras network, preprocessed as everywhere."""
    preprocessing = Preprocessing(*model.input_shape[1:3])
    call = tf.function(lambda image: model(image, training=False), autograph=False)
    return lambda image: call(tf.constant(preprocessing.tensor(image, "float32"))).numpy()


def keras_infer(model: tf_keras.Model) -> Infer:
    """Masks of a Keras network, one image at a time: a call uses all cores."""
    logits, lock = keras_logits(model), threading.Lock()

    def infer(image: np.ndarray) -> np.ndarray:
        with lock:
            output = logits(image)
        return mask_of(output, *image.shape[:2])

    return infer


def defaults_of(run: Run) -> TrainingDefaults:
    """The defaults for a run: its dataset's, with the learning rates multiplied by its network's factor."""
    defaults = source_of(run.config.data).training
    factor = models.network(run.config.model.network).learning_rate_factor
    return dataclasses.replace(
        defaults,
        learning_rate=defaults.learning_rate * factor,
        qat_learning_rate=defaults.qat_learning_rate * factor,
        tuning_learning_rate=defaults.tuning_learning_rate * factor,
    )


def float_schedule(
    run: Run, steps: int | None, batch: int, learning_rate: float | None, tuning: bool = False
) -> Schedule:
    """The schedule of a float training; None stands for the run's default.

    ``tuning``: whether it starts from trained weights, which takes fewer steps at a lower rate.
    """
    defaults = defaults_of(run)
    steps = steps or (defaults.tuning_steps if tuning else defaults.steps)
    return Schedule(
        steps,
        batch,
        learning_rate or (defaults.tuning_learning_rate if tuning else defaults.learning_rate),
        weight_decay=defaults.weight_decay,
        hard=defaults.hard,
        evaluations=max(1, min(defaults.evaluations, steps // 100)),
    )


@dataclasses.dataclass(frozen=True)
class FloatTraining:
    """A float training that is to be started or resumed.

    Attributes:
      encoder_weights: published weights of the encoder.
      init: a file of weights, or the name of weights that ship, from which all but the head starts.
    """

    schedule: Schedule
    encoder_weights: str | None = None
    init: str | None = None


@dataclasses.dataclass(frozen=True)
class _StartedFrom:
    file: str


@dataclasses.dataclass(frozen=True)
class _Began:
    """How a training began, as its settings say, which may be a stranger's."""

    encoder_weights: str | None = None
    init: _StartedFrom | None = None


def float_training(
    run: Run, steps: int | None, batch: int, encoder_weights: str | None, init: str | None = None
) -> FloatTraining | None:
    """The training that gives the run its float parent; None if it has one.

    An interrupted training keeps its schedule, unless ``steps`` gives another. Raises RunError if the run's parent was
    not trained for ``steps`` steps.
    """
    settings = run.float_training.settings() or {}
    schedule = settings.get("schedule")
    if run.float_training.trained:
        run.float_training.tidy()
        trained_steps = schedule["steps"] if isinstance(schedule, dict) and "steps" in schedule else None
        if steps is not None and steps != trained_steps:
            history = "was given with --parent" if trained_steps is None else f"was trained for {trained_steps} steps"
            raise RunError(
                f"--float-steps {steps}: the float parent of {run.path} {history}. Leave --float-steps out, or name a"
                " new --run."
            )
        return None
    if steps is None and isinstance(schedule, dict):
        with contextlib.suppress(TypeError, BadJson):  # settings of another version: is_finished reports them
            began = made(settings, functools.partial(from_json, _Began))
            started_from = began.init.file if began.init is not None else None
            return FloatTraining(Schedule(**schedule), began.encoder_weights, init or started_from)
    return FloatTraining(float_schedule(run, steps, batch, None, tuning=init is not None), encoder_weights, init)


def pixels_to_learn(run: Run, dataset: Dataset, training: Decoded, validation: Decoded, say: Say) -> np.ndarray:
    """int64 [1, classes]: labelled training pixels, of all labels or, in a large dataset, of a sample of them.

    Notes which classes the labels lack. Raises DataError for a label that cannot be used, and if nothing can be learnt
    or scored.
    """
    train, val = take_census(run, "train", training, 2, say), take_census(run, "val", validation, 1, say)
    notes = check_labels(train.table(), val.table(), dataset.classes, dataset.text)
    where = ""
    if train.sampled or val.sampled:
        where = f"in {train.counted} of {train.of} training and {val.counted} of {val.of} val labels: "
        say(
            f"class frequencies are those of {train.counted} of {train.of} training labels, drawn with seed {SEED}; of"
            " the other files the headers were checked"
        )
    for note in (*dataset.notes(), *(f"{where}{note}" for note in notes)):
        say(f"note: {note}")
    if (not_kept := kept_note(training, validation)) is not None:
        say(not_kept)
    return train.table()


WRITINGS = 4
"""How much longer than one file of weights takes a scoring's saving: the best, the last, and what resuming needs."""
TIMED_IMAGES = 8
"""Scored to know how long a scoring will take; an image before them builds the graph."""


@dataclasses.dataclass
class FloatCheckpoints:
    """Scores the float network on the validation images, and saves it with the class weights of its loss.

    Attributes:
      trained: the network whose weights ``model`` takes over for each scoring; None: ``model`` itself is trained.
    """

    model: tf_keras.Model
    validation: Decoded
    classes: tuple[str, ...]
    class_weights: np.ndarray
    training: Training
    say: Say
    chooses: bool = True
    trained: tf_keras.Model | None = None
    latest: Score | None = None
    expected: float | None = None

    @functools.cached_property
    def infer(self) -> Infer:
        """One for all scorings: building its graph takes seconds."""
        return keras_infer(self.model)

    def score(self) -> float:
        if self.trained is not None:
            self.model.set_weights(self.trained.get_weights())
        with adjusted(self.model, self.class_weights):
            self.latest = score_masks(self.validation, self.infer, self.classes, say=self.say)
        return self.latest.miou_percent

    @functools.cached_property
    def health(self) -> Health:
        return Health(self.model, self.validation)

    def symptoms(self) -> tuple[Symptom, ...]:
        return self.health.look(None if self.latest is None else self.latest.one_class)

    def class_iou_percent(self) -> dict[str, float]:
        return self.latest.iou_percent if self.latest is not None else {}

    def expected_seconds(self) -> float:
        """From a few images, timed once."""
        if self.expected is None:
            count = min(TIMED_IMAGES, len(self.validation))
            with waiting(self.say, "timing a scoring"):
                collections.deque(masks_of(self.validation, self.infer, 1), maxlen=0)
                began = time.monotonic()
                collections.deque(masks_of(self.validation, self.infer, count), maxlen=0)
                scoring = (time.monotonic() - began) / count * len(self.validation)
                began = time.monotonic()
                with tempfile.TemporaryDirectory() as scratch:
                    self._write(Path(scratch) / self.training.last.name)
            self.expected = scoring + WRITINGS * (time.monotonic() - began)
        return self.expected

    def keep_best(self) -> None:
        self._write(self.training.best)

    def keep_last(self) -> None:
        self._write(self.training.last)

    def _write(self, path: Path) -> None:
        with adjusted(self.model, self.class_weights) as left:
            checkpoint.write(self.model, path, class_weights=left.tolist())


def train(  # long: each is an option of the command
    run: Run,
    schedule: Schedule,
    augmentation: Augmentation,
    say: Say,
    *,
    encoder_weights: str | None = None,
    init: str | None = None,
    teachers: Sequence[Run] = (),
    precision: Precision = "float32",
    force: bool = False,
) -> FloatResult:
    """Trains the run's float network, or resumes its training, or reuses its result; returns the result.

    ``encoder_weights``, ``init``: see ``FloatTraining``. ``teachers``: runs whose float networks the schedule distils,
    their mean where they are several. ``precision``: of the training; scored is the network in float32.
    """
    training = run.float_training
    start = None if init is None else weights_file(init, run.config.model.network)
    settings = {
        "schedule": schedule.as_setting(),
        "augmentation": augmentation.as_setting(),
        "encoder_weights": encoder_weights,
        "init": None if start is None else as_setting(start),
        "teachers": settings_of(teachers),
        "precision": None if precision == "float32" else precision,
    }
    if training.is_finished(settings, force):
        training.tidy()
        result = training.float_result()
        say(
            f"float network: trained already, val mIoU {result.best_val_miou_percent:.2f} % ({training.folder}): reused"
        )
        return result
    dataset, spec, seed = dataset_of(run, renew=force), run.config.model, run.config.seed
    family = models.network(spec.network)
    if encoder_weights and family.load_encoder is None:
        raise BadSpec(f"--encoder-weights does not fit {spec.network}: it has no published encoder; leave it out.")
    images, validation = Decoded(dataset.splits["train"]), Decoded(dataset.splits["val"])
    weights = class_weights(frequencies_of(pixels_to_learn(run, dataset, images, validation, say)))
    training.begin(settings, force)
    tf_keras.utils.set_random_seed(seed)
    with waiting(say, f"building {family.title}"):
        model = models.build(spec)
    if encoder_weights and family.load_encoder is not None:
        family.load_encoder(model, encoder_weights)
    if start is not None:
        head = initialize(model, spec, start)
        size = checkpoint.size_in(start)
        before = f" (trained at {size})" if size else ""
        say(f"all layers but {', '.join(sorted(head))} start from {start}{before}")
    note_without_gpu(precision, say)
    trained = None
    if precision == "mixed":
        with computing_in_float16():
            trained = models.build(spec)
        trained.set_weights(model.get_weights())
    say(f"training {family.title} {spec.size} on {run.config.data}: {len(images)} images, {schedule.steps} steps")
    chooses = not run.config.division.trains_on_val
    if not chooses:
        say("note: val is trained on, so its score says nothing about other images, and the last checkpoint is kept")
    checkpoints = FloatCheckpoints(model, validation, dataset.classes, weights, training, say, chooses, trained)
    auxiliary = family.auxiliary if schedule.auxiliary else ()
    teacher = teacher_of(teachers, run, model, weights) if teachers else None
    lesson = Lesson(images, weights, augmentation, seed, spec.resize, auxiliary, teacher)
    fitted = fit(trained or model, lesson, schedule, checkpoints, training.folder, say)
    assert fitted.best_percent is not None  # every checkpoint is scored
    result = FloatResult(fitted.best_percent, fitted.last_percent, fitted.seconds, fitted.step_seconds, fitted.history)
    training.finish(result)
    return result
