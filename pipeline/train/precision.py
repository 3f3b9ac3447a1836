"""Trains in mixed precision: layers compute in float16, while weights, losses and statistics stay float32.

Gradients that float16 cannot hold are kept from vanishing by a factor on the loss (Micikevicius et al., Mixed Precision
Training, arXiv 1710.03740): a step whose gradients overflow changes no weight and halves the factor, and many good
steps double it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import tensorflow as tf
import tf_keras

from pipeline.core.say import Say

Precision = Literal["float32", "mixed"]
FIRST_SCALE = 2.0**15
GOOD_STEPS = 2000
"""The factor and the interval of tf_keras' LossScaleOptimizer."""
MOST_IN_VAIN = 20
"""Steps in a row whose gradients are not finite with a factor of 1."""


@contextlib.contextmanager
def computing_in_float16() -> Iterator[None]:
    """The layers that are made within it compute in float16, and so do the networks of them later."""
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)


def note_without_gpu(precision: Precision, say: Say) -> None:
    if precision == "mixed" and not tf.config.list_physical_devices("GPU"):
        say("note: mixed precision saves time on GPUs, and TensorFlow found none; a CPU takes longer with it")


class LossScale:
    """The factor on the loss, and the updates by the gradients that it gave."""

    def __init__(self) -> None:
        self._scale = tf.Variable(FIRST_SCALE, trainable=False, name="loss_scale")
        self._good = tf.Variable(0, dtype=tf.int64, trainable=False, name="good_steps")
        self._in_vain = 0

    @staticmethod
    def needed(network: tf_keras.Model) -> LossScale | None:
        """None for a network that computes in float32."""
        mixed = any(layer.compute_dtype == "float16" for layer in network.submodules if hasattr(layer, "compute_dtype"))
        return LossScale() if mixed else None

    @property
    def variables(self) -> list[tf.Variable]:
        return [self._scale, self._good]

    def hopeless(self) -> bool:
        """Asked after each step: whether no factor helps any more, so that no step changes a weight."""
        self._in_vain = self._in_vain + 1 if float(self._scale) <= 1 and not int(self._good) else 0
        return self._in_vain >= MOST_IN_VAIN

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        return loss * self._scale

    def unscaled(self, gradients: Sequence[Any]) -> list[Any]:
        return [None if gradient is None else gradient / self._scale for gradient in gradients]

    def update(self, optimizer: Any, gradients: Sequence[Any], trained: Sequence[tf.Variable]) -> None:
        """Applies the unscaled gradients, unless one is not finite. Either way it was a step."""

        def take() -> tf.Tensor:
            optimizer.apply_gradients(zip(gradients, trained, strict=True))
            return self._good + 1

        def leave_out() -> tf.Tensor:
            optimizer.iterations.assign_add(1)
            self._scale.assign(tf.maximum(self._scale / 2, 1.0))
            return tf.zeros_like(self._good)

        finite = [tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients if gradient is not None]
        good = tf.cond(tf.reduce_all(finite), take, leave_out)
        self._scale.assign(tf.where(good >= GOOD_STEPS, self._scale * 2, self._scale))
        self._good.assign(good % GOOD_STEPS)
