"""The losses: class-weighted cross entropy with a soft Jaccard loss, and distillation from a teacher."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from pipeline.core.dataset import IGNORE

LOSS_STRIDE = 2


def distillation_loss(student: tf.Tensor, teacher: tf.Tensor, temperature: float) -> tf.Tensor:
    """T² · KL(teacher ‖ student) of the softened class probabilities, mean over all pixels; logits [b, h, w, c]."""
    truth = tf.nn.log_softmax(teacher / temperature)
    guess = tf.nn.log_softmax(student / temperature)
    return temperature**2 * tf.reduce_mean(tf.reduce_sum(tf.exp(truth) * (truth - guess), -1))


def sample_positions(size: int, full: int, convention: str) -> np.ndarray:
    """The pixel, of ``full``, at each of the ``size`` samples of a resized axis: int [size]."""
    if convention == "align_corners":
        return np.rint(np.linspace(0, full - 1, size)).astype(int)
    return ((np.arange(size) + 0.5) * full / size).astype(int)


def segmentation_loss(  # long: the parts of one sum
    logits: tf.Tensor,
    label: tf.Tensor,
    weights: tf.Tensor,
    jaccard: float,
    convention: str,
    total: Callable[[list[tf.Tensor]], list[tf.Tensor]] = list,
    stride: int = LOSS_STRIDE,
    hard: float = 0.0,
) -> tf.Tensor:
    """Class-weighted cross entropy plus soft Jaccard, at every ``stride``-th pixel of the label.

    logits float32 [b, h, w, c] at any stride; label uint8 [b, height, width] with IGNORE. Half the resolution saves a
    fifth of a step's time and moves no boundary by more than a pixel. ``total``: makes sums over a part of the batch
    those over all of it. ``hard``: see ``Schedule``.
    """
    scores, ids = _sampled(logits, label, convention, stride)
    truth = tf.cast(ids == tf.range(logits.shape[-1])[:, None], tf.float32)  # an ignored pixel is of no class
    scores -= tf.stop_gradient(tf.reduce_max(scores, 0))
    shares = tf.exp(scores)
    sums = tf.reduce_sum(shares, 0)
    pixel_weights = tf.linalg.matvec(truth, weights, transpose_a=True)
    losses = tf.math.log(sums) - tf.reduce_sum(truth * scores, 0)
    if hard:
        pixel_weights *= tf.cast(losses > -math.log(hard), tf.float32)
    lost, weight = total([tf.reduce_sum(losses * pixel_weights), tf.reduce_sum(pixel_weights)])
    loss = lost / tf.maximum(1.0, weight)
    if jaccard:
        guess = shares * (tf.cast(ids != IGNORE, tf.float32) / sums)
        both, pixels, guessed = total([tf.reduce_sum(x, 1) for x in (truth * guess, truth, guess)])
        union = pixels + guessed - both
        present = tf.cast(pixels > 0, tf.float32)
        share = tf.reduce_sum(present * both / tf.maximum(union, 1.0)) / tf.maximum(1.0, tf.reduce_sum(present))
        loss += jaccard * (1 - share)
    return loss


def _sampled(logits: tf.Tensor, label: tf.Tensor, convention: str, stride: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Logits float32 [c, pixels] and class ids int32 [1, pixels] at every ``stride``-th pixel of the label.

    Classes come first: sums over them are faster so.
    """
    full = label.shape[1:3]
    size = [-(-n // stride) for n in full]
    rows, columns = (sample_positions(size[i], full[i], convention) for i in (0, 1))
    label = tf.gather(tf.gather(label, rows, axis=1), columns, axis=2)
    logits = tf.raw_ops.ResizeBilinear(
        images=logits,
        size=size,
        align_corners=convention == "align_corners",
        half_pixel_centers=convention == "half_pixel",
    )
    return tf.transpose(tf.reshape(logits, [-1, logits.shape[-1]])), tf.reshape(tf.cast(label, tf.int32), [1, -1])
