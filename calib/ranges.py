"""Estimates the range of every activation from real images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from pipeline.nouns.ranges import Range

DEAD_HIGH = 0.01
"""A layer that only ever gives 0 fits any range; a small one does not widen the ranges it shares with others."""


def measure(model: tf_keras.Model, points: Sequence[str], images: Iterable[np.ndarray]) -> dict[str, Range]:
    """The smallest and largest output of each layer of ``points`` over all images, widened to hold 0.

    ``images``: float32 [1, h, w, 3] as the network takes them. One pass, memory independent of their number.
    Raises RunError for a layer whose output is not finite.
    """
    taps = tf_keras.Model(model.input, [model.get_layer(name).output for name in points])

    @tf.function
    def extremes(image: tf.Tensor) -> tf.Tensor:
        outputs = tf.nest.flatten(taps(image, training=False))
        return tf.stack([[tf.reduce_min(x), tf.reduce_max(x)] for x in outputs])

    low, high = np.zeros(len(points)), np.zeros(len(points))
    for image in images:
        found = extremes(tf.constant(image)).numpy()
        low, high = np.minimum(low, found[:, 0]), np.maximum(high, found[:, 1])
    dead = (low == 0) & (high == 0)
    high[dead] = DEAD_HIGH
    return {name: Range(float(low[i]), float(high[i])) for i, name in enumerate(points)}
