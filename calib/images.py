"""Chooses the images that calibrate a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from pipeline.core.dataset import Sample
from pipeline.core.registry import pick


@dataclasses.dataclass(frozen=True)
class Candidates:
    """The images to choose from, with what the selections need to know; each is computed when it is first needed.

    Attributes:
      shares: () → float64 [samples, classes], the share of each class in each label; raises BadSpec without labels.
      features: () → float64 [samples, features], the network's pooled activations.
    """

    samples: Sequence[Sample]
    shares: Callable[[], np.ndarray]
    features: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Selection:
    """One way to choose images; ``pick``: (candidates, count, seed) → distinct indices."""

    name: str
    title: str
    pick: Callable[[Candidates, int, int], Sequence[int]]


def first(candidates: Candidates, count: int, seed: int) -> Sequence[int]:
    return range(count)


def random(candidates: Candidates, count: int, seed: int) -> Sequence[int]:
    picked = np.random.default_rng(seed).permutation(len(candidates.samples))[:count]
    return [int(i) for i in picked]


def class_balanced(candidates: Candidates, count: int, seed: int) -> Sequence[int]:
    """Adds, image by image, the one that raises Σ √(pixels of the class) most: rare classes gain most per pixel."""
    shares = candidates.shares()
    picked: list[int] = []
    total = np.zeros(shares.shape[1])
    left = np.ones(len(shares), bool)
    for _ in range(count):
        gain = np.sqrt(total + shares).sum(1)
        best = int(np.where(left, gain, -np.inf).argmax())
        picked.append(best)
        left[best] = False
        total += shares[best]
    return picked


def coverage(candidates: Candidates, count: int, seed: int) -> Sequence[int]:
    """Greedy k-centre (Gonzalez 1985): first the image nearest the mean, then always the one farthest from all chosen.

    Distances are Euclidean between pooled features, each divided by its standard deviation over the candidates.
    """
    features = candidates.features()
    spread = features.std(0)
    features = (features - features.mean(0)) / np.where(spread > 0, spread, 1)
    picked = [int(np.square(features).sum(1).argmin())]
    nearest = np.square(features - features[picked[0]]).sum(1)
    while len(picked) < count:
        nearest[picked[-1]] = -1
        picked.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.square(features - features[picked[-1]]).sum(1))
    return picked


SELECTIONS = {
    s.name: s
    for s in (
        Selection("first", "the first ones by name", first),
        Selection("random", "drawn at random", random),
        Selection("class-balanced", "rare classes first, by their labels", class_balanced),
        Selection("coverage", "most different to the network (greedy k-centre on its pooled features)", coverage),
    )
}


def selection(name: str) -> Selection:
    """Raises UnknownName."""
    return pick(SELECTIONS, "selection", name)


def choose(candidates: Candidates, count: int, method: Selection, seed: int) -> tuple[Sample, ...]:
    """``count`` different samples, or all of them if there are fewer, in the order of the candidates."""
    if count >= len(candidates.samples):
        return tuple(candidates.samples)
    return tuple(candidates.samples[i] for i in sorted(method.pick(candidates, count, seed)))


def pooled_features(model: tf_keras.Model, points: Sequence[str], images: Iterable[np.ndarray]) -> np.ndarray:
    """Spatial means of the activations of each layer of ``points``, float64 [images, sum of their channels].

    ``images``: float32 [1, h, w, 3] tensors as the network takes them.
    """
    taps = tf_keras.Model(model.input, [model.get_layer(name).output for name in points])

    @tf.function(autograph=False)
    def pooled(image: tf.Tensor) -> tf.Tensor:
        outputs = tf.nest.flatten(taps(image, training=False))
        return tf.concat([tf.reduce_mean(x, [0, 1, 2]) for x in outputs], 0)

    return np.stack([pooled(tf.constant(image)).numpy() for image in images]).astype(np.float64)
