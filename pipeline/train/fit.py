"""The training loop that float training and quantization-aware training share.

It shows progress, can be interrupted at any time, and goes on from its last checkpoint to the same batches.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import math
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from models.blocks import last_resize_of
from pipeline.core.errors import DataError, RunError, TrainingDiverged
from pipeline.core.say import Say
from pipeline.core.training import HistoryEntry, Training
from pipeline.data.decoded import Decoded
from pipeline.train.feed import Augmentation, training_batches
from pipeline.train.loss import distillation_loss, segmentation_loss
from pipeline.train.pace import Pace
from pipeline.train.resume import Progress

Update = Callable[[tf.Tensor, tf.Tensor, bool], tf.Tensor]
"""(images, labels, whether statistics are gathered and dropout drops) → the loss before it."""

AUXILIARY_WEIGHT = 0.4
SHOW_SECONDS = 15
SAVE_SECONDS = 120


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long and how hard to train.

    Attributes:
      steps: weight updates.
      batch: images in each.
      learning_rate: peak; polynomial decay (power 0.9) to 0 after a linear warm-up over the first 5 % of the steps.
      weight_decay: decoupled (AdamW), on everything but batch norm and biases.
      average: the scored weights are a running mean over about steps / average; 0 scores the last weights themselves.
      evaluations: how often the judge scores the weights on the way.
      jaccard: weight of the soft Jaccard loss beside the cross entropy.
      distil: weight of the distance to the class probabilities of the teacher; the labels' losses have weight 1.
      temperature: softens both distributions of that distance (Hinton et al., arXiv 1503.02531).
      labels: False learns from the teacher alone.
      statistics_until: share of the steps after which batch norm's statistics (and dropout) stay as they are.
    """

    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.01
    average: int = 20
    evaluations: int = 5
    jaccard: float = 0.5
    distil: float = 0.0
    temperature: float = 1.0
    labels: bool = True
    statistics_until: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or not 0 < self.learning_rate < math.inf or not 0 <= self.distil < math.inf:
            raise RunError(
                f"steps {self.steps}, batch {self.batch}, learning rate {self.learning_rate}, weight of the teacher"
                f" {self.distil}: all must be positive and finite."
            )
        if self.steps * self.batch >= 1 << 31:
            raise RunError(
                f"{self.steps} steps of {self.batch} images are {self.steps * self.batch} images: less than {1 << 31}."
            )
        if not self.labels and not self.distil:
            raise RunError("without labels there is only the teacher to learn from: its weight must not be 0.")


class Decay(tf_keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then polynomial decay with power 0.9."""

    def __init__(self, schedule: Schedule) -> None:
        self.peak, self.steps = schedule.learning_rate, schedule.steps
        self.warm_up = max(1, schedule.steps // 20)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        left = tf.maximum(0.0, 1 - step / self.steps)
        return self.peak * tf.minimum((step + 1) / self.warm_up, tf.pow(left, 0.9))

    def get_config(self) -> dict[str, Any]:
        return {}


def training_outputs(model: tf_keras.Model, auxiliary: tuple[str, ...], num_classes: int) -> tf_keras.Model:
    """image → [logits before the last resize, one auxiliary classifier's logits per named layer]."""
    last = last_resize_of(model)
    outputs = [model.output if last is None else last.input]
    for name in auxiliary:
        outputs.append(tf_keras.layers.Conv2D(num_classes, 1, name=f"aux_{name}")(model.get_layer(name).output))
    return tf_keras.Model(model.input, outputs)


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What is learnt from.

    Attributes:
      decoded: images and labels.
      class_weights: float32 [classes], of the cross entropy.
      teacher: a float network of the same kind, needed where the schedule distils.
    """

    decoded: Decoded
    class_weights: np.ndarray
    augmentation: Augmentation
    teacher: tf_keras.Model | None = None


@dataclasses.dataclass(frozen=True)
class Judge:
    """How what was learnt is scored and kept; both see the network with its averaged weights.

    Attributes:
      score: () → percent; the best one is kept apart. None where there is nothing to score on: none is the best.
      keep: writes the checkpoint to a path.
    """

    score: Callable[[], float | None]
    keep: Callable[[Path], None]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a training gave: the scores of its best and last weights and the history that led there.

    Attributes:
      best_percent, best_step, last_percent: None where there was nothing to score on.
      step_seconds: median time of a step, reading its loss included.
      judge_seconds: median time of scoring and keeping a checkpoint; 0 where that was before an interruption.
    """

    best_percent: float | None
    best_step: int | None
    last_percent: float | None
    seconds: float
    step_seconds: float
    judge_seconds: float
    history: tuple[HistoryEntry, ...]


def draw_by_step(network: tf_keras.Model, seed: int, step: tf.Variable) -> None:
    """Makes what dropout draws in a step depend on ``seed``, the layer's name and ``step`` alone.

    Keras draws from a counter inside the op, which no checkpoint holds: a training that goes on would begin its
    numbers anew. The other layers that draw (SpatialDropout2D, GaussianNoise, ...) are covered too.
    """
    for layer in network.submodules:
        generator = getattr(layer, "_random_generator", None)
        if generator is not None:
            own = zlib.crc32(layer.name.encode()) + (seed % (1 << 31) << 32)
            generator._rng_type, generator._built = generator.RNG_STATELESS, True
            generator.make_seed_for_stateless_op = functools.partial(_seed_now, own, step)


def _seed_now(own: int, step: tf.Variable) -> tf.Tensor:
    return tf.stack([tf.constant(own, tf.int64), tf.cast(step, tf.int64)])


@contextlib.contextmanager
def one_order_of_sums() -> Iterator[None]:
    """Within it, a tf.function that is called gives the same bits whenever its inputs have the same.

    Grappler's memory optimizer makes a sum of three and more gradients, in a graph of large ones, into additions in
    whatever order the threads come to them (tensorflow/core/grappler/optimizers/memory_optimizer.cc, SchedulingPass).
    enable_op_determinism leaves that as it is, and no option turns that pass off but the one for all of Grappler. The
    gradients of Fast-SCNN at 352x480, batch 8, took 0.63 s with it off and 0.63 s with it on, medians of eleven in
    turns on two shared cores; the shortest 0.46 s and 0.45 s.
    """
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        off = before.get("disable_meta_optimizer", False)
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": off})


def fit(  # long: to be split
    model: tf_keras.Model,
    auxiliary: tuple[str, ...],
    convention: str,
    lesson: Lesson,
    schedule: Schedule,
    judge: Judge,
    folder: Path,
    seed: int,
    say: Say,
) -> Fitted:
    """Trains ``model``; a step is one update of its weights.

    Writes ``folder``/best.weights.h5, last.weights.h5 and history.jsonl, and keeps what it needs to go on in resume/.
    With one seed, on one machine, it ends with the same bits wherever it was cut off and went on.
    ``auxiliary`` names layers that get a classifier of their own while training; ``convention`` is that of the resizes.
    Raises TrainingDiverged when the loss or a weight is no longer finite, and the decoder's DataError.
    """
    if schedule.distil and lesson.teacher is None:
        raise RunError("the schedule distils and there is no teacher: give one, or distil with weight 0.")
    folder.mkdir(parents=True, exist_ok=True)
    trainer = training_outputs(model, auxiliary, model.output_shape[-1])
    trained = list({id(v): v for v in (*trainer.trainable_variables, *model.trainable_variables)}.values())
    optimizer = tf_keras.optimizers.AdamW(Decay(schedule), weight_decay=schedule.weight_decay, clipnorm=5.0)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias", "range"])
    optimizer.build(trained)
    draw_by_step(trainer, seed, optimizer.iterations)
    variables = list(model.weights)  # once: TFMOT's wrappers change the order of their lists when they are called
    progress = Progress(trainer, variables, optimizer, folder)
    if progress.restore():
        say(f"goes on from step {progress.step} of {schedule.steps}")
    height, width = model.input_shape[1:3]
    update = _update(trainer, trained, optimizer, progress, lesson, schedule, convention)
    batches = training_batches(
        lesson.decoded,
        height,
        width,
        schedule.batch,
        lesson.augmentation,
        seed,
        progress.step,
        schedule.steps,
    )
    try:
        step_times, scoring_times = _go_through(batches, update, progress, schedule, judge, folder, say)
    except KeyboardInterrupt:
        progress.save()
        raise
    except (DataError, tf.errors.OpError):  # an image that went away, or was never whole: what was learnt stays
        if progress.step:
            progress.save()
        if lesson.decoded.error:
            raise lesson.decoded.error from None
        raise
    step_seconds, judge_seconds = (float(np.median(x)) if x else 0.0 for x in (step_times, scoring_times))
    history = progress.history
    judged = [one for one in history if one.miou_percent is not None]
    best = max(judged, key=lambda one: one.miou_percent or 0.0, default=None)
    return Fitted(
        float(progress.best) if best else None,
        best.step if best else None,
        history[-1].miou_percent,
        progress.seconds,
        step_seconds,
        judge_seconds,
        tuple(history),
    )


def _update(
    trainer: tf_keras.Model,
    trained: list[tf.Variable],
    optimizer: Any,
    progress: Progress,
    lesson: Lesson,
    schedule: Schedule,
    convention: str,
) -> Update:
    """One update of the weights, of their running means and of the sum of losses."""
    class_weights = tf.constant(lesson.class_weights)
    keep = max(0.0, 1 - schedule.average / schedule.steps) if schedule.average else 0.0
    teacher = None
    if lesson.teacher is not None:
        teacher = training_outputs(lesson.teacher, (), lesson.teacher.output_shape[-1])

    def loss_of(outputs: list[tf.Tensor], images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        total = sum(trainer.losses)
        if schedule.labels:
            losses = [
                segmentation_loss(x, labels, class_weights, schedule.jaccard if not i else 0.0, convention)
                for i, x in enumerate(outputs)
            ]
            total += losses[0] + AUXILIARY_WEIGHT * sum(losses[1:])
        if schedule.distil and teacher is not None:
            aim = tf.stop_gradient(tf.nest.flatten(teacher(images, training=False))[0])
            total += schedule.distil * distillation_loss(outputs[0], aim, schedule.temperature)
        return total

    @tf.function
    def update(images: tf.Tensor, labels: tf.Tensor, training: bool) -> tf.Tensor:
        done = tf.cast(optimizer.iterations, tf.float32)
        with tf.GradientTape() as tape:
            loss = loss_of(tf.nest.flatten(trainer(images, training=training)), images, labels)
        gradients = tape.gradient(loss, trained)
        optimizer.apply_gradients(zip(gradients, trained, strict=True))
        momentum = tf.minimum(keep, (1 + done) / (10 + done))
        for average, weight in zip(progress.averages, progress.variables, strict=True):
            if weight.dtype.is_floating:
                average.assign_sub((average - weight) * (1 - momentum))
            else:
                average.assign(weight)
        progress.loss_sum.assign_add(tf.cast(loss, tf.float64))
        progress.loss_steps.assign_add(1)
        return loss

    return update


def _go_through(
    batches: Iterable[tuple[tf.Tensor, tf.Tensor]],
    update: Update,
    progress: Progress,
    schedule: Schedule,
    judge: Judge,
    folder: Path,
    say: Say,
) -> tuple[list[float], list[float]]:
    """Takes the steps that are left, scores on the way and saves; returns the times of both in seconds."""
    score_at = {math.ceil(schedule.steps * (i + 1) / schedule.evaluations) for i in range(schedule.evaluations)}
    statistics_until = round(schedule.statistics_until * schedule.steps)
    step_times: list[float] = []
    scoring_times: list[float] = []
    pace, losses = Pace(), collections.deque[float](maxlen=50)
    step = progress.step
    if step in score_at and not progress.scored:  # interrupted while it was being scored
        scoring_times.append(_score(progress, schedule, judge, folder, say))
        pace.scoring(scoring_times[-1])
    if step < schedule.steps:
        say("building the training graph: the first step takes longer than the others")
    announced = False
    lap = shown = saved = time.monotonic()
    for images, labels in batches:
        began = time.monotonic()
        with one_order_of_sums():
            loss = float(update(images, labels, step < statistics_until))
        now = time.monotonic()
        step_times.append(now - began)
        step += 1
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"the loss became {loss} at step {step}: lower the learning rate (it was"
                f" {schedule.learning_rate}) in a new run."
            )
        losses.append(loss)
        pace.step(now - lap)
        if step == statistics_until:
            pace.graph_changes()
        if step in score_at:
            scoring_times.append(_score(progress, schedule, judge, folder, say))
            pace.scoring(scoring_times[-1])
            shown = saved = time.monotonic()
        elif (pace.known and not announced) or now - shown > SHOW_SECONDS:
            left = pace.left(schedule.steps - step, sum(at > step for at in score_at))
            say(f"step {step}/{schedule.steps}  loss {np.mean(losses):.3f}" + (f"  {left}" if left else ""))
            announced, shown = pace.known, now
        if now - saved > SAVE_SECONDS:
            progress.save()
            saved = time.monotonic()
        lap = time.monotonic()
    return step_times, scoring_times


def _score(progress: Progress, schedule: Schedule, judge: Judge, folder: Path, say: Say) -> float:
    """Scores the averaged weights, keeps them as the last and maybe the best, and saves; returns the seconds."""
    began, there = time.monotonic(), Training(folder)
    with progress.averaged():
        percent = judge.score()
        if percent is not None and percent > float(progress.best):
            judge.keep(there.best)
            progress.best.assign(percent)  # after the file: of an interruption between the two it is written again
        judge.keep(there.last)
    spent = time.monotonic() - began
    loss = progress.enter(percent)
    shown_loss = "" if loss is None else f"  loss {loss:.3f}"
    shown_percent = "" if percent is None else f"  mIoU {percent:.2f} %"
    say(f"step {progress.step}/{schedule.steps}{shown_loss}{shown_percent}  {progress.seconds:.0f} s")
    return spent
