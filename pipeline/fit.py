"""The training loop that float training and quantization-aware training share.

It shows progress, can be interrupted at any time, and goes on from its last checkpoint to the same batches.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from pipeline.data.decoded import Decoded
from pipeline.feed import Augmentation, training_batches
from pipeline.nouns.dataset import IGNORE
from pipeline.nouns.errors import RunError, TrainingDiverged
from pipeline.nouns.files import write_atomically

Say = Callable[[str], None]

LOGITS_RESIZE = "logits_resize"
AUXILIARY_WEIGHT = 0.4
LOSS_STRIDE = 2
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
    outputs = [next((x.input for x in model.layers if x.name.endswith(LOGITS_RESIZE)), model.output)]
    for name in auxiliary:
        outputs.append(tf_keras.layers.Conv2D(num_classes, 1, name=f"aux_{name}")(model.get_layer(name).output))
    return tf_keras.Model(model.input, outputs)


def distillation_loss(student: tf.Tensor, teacher: tf.Tensor, temperature: float) -> tf.Tensor:
    """T² · KL(teacher ‖ student) of the softened class probabilities, mean over all pixels; logits [b, h, w, c]."""
    truth = tf.nn.log_softmax(teacher / temperature)
    guess = tf.nn.log_softmax(student / temperature)
    return temperature**2 * tf.reduce_mean(tf.reduce_sum(tf.exp(truth) * (truth - guess), -1))


def sample_positions(size: int, full: int, convention: str) -> np.ndarray:
    """Where the ``size`` samples of a resized axis lie on its ``full`` pixels, int [size]."""
    if convention == "align_corners":
        return np.rint(np.linspace(0, full - 1, size)).astype(int)
    return ((np.arange(size) + 0.5) * full / size).astype(int)


def segmentation_loss(
    logits: tf.Tensor, label: tf.Tensor, weights: tf.Tensor, jaccard: float, convention: str
) -> tf.Tensor:
    """Class-weighted cross entropy plus soft Jaccard, at half the label's resolution.

    logits float32 [b, h, w, c] at any stride; label uint8 [b, height, width] with IGNORE. Half the resolution costs a
    fifth less time per step and moves no boundary by more than a pixel.
    """
    full = label.shape[1:3]
    size = [-(-n // LOSS_STRIDE) for n in full]
    rows, columns = (sample_positions(size[i], full[i], convention) for i in (0, 1))
    label = tf.gather(tf.gather(label, rows, axis=1), columns, axis=2)
    logits = tf.raw_ops.ResizeBilinear(
        images=logits, size=size, align_corners=convention == "align_corners",
        half_pixel_centers=convention == "half_pixel",
    )  # fmt: skip
    classes = logits.shape[-1]
    ids = tf.reshape(tf.cast(label, tf.int32), [-1])
    logits = tf.reshape(logits, [-1, classes])
    counted = ids != IGNORE
    known = tf.where(counted, ids, 0)
    pixel_weights = tf.gather(weights, known) * tf.cast(counted, tf.float32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(known, logits)
    loss = tf.reduce_sum(losses * pixel_weights) / tf.maximum(1.0, tf.reduce_sum(pixel_weights))
    if jaccard:
        mask = tf.cast(counted, tf.float32)[:, None]
        truth = tf.one_hot(known, classes) * mask
        guess = tf.nn.softmax(logits) * mask
        both = tf.reduce_sum(truth * guess, 0)
        pixels = tf.reduce_sum(truth, 0)
        union = pixels + tf.reduce_sum(guess, 0) - both
        present = tf.cast(pixels > 0, tf.float32)
        share = tf.reduce_sum(present * both / tf.maximum(union, 1.0)) / tf.maximum(1.0, tf.reduce_sum(present))
        loss += jaccard * (1 - share)
    return loss


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
      score: () → percent; the best one is kept apart.
      keep: writes the checkpoint to a path.
    """

    score: Callable[[], float]
    keep: Callable[[Path], None]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What a training gave: the scores of its best and last weights and the history that led there.

    Attributes:
      step_seconds: median time of a step, reading its loss included.
      judge_seconds: median time of scoring and keeping a checkpoint; 0 where that was before an interruption.
    """

    best_percent: float
    best_step: int
    last_percent: float
    seconds: float
    step_seconds: float
    judge_seconds: float
    history: tuple[dict[str, Any], ...]


def fit(
    model: tf_keras.Model, auxiliary: tuple[str, ...], convention: str, lesson: Lesson, schedule: Schedule,
    judge: Judge, folder: Path, seed: int, say: Say,
) -> Fitted:  # fmt: skip
    """Trains ``model``; a step is one update of its weights.

    Writes ``folder``/best.weights.h5, last.weights.h5 and history.jsonl, and keeps what it needs to go on in resume/.
    ``auxiliary`` names layers that get a classifier of their own while training; ``convention`` is that of the resizes.
    Raises TrainingDiverged when the loss is no longer finite, and the decoder's DataError.
    """
    if schedule.distil and lesson.teacher is None:
        raise RunError("the schedule distils and there is no teacher: give one, or distil with weight 0.")
    folder.mkdir(parents=True, exist_ok=True)
    height, width = model.input_shape[1:3]
    num_classes = model.output_shape[-1]
    trainer = training_outputs(model, auxiliary, num_classes)
    trained = list({id(v): v for v in (*trainer.trainable_variables, *model.trainable_variables)}.values())
    teacher = training_outputs(lesson.teacher, (), num_classes) if lesson.teacher is not None else None
    optimizer = tf_keras.optimizers.AdamW(Decay(schedule), weight_decay=schedule.weight_decay, clipnorm=5.0)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias", "range"])
    optimizer.build(trained)
    variables = list(model.weights)  # once: TFMOT's wrappers change the order of their lists when they are called
    averages = [tf.Variable(w, trainable=False) for w in variables]
    step_done = tf.Variable(0, dtype=tf.int64, trainable=False)
    best = tf.Variable(-1.0, trainable=False)
    seconds_before = tf.Variable(0.0, dtype=tf.float64, trainable=False)
    checkpoint = tf.train.Checkpoint(
        trainer=trainer, variables=variables, optimizer=optimizer, averages=averages, step=step_done, best=best,
        seconds=seconds_before,
    )  # fmt: skip
    manager = tf.train.CheckpointManager(checkpoint, str(folder / "resume"), max_to_keep=1)
    history_file = folder / "history.jsonl"
    history: list[dict[str, Any]] = []
    if manager.latest_checkpoint:
        try:
            checkpoint.restore(manager.latest_checkpoint).assert_existing_objects_matched()
        except (tf.errors.OpError, ValueError, AssertionError, LookupError, RuntimeError) as error:
            raise RunError(
                f"checkpoint {manager.latest_checkpoint} cannot be read ({str(error).splitlines()[0]}): delete"
                f" {folder / 'resume'} to start this training again."
            ) from None
        history = _read_history(history_file)
        history = [entry for entry in history if entry["step"] <= int(step_done)]
        say(f"goes on from step {int(step_done)} of {schedule.steps}")
    first_step = int(step_done)
    class_weights = tf.constant(lesson.class_weights)
    keep = max(0.0, 1 - schedule.average / schedule.steps) if schedule.average else 0.0
    statistics_until = round(schedule.statistics_until * schedule.steps)

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
    def train_step(images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor, training: bool) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = loss_of(tf.nest.flatten(trainer(images, training=training)), images, labels)
        gradients = tape.gradient(loss, trained)
        optimizer.apply_gradients(zip(gradients, trained, strict=True))
        done = tf.cast(step, tf.float32)
        momentum = tf.minimum(keep, (1 + done) / (10 + done))
        for average, weight in zip(averages, variables, strict=True):
            if weight.dtype.is_floating:
                average.assign_sub((average - weight) * (1 - momentum))
            else:
                average.assign(weight)
        return loss

    def scored() -> float:
        live = [v.numpy() for v in variables]
        for variable, average in zip(variables, averages, strict=True):
            variable.assign(average)
        try:
            percent = judge.score()
            if percent > float(best):
                best.assign(percent)
                judge.keep(folder / "best.weights.h5")
            judge.keep(folder / "last.weights.h5")
            return percent
        finally:
            for variable, value in zip(variables, live, strict=True):
                variable.assign(value)

    def save_progress() -> None:
        before = seconds_before.numpy()
        seconds_before.assign(before + time.monotonic() - started)
        step_done.assign(optimizer.iterations)  # not our own count: Ctrl-C may come between a step and its counting
        manager.save()
        seconds_before.assign(before)

    def evaluate(step: int, loss: float | None) -> None:
        began = time.monotonic()
        percent = scored()
        judged.append(time.monotonic() - began)
        spent = float(seconds_before) + time.monotonic() - started
        history.append({"step": step, "loss": loss, "miou_percent": percent, "seconds": spent})
        write_atomically(history_file, "".join(json.dumps(e) + "\n" for e in history).encode())
        save_progress()
        shown_loss = "" if loss is None else f"  loss {loss:.3f}"
        say(f"step {step}/{schedule.steps}{shown_loss}  mIoU {percent:.2f} %  {spent:.0f} s")

    batches = training_batches(
        lesson.decoded, height, width, schedule.batch, lesson.augmentation, seed, first_step, schedule.steps
    )
    score_at = {math.ceil(schedule.steps * (i + 1) / schedule.evaluations) for i in range(schedule.evaluations)}
    started = shown = saved = time.monotonic()
    losses: list[float] = []
    times: list[float] = []
    judged: list[float] = []
    step = first_step
    try:
        if step in score_at and not any(entry["step"] == step for entry in history):
            evaluate(step, None)  # interrupted while it was being scored
        for images, labels in batches:
            began = time.monotonic()
            loss = float(train_step(images, labels, tf.constant(step, tf.int64), step < statistics_until))
            times.append(time.monotonic() - began)
            if not math.isfinite(loss):
                raise TrainingDiverged(
                    f"the loss became {loss} at step {step + 1}: lower the learning rate (it was"
                    f" {schedule.learning_rate}) in a new run."
                )
            losses.append(loss)
            step += 1
            now = time.monotonic()
            if step in score_at:
                evaluate(step, float(np.mean(losses)))
                losses, shown, saved = [], time.monotonic(), time.monotonic()
            elif now - shown > SHOW_SECONDS:
                left = (schedule.steps - step) * (now - started) / (step - first_step)
                say(f"step {step}/{schedule.steps}  loss {np.mean(losses[-50:]):.3f}  about {left:.0f} s left")
                shown = now
            if now - saved > SAVE_SECONDS:
                save_progress()
                saved = time.monotonic()
    except KeyboardInterrupt:
        save_progress()
        raise
    except tf.errors.OpError:
        if lesson.decoded.error:
            raise lesson.decoded.error from None
        raise
    seconds = float(seconds_before) + time.monotonic() - started
    step_seconds, judge_seconds = (float(np.median(x)) if x else 0.0 for x in (times, judged))
    last_percent = history[-1]["miou_percent"]
    best_step = max(history, key=lambda entry: entry["miou_percent"])["step"]
    return Fitted(float(best), best_step, last_percent, seconds, step_seconds, judge_seconds, tuple(history))


def _read_history(file: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in file.read_text().splitlines()]
    except (OSError, ValueError):
        return []  # the scores on the way are lost, the training is not
