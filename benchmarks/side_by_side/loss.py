"""The loss of ``pipeline.train.loss``: class-weighted cross entropy of the hard pixels, and soft Jaccard."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.side_by_side.network import resize
from pipeline.core.dataset import IGNORE

Array = Any


def segmentation_loss(logits: Array, label: Array, weights: Array, jaccard: Any, hard: Array, stride: int) -> Array:
    """logits float32 [b, h, w, c]; label int32 [b, height, width] with IGNORE; ``jaccard``: 0 leaves it out."""
    full = label.shape[1:]
    size = [-(-n // stride) for n in full]
    rows, columns = (np.rint(np.linspace(0, n - 1, s)).astype(int) for n, s in zip(full, size, strict=True))
    ids = label[:, rows][:, :, columns]
    logits = resize(logits, *size)
    classes = logits.shape[-1]
    truth = jax.nn.one_hot(ids, classes)  # zeros for an ignored pixel
    scores = jax.nn.log_softmax(logits)
    losses = -(truth * scores).sum(-1)
    pixel_weights = (truth * weights).sum(-1)
    pixel_weights = pixel_weights * ((losses > -jnp.log(jnp.maximum(hard, 1e-9))) | (hard <= 0))
    loss = (losses * pixel_weights).sum() / jnp.maximum(1.0, pixel_weights.sum())
    if isinstance(jaccard, int | float) and not jaccard:
        return loss
    guess = jnp.exp(scores) * (ids != IGNORE)[..., None]
    both, pixels, guessed = (x.sum((0, 1, 2)) for x in (truth * guess, truth, guess))
    present = (pixels > 0).astype(jnp.float32)
    share = (present * both / jnp.maximum(pixels + guessed - both, 1.0)).sum() / jnp.maximum(1.0, present.sum())
    return loss + jaccard * (1 - share)
