"""The quantized graph: where activations are 8-bit, which of them share a range, and the TFMOT model that trains so.

The same plan serves post-training quantization and quantization-aware training, so both give one graph.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

from models.blocks import BilinearResize
from pipeline.nouns.errors import BadSpec
from pipeline.nouns.ranges import Range, Ranges

layers = tf_keras.layers

WEIGHTED = (layers.Conv2D, layers.DepthwiseConv2D, layers.Conv2DTranspose)
FUSED = (layers.BatchNormalization, layers.ReLU)
"""Absorbed by the convolution (or addition) before them, when they are its only reader."""
ARITHMETIC = (*WEIGHTED, *FUSED, layers.Add)
PRESERVING = (
    layers.AveragePooling2D, layers.MaxPooling2D, layers.Cropping2D, layers.ZeroPadding2D, layers.Dropout,
    BilinearResize,
)  # fmt: skip
"""Their 8-bit output has their input's range."""

KERNELS = {layers.Conv2D: "kernel", layers.Conv2DTranspose: "kernel", layers.DepthwiseConv2D: "depthwise_kernel"}
CHANNEL_AXES = {layers.Conv2D: 3, layers.Conv2DTranspose: 2, layers.DepthwiseConv2D: 2}
"""The axis of the kernel that counts output channels: the LiteRT 8-bit specification's quantized dimension."""


def inputs_of(layer: Any) -> list[Any]:
    return tf.nest.flatten(layer.inbound_nodes[0].inbound_layers)


def readers_of(model: tf_keras.Model) -> dict[str, list[Any]]:
    """The layers that read each layer's output, by the latter's name."""
    readers: dict[str, list[Any]] = {layer.name: [] for layer in model.layers}
    for layer in model.layers:
        if not isinstance(layer, layers.InputLayer):
            for source in inputs_of(layer):
                readers[source.name].append(layer)
    return readers


def absorbed_by_reader(layer: Any, readers: list[Any]) -> bool:
    """Whether the layer's output never exists in 8 bits: its only reader is a batch norm or ReLU fused into it."""
    return isinstance(layer, ARITHMETIC) and len(readers) == 1 and isinstance(readers[0], FUSED)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where a network's activations are 8-bit.

    Attributes:
      points: names of the layers whose output is quantized, in the order of the graph.
      group: for each point the first point of those it shares its range with (a concatenation and its inputs).
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


def plan(model: tf_keras.Model) -> Plan:
    """Finds the range points of a float network; raises BadSpec for a layer that has no rule."""
    readers = readers_of(model)
    points: list[str] = []
    group: dict[str, str] = {}

    def point_behind(layer: Any) -> str | None:
        while isinstance(layer, PRESERVING):
            (layer,) = inputs_of(layer)
        return layer.name if layer.name in group else None

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
                behind = point_behind(source)
                if behind is None:
                    raise BadSpec(f"concatenation {layer.name!r} reads the image itself: put a convolution between.")
                a, b = sorted((first_of(layer.name), first_of(behind)), key=points.index)
                group[b] = a
    return Plan(tuple(points), {name: first_of(name) for name in points})


@tf_keras.utils.register_keras_serializable(package="segquant")
class PinnedRange(tfmot.quantization.keras.quantizers.Quantizer):
    """Fake quantization to int8 over a fixed range."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        return {}

    def __call__(self, inputs: tf.Tensor, training: bool, weights: dict[str, Any], **kwargs: Any) -> tf.Tensor:
        return tf.quantization.fake_quant_with_min_max_args(inputs, self.low, self.high)

    def get_config(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high}


@tf_keras.utils.register_keras_serializable(package="segquant")
class PerChannelWeights(tfmot.quantization.keras.quantizers.Quantizer):
    """Symmetric int8 (−127 … 127) per output channel, over the kernel's current extent.

    TFMOT's own quantizer takes the extent of the step before, and knows the last axis only, which for a depthwise
    kernel [h, w, channels, 1] is one range for all channels.
    """

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        return {}

    def __call__(self, inputs: tf.Tensor, training: bool, weights: dict[str, Any], **kwargs: Any) -> tf.Tensor:
        others = [i for i in range(4) if i != self.axis]
        scale = tf.reduce_max(tf.abs(inputs), others, keepdims=True) / 127
        scale = tf.stop_gradient(tf.maximum(scale, 1e-12))
        return inputs + tf.stop_gradient(tf.round(inputs / scale) * scale - inputs)

    def get_config(self) -> dict[str, Any]:
        return {"axis": self.axis}


@tf_keras.utils.register_keras_serializable(package="segquant")
class PlannedConfig(tfmot.quantization.keras.QuantizeConfig):
    """What the plan says of one layer: its kernel in int8 where it has one, its output where it is a range point."""

    def __init__(self, kernel: str | None = None, axis: int = 0, output: tuple[float, float] | None = None) -> None:
        self.kernel, self.axis, self.output = kernel, axis, output

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        return [(getattr(layer, self.kernel), PerChannelWeights(self.axis))] if self.kernel else []

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        if self.kernel:
            setattr(layer, self.kernel, quantize_weights[0])

    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        return []

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        pass

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        return [PinnedRange(*self.output)] if self.output else []

    def get_config(self) -> dict[str, Any]:
        return {"kernel": self.kernel, "axis": self.axis, "output": self.output}


class _NoTransforms(tfmot.quantization.keras.QuantizeLayoutTransform):
    def apply(self, model: Any, layer_quantize_map: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return model, layer_quantize_map


class _NoDefaults(tfmot.quantization.keras.QuantizeRegistry):
    def supports(self, layer: Any) -> bool:
        return False

    def get_quantize_config(self, layer: Any) -> None:
        return None


class PlannedScheme(tfmot.quantization.keras.QuantizeScheme):
    """Every layer's config comes from the plan; TFMOT adds none of its own."""

    def get_layout_transformer(self) -> _NoTransforms:
        return _NoTransforms()

    def get_quantize_registry(self) -> _NoDefaults:
        return _NoDefaults()


PREFIX = "quant_"


def quantization_aware(model: tf_keras.Model, ranges: Ranges) -> tf_keras.Model:
    """The TFMOT model that computes as the int8 file will, with the weights of ``model`` and the given ranges.

    Every layer of it is named ``quant_<layer>``; ``float_weights`` reads the trained weights back.
    """

    def annotate(layer: Any) -> Any:
        kind = next(
            (t for t in (layers.DepthwiseConv2D, layers.Conv2DTranspose, layers.Conv2D) if isinstance(layer, t)), None
        )
        chosen = ranges.get(layer.name)
        config = PlannedConfig(
            KERNELS[kind] if kind else None, CHANNEL_AXES[kind] if kind else 0,
            (chosen.low, chosen.high) if chosen else None,
        )  # fmt: skip
        return tfmot.quantization.keras.quantize_annotate_layer(layer, config)

    with tfmot.quantization.keras.quantize_scope():
        annotated = tf_keras.models.clone_model(model, clone_function=annotate)
        annotated.set_weights(model.get_weights())
        quantized = tfmot.quantization.keras.quantize_apply(annotated, PlannedScheme(), PREFIX)
    copy_weights(model, quantized, to_quantized=True)
    return quantized


def copy_weights(model: tf_keras.Model, quantized: tf_keras.Model, to_quantized: bool = False) -> None:
    """Copies every layer's weights from the quantization-aware network to the float one, or back."""
    for layer in model.layers:
        if layer.weights:
            # By the wrapper's list: the wrapped layer's own kernel attribute is a tensor once it has been called.
            wrapped = {_short_name(v): v for v in quantized.get_layer(PREFIX + layer.name).weights}
            for variable in layer.weights:
                twin = wrapped[_short_name(variable)]
                source, sink = (variable, twin) if to_quantized else (twin, variable)
                sink.assign(source)


def _short_name(variable: Any) -> str:
    return variable.name.rpartition("/")[2]
