"""Scores all networks on the images that each left out."""

from __future__ import annotations

import concurrent.futures
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.side_by_side.network import resize
from benchmarks.side_by_side.update import Many, Plan, scores_of
from pipeline.core.score import mean_iou_percent
from pipeline.measure.confusion import confusion

TAKEN_BACK = 0.5
"""How much of the class weights' logarithm comes off the logits (``pipeline.train.balance``)."""


def score(plan: Plan, averages: Many, images: Any, labels: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Confusion of each network on each part of what it left out, int64 [networks, parts, truth, guess].

    images, labels: uint8 [n, *size, 3] and [n, *size]; left_out: bool [networks, parts, n].
    """
    networks, parts, _ = left_out.shape
    total = np.zeros((networks, parts, plan.classes, plan.classes), np.int64)
    wanted = np.flatnonzero(left_out.any((0, 1)))

    def count(at: np.ndarray, masks: np.ndarray, net: int) -> None:
        for part in range(parts):
            chosen = left_out[net, part, at]
            total[net, part] += confusion(labels[at[chosen]], masks[net, : len(at)][chosen], plan.classes)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        for start in range(0, len(wanted), plan.batch):
            at = wanted[start : start + plan.batch]
            filled = np.resize(at, plan.batch)  # one shape, so one program
            masks = np.asarray(masks_of(plan, averages, images[filled]))
            list(pool.map(functools.partial(count, at, masks), range(networks)))
    return total


@functools.partial(jax.jit, static_argnums=0)
def masks_of(plan: Plan, averages: Many, images: Any) -> Any:
    """uint8 [networks, n, h, w] of uint8 [n, h, w, 3]."""

    def one(weights: Many, class_weights: Any) -> Any:
        logits = scores_of(weights, images.astype(jnp.float32) / 255, plan.classes)
        scores = resize(logits - TAKEN_BACK * jnp.log(class_weights), *images.shape[1:3])
        return scores.argmax(-1).astype(jnp.uint8)

    return jax.lax.map(lambda x: one(*x), (averages, plan.class_weights))


def miou_percent(confusions: np.ndarray) -> np.ndarray:
    """[…, classes, classes] → […]: the mean over the classes that occur; NaN where nothing was left out."""
    return np.where(confusions.any((-2, -1)), mean_iou_percent(confusions), np.nan)
