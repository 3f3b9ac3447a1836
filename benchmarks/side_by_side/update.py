"""One step of all networks: their batches, losses and gradients, new weights and running means (``pipeline.train``)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.side_by_side.batch import batch_of
from benchmarks.side_by_side.loss import segmentation_loss
from benchmarks.side_by_side.network import MOMENTUM, MOVING, Layers, logits_of

Array = Any
Many = dict[str, Array]
"""By name; the first axis is that of the networks."""
LOSS_STRIDE, AUXILIARY_STRIDE = 2, 8
BETAS, ADAM_EPSILON, CLIP = (0.9, 0.999), 1e-7, 5.0
DECAYED = ("kernel", "depthwise_kernel")


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What does not change while all train.

    Attributes:
      classes, size, batch: as in ``train``.
      settings: of each network, float32 [networks].
      class_weights: float32 [networks, classes].
      shares: float32 [networks, 256], how often each class is pasted.
      seeds: int [networks], of the draws.
      taught: the networks that learn from the mean of a group's running means as well.
      groups: float32 [taught, taught]: what each takes of each; the networks of a group have one seed.
    """

    classes: int
    size: tuple[int, int]
    batch: int
    settings: Many
    class_weights: np.ndarray
    shares: np.ndarray
    seeds: np.ndarray
    taught: np.ndarray
    groups: np.ndarray


def split(weights: Many) -> tuple[Many, Many]:
    """Those that are trained, and the moving statistics."""
    moving = {name: x for name, x in weights.items() if name.rsplit("/")[-1] in MOVING}
    return {name: x for name, x in weights.items() if name not in moving}, moving


def begin(weights: Many) -> dict[str, Any]:
    """The state before the first step."""

    def zeros() -> Many:
        return {name: jnp.zeros_like(x) for name, x in split(weights)[0].items()}

    def copied() -> Many:
        return {name: jnp.array(x) for name, x in weights.items()}

    return {"weights": copied(), "first": zeros(), "second": zeros(), "averages": copied(), "step": jnp.int32(0)}


def learning_rate(peak: Array, step: Array, steps: Array) -> Array:
    left = jnp.maximum(0.0, 1 - step / steps)
    return peak * jnp.minimum((step + 1) / jnp.maximum(1, steps // 20), left**0.9)


def loss_of(  # long: what a loss depends on
    trained: Many,
    moving: Many,
    images: Array,
    labels: Array,
    key: Array,
    settings: Many,
    class_weights: Array,
) -> tuple[Array, tuple[Array, Many]]:
    """Of one network; and its logits, and the statistics of the batch."""
    layers = Layers({**trained, **moving}, True, key, settings["dropout"])
    logits, *auxiliary = logits_of(layers, images, len(class_weights))
    hard = settings["hard"]
    loss = segmentation_loss(logits, labels, class_weights, settings["jaccard"], hard, LOSS_STRIDE)
    for each in auxiliary:
        loss += settings["auxiliary"] * segmentation_loss(each, labels, class_weights, 0, hard, AUXILIARY_STRIDE)
    return loss, (logits, layers.statistics)


def scores_of(weights: Many, images: Array, classes: int) -> Array:
    """Logits of one network that does not train."""
    return logits_of(Layers(weights, False), images, classes)[0]


def updated(state: dict[str, Any], gradients: Many, statistics: Many, settings: Many, steps: Array) -> dict[str, Any]:
    """One network's state after a step: AdamW with decoupled decay, then the running means."""
    step = state["step"].astype(jnp.float32)
    rate = learning_rate(settings["learning_rate"], step, steps)
    correction = jnp.sqrt(1 - BETAS[1] ** (step + 1)) / (1 - BETAS[0] ** (step + 1))
    weights, first, second = dict(state["weights"]), {}, {}
    for name, gradient in gradients.items():
        norm = jnp.sqrt((gradient * gradient).sum())
        gradient = gradient * (CLIP / jnp.maximum(norm, CLIP))
        weight = weights[name]
        if name.rsplit("/")[-1] in DECAYED:
            weight = weight - weight * settings["weight_decay"] * rate
        first[name] = state["first"][name] + (gradient - state["first"][name]) * (1 - BETAS[0])
        second[name] = state["second"][name] + (gradient * gradient - state["second"][name]) * (1 - BETAS[1])
        weights[name] = weight - first[name] * (rate * correction) / (jnp.sqrt(second[name]) + ADAM_EPSILON)
    for name, seen in statistics.items():
        weights[name] = weights[name] * MOMENTUM + seen * (1 - MOMENTUM)
    kept = jnp.where(settings["average"] > 0, jnp.maximum(0.0, 1 - settings["average"] / steps), 0.0)
    kept = jnp.minimum(kept, (1 + step) / (10 + step))
    averages = {name: x - (x - weights[name]) * (1 - kept) for name, x in state["averages"].items()}
    return {"weights": weights, "first": first, "second": second, "averages": averages, "step": state["step"] + 1}


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def train(  # long: the data of one program
    plan: Plan, state: dict[str, Any], images: Array, labels: Array, chosen: Array, steps: Array
) -> tuple[Any, Array]:
    """Takes a step for each row of ``chosen``, the images of each network's batches: int32 [rows, networks, n + 2].

    ``steps``: of the whole training. Returns the state and the losses, float32 [rows, networks].
    """

    def one(state: dict[str, Any], chosen: Array) -> tuple[dict[str, Any], Array]:
        keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), state["step"]))(plan.seeds)

        def batch(at: Array, key: Array, settings: Many, shares: Array) -> tuple[Array, Array]:
            return batch_of(images[at], labels[at], key, plan.size, settings, shares)

        pixels, ids = jax.vmap(batch)(chosen, keys, plan.settings, plan.shares)
        trained, moving = split(state["weights"])
        teacher = None
        if len(plan.taught):
            shown = jax.vmap(lambda w, x: jax.nn.softmax(scores_of(w, x, plan.classes)))(
                {name: x[plan.taught] for name, x in state["averages"].items()}, pixels[plan.taught]
            )
            teacher = jnp.einsum("rs,sbhwc->rbhwc", plan.groups, shown)

        def total(trained: Many) -> tuple[Array, tuple[Array, Many]]:
            dropping = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
            losses, (logits, statistics) = jax.vmap(loss_of)(
                trained, moving, pixels, ids, dropping, plan.settings, plan.class_weights
            )
            if teacher is not None:
                guess = jax.nn.log_softmax(logits[plan.taught])
                far = (teacher * (jnp.log(teacher + 1e-9) - guess)).sum(-1).mean((1, 2, 3))
                losses = losses.at[plan.taught].add(plan.settings["distil"][plan.taught] * far)
            return losses.sum(), (losses, statistics)

        gradients, (losses, statistics) = jax.grad(total, has_aux=True)(trained)
        axes = {"weights": 0, "first": 0, "second": 0, "averages": 0, "step": None}
        step = jax.vmap(functools.partial(updated, steps=steps), (axes, 0, 0, 0), axes)
        return step(state, gradients, statistics, plan.settings), losses

    return jax.lax.scan(one, state, chosen)
