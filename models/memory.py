"""The memory that a network needs, worked out before it is taken: what cannot fit is refused, not tried."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from pipeline.core.errors import BadSpec
from pipeline.core.memory import free_bytes
from pipeline.core.spec import ModelSpec

FLOAT32_BYTES = 4
SLACK = 0.75
"""Of the estimate, what must be free: the system can swap, and gives up what it keeps of files."""
OPTIMIZED = 6
"""Copies of the weights while they are trained: themselves, gradients, AdamW's two moments, running means, and the
best checkpoint while it is written."""


def check_weights(spec: ModelSpec, build: Any) -> None:
    """Raises BadSpec where the weights alone, of a network wider than published, are more than what is free.

    ``build``: of the family. The network is described in a graph of its own, which holds no weights.
    """
    import tensorflow as tf

    if spec.alpha <= 1:
        return
    with tf.Graph().as_default():
        needed = FLOAT32_BYTES * build(spec).count_params()
    _check(f"{spec.network} of alpha {spec.alpha:g}", needed, "its weights", "a smaller --alpha")


def check_inference(model: Any, what: str) -> None:
    """Raises BadSpec where the largest layer of the built network, for one image, is more than what is free."""
    largest = max((sum(map(_elements, (layer.input, layer.output))) for layer in model.layers), default=0)
    _check(what, FLOAT32_BYTES * largest, "one image in its largest layer", "a smaller --size or --alpha")


def check_training(model: Any, batch: int, teacher: Any | None = None) -> None:
    """Raises BadSpec where a training step of ``batch`` images is more than what is free; says how many fit.

    ``teacher``: a network that predicts the same images, and keeps nothing of them; it may be made of several.
    """
    weights = OPTIMIZED * FLOAT32_BYTES * model.count_params()
    an_image = FLOAT32_BYTES * sum(_elements(layer.output) for layer in model.layers)
    if teacher is not None:
        layers = [inner for layer in teacher.layers for inner in getattr(layer, "layers", [layer])]
        an_image += FLOAT32_BYTES * max(_elements(layer.output) for layer in layers)
    free = free_bytes()
    fitting = 0 if free is None else int((free / SLACK - weights) / max(1, an_image))
    remedy = f"--batch {fitting}" if fitting > 0 else "a smaller --size or --alpha"
    _check("a training step", weights + batch * an_image, f"{batch} images in all layers and the weights", remedy)


def _check(what: str, needed: int, of: str, remedy: str) -> None:
    free = free_bytes()
    if free is not None and SLACK * needed > free:
        raise BadSpec(
            f"{what} does not fit into memory: {of} need about {needed / (1 << 30):.1f} GiB, and"
            f" {free / (1 << 30):.1f} GiB are free. Take {remedy}, or a machine with more memory."
        )


def _elements(tensors: Any) -> int:
    """Of one image; ``tensors``: one, or a list of them."""
    listed: Iterable[Any] = tensors if isinstance(tensors, list) else [tensors]
    return sum(math.prod(size for size in tensor.shape[1:] if size) for tensor in listed)
