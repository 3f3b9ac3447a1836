"""Estimates the range of every activation from real images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from calib.estimators import BINS, ESTIMATORS, Estimator, Histogram
from pipeline.core.errors import DataError, RunError
from pipeline.core.ranges import Range

DEAD_HIGH = 0.01
"""High end for a layer whose output is always 0: any range fits, and a small one does not widen a shared range."""

Images = Callable[[], Iterable[np.ndarray]]
"""Yields float32 [1, h, w, 3] tensors as the network takes them, the same on every call."""


class Taps:
    """What each layer of ``points`` outputs for an image, reduced to what estimators need of it."""

    def __init__(self, model: tf_keras.Model, points: Sequence[str]) -> None:
        self.points = tuple(points)
        tapped = [model.get_layer(name) for name in points]
        taps = tf_keras.Model(model.input, [layer.output for layer in tapped])
        # Traced once, for both passes.
        outputs_of = tf.function(lambda image: tf.nest.flatten(taps(image, training=False)), autograph=False)
        outputs_of = outputs_of.get_concrete_function(tf.TensorSpec([1, *model.input_shape[1:]]))

        @tf.function(autograph=False)
        def extremes_of(image: tf.Tensor) -> tf.Tensor:
            # A NaN makes the maximum NaN. The minimum after a ReLU is known.
            return tf.stack(
                [
                    [0.0 if isinstance(layer, tf_keras.layers.ReLU) else tf.reduce_min(x), tf.reduce_max(x)]
                    for layer, x in zip(tapped, outputs_of(image), strict=True)
                ]
            )

        @tf.function(autograph=False)
        def counts_of(image: tf.Tensor, edges: tf.Tensor) -> tf.Tensor:
            return tf.stack([tf.histogram_fixed_width(x, edges[i], BINS) for i, x in enumerate(outputs_of(image))])

        self._extremes_of, self._counts_of = extremes_of, counts_of

    def extremes(self, image: np.ndarray) -> np.ndarray:
        """float64 [points, 2]: lowest and highest value. Raises RunError for a layer whose output is not finite."""
        ends = self._extremes_of(tf.constant(image)).numpy().astype(np.float64)
        if not np.isfinite(ends).all():
            bad = [name for name, row in zip(self.points, ends, strict=True) if not np.isfinite(row).all()]
            raise RunError(
                f"layer {bad[0]!r} gives values that are not finite, so its weights are broken: train again."
            )
        return ends

    def counts(self, image: np.ndarray, edges: np.ndarray) -> np.ndarray:
        """int32 [points, BINS]: values in each of the bins between ``edges``, float32 [points, 2]."""
        return np.asarray(self._counts_of(tf.constant(image), tf.constant(edges)).numpy())


def measure(
    model: tf_keras.Model, points: Sequence[str], images: Images, method: Estimator = ESTIMATORS["min-max"]
) -> dict[str, Range]:
    """The range of the output of each layer in ``points``, by the estimator ``method``; each contains 0.

    One pass over the images, and a second if the estimator needs a histogram; memory does not grow with their number.
    Raises DataError if there is no image, and RunError for a layer whose output is not finite.
    """
    taps = Taps(model, points)
    return merged(
        points,
        method,
        (taps.extremes(image) for image in images()),
        lambda edges: (taps.counts(image, edges) for image in images()),
    )


def merged(
    points: Sequence[str],
    method: Estimator,
    extremes: Iterable[np.ndarray],
    counts_between: Callable[[np.ndarray], Iterable[np.ndarray]],
) -> dict[str, Range]:
    """The ranges, from what was observed of the images, wherever that was: exactly those of one process.

    ``extremes``: those of ``Taps``, of each image in order. ``counts_between``: (edges, see ``Taps``) → counts of each
    image, or sums of them, in any order; asked only if the estimator needs a histogram.
    """
    so_far = None
    for ends in extremes:
        with_zero = np.minimum(ends[:, 0], 0), np.maximum(ends[:, 1], 0)
        so_far = with_zero if so_far is None else method.accumulate(so_far, with_zero)
    if so_far is None:
        raise DataError("there is no image to calibrate on: give a dataset or folder that holds images.")
    low, high = so_far
    dead = (low == 0) & (high == 0)
    high[dead] = DEAD_HIGH
    if method.narrow is None:
        return {name: Range(float(low[i]), float(high[i])) for i, name in enumerate(points)}
    counts = np.zeros((len(points), BINS))
    for some in counts_between(np.stack([low, high], 1).astype(np.float32)):
        counts += some
    ranges = {}
    for i, name in enumerate(points):
        extent = Range(float(low[i]), float(high[i]))
        ranges[name] = extent if dead[i] else Range(*method.narrow(Histogram(counts[i], extent.low, extent.high)))
    return ranges
