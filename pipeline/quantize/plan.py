"""Plans the quantized graph: which activations are rounded to 8 bits, and which of them share a range."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf
import tf_keras

from models.blocks import BilinearResize
from pipeline.core.errors import BadSpec
from pipeline.core.ranges import Range, Ranges

layers = tf_keras.layers

WEIGHTED = (layers.Conv2D, layers.DepthwiseConv2D, layers.Conv2DTranspose)
FUSED = (layers.BatchNormalization, layers.ReLU)
"""Fused into the convolution or addition before them, if they are its only reader."""
ARITHMETIC = (*WEIGHTED, *FUSED, layers.Add)
PRESERVING = (
    layers.AveragePooling2D,
    layers.MaxPooling2D,
    layers.Cropping2D,
    layers.ZeroPadding2D,
    layers.Dropout,
    BilinearResize,
)
"""Their 8-bit output has the range of their input."""

KERNELS = {layers.Conv2D: "kernel", layers.Conv2DTranspose: "kernel", layers.DepthwiseConv2D: "depthwise_kernel"}
CHANNEL_AXES = {layers.Conv2D: 3, layers.Conv2DTranspose: 2, layers.DepthwiseConv2D: 2}
"""The axis of the kernel that counts output channels: the LiteRT 8-bit specification's quantized dimension."""


def kind_of(layer: Any) -> type | None:
    """The layer's kind of convolution; None for another layer. A DepthwiseConv2D is a Conv2D too: it comes first."""
    return next(
        (t for t in (layers.DepthwiseConv2D, layers.Conv2DTranspose, layers.Conv2D) if isinstance(layer, t)), None
    )


def channel_axis(layer: Any) -> int:
    return CHANNEL_AXES[kind_of(layer)]


def gain_of(norm: Any, axis: int) -> tf.Tensor:
    """The factor of a batch norm with its moving statistics: float32, shaped to multiply a kernel along ``axis``."""
    gain = norm.gamma * tf.math.rsqrt(norm.moving_variance + norm.epsilon)
    return tf.reshape(gain, [-1 if i == axis else 1 for i in range(4)])


def inputs_of(layer: Any) -> list[Any]:
    return tf.nest.flatten(layer.inbound_nodes[0].inbound_layers)


def origin_of(layer: Any) -> Any:
    """The layer whose range this layer's output has: itself, or the one before its range-preserving layers."""
    while isinstance(layer, PRESERVING):
        (layer,) = inputs_of(layer)
    return layer


def readers_of(model: tf_keras.Model) -> dict[str, list[Any]]:
    """{layer's name: the layers that read its output}."""
    readers: dict[str, list[Any]] = {layer.name: [] for layer in model.layers}
    for layer in model.layers:
        if not isinstance(layer, layers.InputLayer):
            for source in inputs_of(layer):
                readers[source.name].append(layer)
    return readers


def absorbed_by_reader(layer: Any, readers: list[Any]) -> bool:
    """Whether the layer's output never exists in 8 bits: its only reader, a batch norm or ReLU, is fused into it."""
    return isinstance(layer, ARITHMETIC) and len(readers) == 1 and isinstance(readers[0], FUSED)


ROUNDING = (layers.AveragePooling2D, BilinearResize)
"""Range-preserving, but their results lie between the 8-bit steps, so the integer op rounds again."""


@dataclasses.dataclass(frozen=True)
class QuantizationPlan:
    """Where a network's activations are 8-bit.

    Attributes:
      points: names of the layers whose output is quantized, in the order of the graph.
      group: for each point, the first of the points that share its range (a concatenation and its inputs).
    """

    points: tuple[str, ...]
    group: dict[str, str]

    def share(self, measured: Ranges) -> dict[str, Range]:
        """The range of each point: the union over its group."""
        shared: dict[str, Range] = {}
        for point in self.points:
            first = self.group[point]
            shared[first] = shared[first].union(measured[point]) if first in shared else measured[point]
        return {point: shared[self.group[point]] for point in self.points}


def plan(model: tf_keras.Model) -> QuantizationPlan:
    """The plan of a float network; raises BadSpec for a layer that has no quantization rule."""
    readers = readers_of(model)
    points: list[str] = []
    group: dict[str, str] = {}

    def point_before(layer: Any) -> str | None:
        name = origin_of(layer).name
        return name if name in group else None

    def first_of(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    for layer in model.layers:
        if isinstance(layer, (layers.InputLayer, *PRESERVING)):
            continue
        if not isinstance(layer, (layers.Concatenate, *ARITHMETIC)):
            known = sorted(t.__name__ for t in (*ARITHMETIC, *PRESERVING, layers.Concatenate))
            raise BadSpec(
                f"layer {layer.name!r} is a {type(layer).__name__}, which has no quantization rule: build the network"
                f" from {', '.join(known)}."
            )
        if absorbed_by_reader(layer, readers[layer.name]):
            continue
        points.append(layer.name)
        group[layer.name] = layer.name
        if isinstance(layer, layers.Concatenate):
            for source in inputs_of(layer):
                point = point_before(source)
                if point is None:
                    raise BadSpec(
                        f"concatenation {layer.name!r} reads the image directly: put a convolution between them."
                    )
                a, b = sorted((first_of(layer.name), first_of(point)), key=points.index)
                group[b] = a
    return QuantizationPlan(tuple(points), {name: first_of(name) for name in points})


def rounded_at(model: tf_keras.Model) -> dict[str, str]:
    """{layer whose output the integer graph rounds: the point whose range it has}, by their names."""
    points = plan(model).points
    rounded: dict[str, str] = {}
    for layer in model.layers:
        origin = origin_of(layer)
        if origin.name in points and (layer.name in points or isinstance(layer, ROUNDING)):
            rounded[layer.name] = origin.name
    return rounded


def check_ranges(model: tf_keras.Model, ranges: Ranges) -> None:
    """Raises BadSpec where a point of the network has no range."""
    if missing := [point for point in plan(model).points if point not in ranges]:
        raise BadSpec(
            f"there is no range for {len(missing)} of the network's layers, the first of them {missing[0]!r}: these are"
            " the ranges of another network, or not all of them. Calibrate it again: `qat --force`, or `convert"
            " --method ptq`."
        )
