"""Finds layers that have stopped working, on a few images at each scoring: a small part of what the scoring costs."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from pipeline.core.errors import TrainingDiverged
from pipeline.core.preprocessing import Preprocessing
from pipeline.core.score import says_nothing
from pipeline.core.training import Symptom
from pipeline.data.decoded import Decoded

IMAGES = 4
"""So many are looked at."""
SHOWN = 3
"""So many layers of a kind are named in a message; the history names all."""


class Health:
    """Looks at the layers of a network that scores are made of; its weights may change in between."""

    def __init__(self, network: tf_keras.Model, images: Decoded) -> None:
        self._network, self._images = network, images
        self._layers = [layer for layer in network.layers if layer.name != network.input_names[0] and _is_map(layer)]

    def look(self, one_class: str | None) -> tuple[Symptom, ...]:
        """The symptoms, in the network's order, that of its masks last.

        ``one_class``: the class of every pixel of the masks that were scored, where it is a symptom. Raises
        TrainingDiverged for values that are not finite.
        """
        preprocessing = Preprocessing(*self._network.input_shape[1:3])
        count = min(IMAGES, len(self._images))
        each = [self._extremes(tf.constant(preprocessing.tensor(self._images[i][0], "float32"))) for i in range(count)]
        symptoms = []
        for layer, *extremes in zip(self._layers, *each, strict=True):
            low = np.min([x.numpy()[0] for x in extremes], 0)
            high = np.max([x.numpy()[1] for x in extremes], 0)
            symptoms += _symptoms_of(layer, low, high, layer is self._layers[-1])
        if one_class is not None:
            symptoms.append(Symptom(self._network.output_names[0], "one class", says_nothing(one_class)))
        return tuple(symptoms)

    @functools.cached_property
    def _extremes(self) -> tf.types.experimental.GenericFunction:
        """float32 [1, h, w, 3] → of each layer float32 [2, channels]: the least and the largest value of a channel."""
        taps = tf_keras.Model(self._network.input, [layer.output for layer in self._layers])

        def extremes(image: tf.Tensor) -> list[tf.Tensor]:
            outputs = tf.nest.flatten(taps(image, training=False))
            return [tf.stack([tf.reduce_min(x, (0, 1, 2)), tf.reduce_max(x, (0, 1, 2))]) for x in outputs]

        return tf.function(extremes, autograph=False)


def _is_map(layer: tf_keras.layers.Layer) -> bool:
    """Whether its output is a map with more than one place: of one place alone, any channel is constant."""
    nodes = layer.inbound_nodes
    shape = getattr(layer.output, "shape", None) if len(nodes) == 1 else None  # used twice, it has several outputs
    return shape is not None and shape.rank == 4 and None not in shape[1:] and shape[1] * shape[2] > 1


def _symptoms_of(layer: tf_keras.layers.Layer, low: np.ndarray, high: np.ndarray, is_last: bool) -> list[Symptom]:
    """``low``, ``high``: the extremes of its channels."""
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise TrainingDiverged(
            f"the layer {layer.name} gives values that are not finite: lower the learning rate in a new run."
        )
    constant, total = low == high, len(low)
    if is_last and constant.all():
        return [Symptom(layer.name, "constant", "the network's output is the same at every place of every image")]
    if not isinstance(layer, tf_keras.layers.ReLU | tf_keras.layers.Activation):
        return []
    most = getattr(layer, "max_value", None)
    dead, saturated = constant & (high == 0), constant & (high == most)
    counts = {"dead": int(dead.sum()), "saturated": int(saturated.sum())}
    values = {"dead": "0", "saturated": f"{most}"}
    return [
        Symptom(layer.name, kind, f"{n} of {total} channels are {values[kind]} everywhere", n / total)
        for kind, n in counts.items()
        if n
    ]


def described(symptoms: Sequence[Symptom]) -> list[str]:
    """A line for each kind of those that touch a good part of a layer; the others only go to the history."""
    lines = []
    for kind in dict.fromkeys(symptom.kind for symptom in symptoms if symptom.serious):
        those = [symptom for symptom in symptoms if symptom.kind == kind and symptom.serious]
        more = f"; and {len(those) - SHOWN} layers more (see history.jsonl)" if len(those) > SHOWN else ""
        lines.append("; ".join(f"{each.layer}: {each.text}" for each in those[:SHOWN]) + more)
    return lines
