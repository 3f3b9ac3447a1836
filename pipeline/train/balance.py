"""Balances the classes: what each weighs in the loss, and what of that comes off the logits again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import tf_keras

from models.blocks import logits_bias_of

TAKEN_BACK = 0.5
"""How much of the class weights' logarithm comes off the logits of what is scored and kept.

The loss weighs rare classes up, so the network names them too often. Taking half back was worth 0.3 to 0.5 points of
mIoU on each of two CamVid drives that were left out of the training; so was a quarter. All of it lost 0.1 to 0.4.
"""


def frequencies_of(pixels: np.ndarray) -> np.ndarray:
    """Share of each class among the labelled pixels, float64 [classes]; ``pixels``: int64 [images, classes]."""
    counts = pixels.sum(0)
    return counts / counts.sum()


def class_weights(frequencies: np.ndarray) -> np.ndarray:
    """1 / ln(1.02 + frequency), normalised to a mean of 1 (ENet, arXiv 1606.02147, section 5.2); float32 [classes]."""
    weights = 1 / np.log(1.02 + frequencies)
    return (weights / weights.mean()).astype(np.float32)


def rare_classes(weights: np.ndarray) -> tuple[int, ...]:
    """Ids of the classes that weigh more than the mean class in the loss; float32 [classes]."""
    return tuple(int(i) for i in np.flatnonzero(weights > weights.mean()))


def left(class_weights: np.ndarray) -> np.ndarray:
    """What of the class weights of its loss is in the logits of a network that was kept; float32 [classes], both."""
    return class_weights ** (1 - TAKEN_BACK)


@contextlib.contextmanager
def adjusted(model: tf_keras.Model, class_weights: np.ndarray) -> Iterator[np.ndarray]:
    """Within it, a part of the class weights' logarithm is off the logits (Menon et al., arXiv 2007.07314).

    ``class_weights``: float32 [classes]. Yields those that are left: all of them where the network has no bias that is
    added to its logits.
    """
    bias = logits_bias_of(model)
    if bias is None:
        yield class_weights
        return
    before = bias.numpy()
    bias.assign(before - TAKEN_BACK * np.log(class_weights))
    try:
        yield left(class_weights)
    finally:
        bias.assign(before)
