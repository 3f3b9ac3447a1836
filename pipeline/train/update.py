"""One step of training: the loss of a batch, its gradients, the new weights and their running means."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from models.blocks import last_resize_of
from pipeline.data.decoded import Decoded
from pipeline.train.distribute import Team, lost_workers, summed
from pipeline.train.feed import Augmentation
from pipeline.train.loss import LOSS_STRIDE, distillation_loss, segmentation_loss
from pipeline.train.reproducible import one_order_of_sums
from pipeline.train.resume import Progress
from pipeline.train.schedule import Schedule

AUXILIARY_STRIDE = 8
"""The auxiliary losses are taken where the logits are, at one pixel of 64: at half the size they took a tenth of a
step's time."""


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What a network learns from.

    Attributes:
      decoded: images and labels.
      class_weights: float32 [classes], of the cross entropy.
      seed: of the images' order, their augmentation and dropout.
      resize: convention of the network's resizes, by which labels are sampled.
      auxiliary: names of layers that get a classifier and a loss of their own while training.
      teacher: a float network of the same kind, needed where the schedule distils.
    """

    decoded: Decoded
    class_weights: np.ndarray
    augmentation: Augmentation
    seed: int
    resize: str
    auxiliary: tuple[str, ...] = ()
    teacher: tf_keras.Model | None = None


def training_outputs(model: tf_keras.Model, auxiliary: tuple[str, ...], num_classes: int) -> tf_keras.Model:
    """image → [logits before the last resize, one auxiliary classifier's logits per named layer]."""
    last = last_resize_of(model)
    outputs = [model.output if last is None else last.input]
    for name in auxiliary:
        outputs.append(tf_keras.layers.Conv2D(num_classes, 1, name=f"aux_{name}")(model.get_layer(name).output))
    return tf_keras.Model(model.input, outputs)


class WeightUpdate:
    """Updates a network's weights by one batch; with them, their running means and the sum of losses in ``progress``.

    ``trainer``: the network's ``training_outputs``; ``trained``: the variables that ``optimizer`` updates.
    """

    def __init__(
        self,
        trainer: tf_keras.Model,
        trained: list[tf.Variable],
        optimizer: Any,
        progress: Progress,
        lesson: Lesson,
        schedule: Schedule,
        team: Team | None = None,
    ) -> None:
        self._team = team
        self._trainer, self._trained, self._optimizer, self._progress = trainer, trained, optimizer, progress
        self._schedule, self._resize = schedule, lesson.resize
        self._class_weights = tf.constant(lesson.class_weights)
        self._teacher: tf_keras.Model | None = None
        if lesson.teacher is not None:
            self._teacher = training_outputs(lesson.teacher, (), lesson.teacher.output_shape[-1])

    def __call__(self, images: tf.Tensor, labels: tf.Tensor, training: bool) -> float:
        """Returns the loss before the update.

        images: float32 [batch, height, width, 3]; labels: uint8 [batch, height, width]; ``training``: whether batch
        norm gathers statistics and dropout drops.
        """
        alone = self._team is None
        with one_order_of_sums(), contextlib.nullcontext() if alone else lost_workers("during the training"):
            return float(self._step(images, labels, training))

    @tf.function(autograph=False)
    def _step(self, images: tf.Tensor, labels: tf.Tensor, training: bool) -> tf.Tensor:
        steps_before = tf.cast(self._optimizer.iterations, tf.float32)
        if self._team is None:
            loss, gradients = self._gradients(images, labels, training)
        else:
            loss, gradients = self._team.run(self._summed_gradients, images, labels, training)
        if self._progress.loss_scale is None:
            self._optimizer.apply_gradients(zip(gradients, self._trained, strict=True))
        else:
            self._progress.loss_scale.update(self._optimizer, gradients, self._trained)
        self._update_averages(steps_before)
        self._progress.loss_sum.assign_add(tf.cast(loss, tf.float64))
        self._progress.loss_steps.assign_add(1)
        return loss

    def _gradients(self, images: tf.Tensor, labels: tf.Tensor, training: bool) -> tuple[tf.Tensor, list[tf.Tensor]]:
        scale = self._progress.loss_scale
        with tf.GradientTape() as tape:
            loss = self._loss(tf.nest.flatten(self._trainer(images, training=training)), images, labels)
            lowered = loss if scale is None else scale.scaled(loss)
        gradients = tape.gradient(lowered, self._trained)
        return loss, gradients if scale is None else scale.unscaled(gradients)

    def _summed_gradients(
        self, images: tf.Tensor, labels: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Of the whole batch. Each worker's loss is its share, so that shares and gradients add up."""
        loss, gradients = self._gradients(images, labels, training)
        missing = [gradient is None for gradient in gradients]
        sums = iter(summed([loss, *(gradient for gradient in gradients if gradient is not None)]))
        return next(sums), [None if none else next(sums) for none in missing]

    def _loss(self, outputs: list[tf.Tensor], images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        schedule = self._schedule
        total = sum(self._trainer.losses)
        if schedule.labels:
            losses = [
                segmentation_loss(
                    x,
                    labels,
                    self._class_weights,
                    schedule.jaccard if not i else 0.0,
                    self._resize,
                    list if self._team is None else summed,
                    LOSS_STRIDE if not i else AUXILIARY_STRIDE,
                    schedule.hard,
                )
                for i, x in enumerate(outputs)
            ]
            total += losses[0] + schedule.auxiliary * sum(losses[1:])
        if schedule.distil and self._teacher is not None:
            target = tf.stop_gradient(tf.nest.flatten(self._teacher(images, training=False))[0])
            total += schedule.distil * distillation_loss(outputs[0], target, schedule.temperature)
        return total if self._team is None else total / self._team.workers.count

    def _update_averages(self, steps_before: tf.Tensor) -> None:
        momentum = tf.minimum(self._schedule.average_momentum, (1 + steps_before) / (10 + steps_before))
        for average, weight in zip(self._progress.averages, self._progress.variables, strict=True):
            if weight.dtype.is_floating:
                average.assign_sub((average - weight) * (1 - momentum))
            else:
                average.assign(weight)
