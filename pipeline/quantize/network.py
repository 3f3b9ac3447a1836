"""The quantization-aware network: a TFMOT model that rounds where the plan says so.

Post-training quantization follows the same plan, so both give one graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

from pipeline.core.errors import RunError
from pipeline.core.ranges import Range, Ranges
from pipeline.quantize.plan import (
    CHANNEL_AXES,
    KERNELS,
    QuantizationPlan,
    check_ranges,
    gain_of,
    kind_of,
    readers_of,
    rounded_at,
)

layers = tf_keras.layers


class LearnedRanges:
    """Trainable ranges: each end is its calibrated value times exp(v), v = 0 at the start, one pair of v per group.

    In this form no step can move an end across 0, and one learning rate suits ranges of every size.
    """

    def __init__(self, plan: QuantizationPlan, start: Ranges) -> None:
        self._plan, self._start = plan, start
        firsts = dict.fromkeys(plan.group.values())
        self._logs = {
            first: tuple(tf.Variable(0.0, name=f"{first}_range_{end}") for end in ("low", "high")) for first in firsts
        }

    @property
    def variables(self) -> list[tf.Variable]:
        return [log for pair in self._logs.values() for log in pair]

    def ends(self, point: str) -> tuple[tf.Tensor, tf.Tensor]:
        """(low, high) of the point's range as differentiable scalars."""
        low, high = self._logs[self._plan.group[point]]
        start = self._start[point]
        return start.low * tf.exp(low), start.high * tf.exp(high)

    def current(self) -> dict[str, Range]:
        """The range of each point with the variables' present values. Raises RunError, which names the layer."""
        ranges = {}
        for point in self._plan.points:
            try:
                ranges[point] = Range(*(float(end) for end in self.ends(point)))
            except RunError as error:
                raise RunError(f"layer {point!r}: {error.message}") from None
        return ranges


@tf_keras.utils.register_keras_serializable(package="segquant")
class ActivationRounding(tfmot.quantization.keras.quantizers.Quantizer):
    """Fake quantization to int8 over the calibrated range of a point, or over its learned one.

    Attributes:
      exact: if set, rounds instead, in integers and without a gradient (see ``pipeline.quantize.imitate``).
    """

    def __init__(self, point: str, low: float, high: float) -> None:
        self.point, self.low, self.high = point, low, high
        self.learned: LearnedRanges | None = None
        self.exact: Callable[[tf.Tensor], tf.Tensor] | None = None

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        return {}

    def __call__(self, inputs: tf.Tensor, training: bool, weights: dict[str, Any], **kwargs: Any) -> tf.Tensor:
        if self.exact is not None:
            return self.exact(inputs)
        if self.learned is not None:
            return tf.quantization.fake_quant_with_min_max_vars(inputs, *self.learned.ends(self.point))
        return tf.quantization.fake_quant_with_min_max_args(inputs, self.low, self.high)

    def get_config(self) -> dict[str, Any]:
        return {"point": self.point, "low": self.low, "high": self.high}


@tf_keras.utils.register_keras_serializable(package="segquant")
class WeightRounding(tfmot.quantization.keras.quantizers.Quantizer):
    """Symmetric int8 (−127 … 127) per output channel or per tensor, over the kernel's current extent.

    TFMOT's own quantizer takes the extent of the step before, and only supports the last axis, which for a depthwise
    kernel [h, w, channels, 1] is one range for all channels.

    Attributes:
      axis: the kernel's axis of output channels.
      norm: the batch norm that will be folded into the kernel; the folded kernel is rounded. Per channel, its gain
        matters only if a weight lies at half a step.
    """

    def __init__(self, axis: int, per_tensor: bool = False) -> None:
        self.axis, self.per_tensor = axis, per_tensor
        self.norm: tf_keras.layers.BatchNormalization | None = None

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        return {}

    def __call__(self, inputs: tf.Tensor, training: bool, weights: dict[str, Any], **kwargs: Any) -> tf.Tensor:
        gain = 1.0 if self.norm is None else gain_of(self.norm, self.axis)
        folded = inputs * gain
        others = range(4) if self.per_tensor else [i for i in range(4) if i != self.axis]
        scale = tf.maximum(tf.reduce_max(tf.abs(folded), others, keepdims=True) / 127, 1e-12)
        rounded = tf.math.divide_no_nan(tf.round(folded / scale) * scale, gain)
        return inputs + tf.stop_gradient(rounded - inputs)

    def get_config(self) -> dict[str, Any]:
        return {"axis": self.axis, "per_tensor": self.per_tensor}


@tf_keras.utils.register_keras_serializable(package="segquant")
class PlannedConfig(tfmot.quantization.keras.QuantizeConfig):
    """How one layer is rounded according to the plan: its kernel, if it has one, and its output, if it is rounded."""

    def __init__(
        self, kernel: str | None = None, weights: dict[str, Any] | None = None, output: dict[str, Any] | None = None
    ) -> None:
        self.kernel, self._arguments = kernel, (weights, output)
        self.weights = WeightRounding(**weights) if weights else None
        self.output = ActivationRounding(**output) if output else None

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        return [(getattr(layer, self.kernel), self.weights)] if self.kernel else []

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        if self.kernel:
            setattr(layer, self.kernel, quantize_weights[0])

    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        return []

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        pass

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        return [self.output] if self.output else []

    def get_config(self) -> dict[str, Any]:
        weights, output = self._arguments
        return {"kernel": self.kernel, "weights": weights, "output": output}


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


def quantization_aware(
    model: tf_keras.Model, ranges: Ranges, *, per_tensor: bool = False, learned: LearnedRanges | None = None
) -> tf_keras.Model:
    """The TFMOT model that computes like the int8 file, with the weights of ``model`` and these ranges.

    Each of its layers is named ``quant_<layer>``; ``copy_weights`` copies the trained weights back. With ``learned``,
    which starts at ``ranges``, the ranges are trained as well.
    """
    check_ranges(model, ranges)
    points = rounded_at(model)

    def annotate(layer: Any) -> Any:
        kind = kind_of(layer)
        weights = {"axis": CHANNEL_AXES[kind], "per_tensor": per_tensor} if kind else None
        point = points.get(layer.name)
        output = {"point": point, "low": ranges[point].low, "high": ranges[point].high} if point else None
        config = PlannedConfig(KERNELS[kind] if kind else None, weights, output)
        return tfmot.quantization.keras.quantize_annotate_layer(layer, config)

    # Keras calls every layer for its shapes, four times here: AutoGraph would translate each call first, to no end.
    untranslated = tf.autograph.experimental.do_not_convert
    with tfmot.quantization.keras.quantize_scope():
        annotated = untranslated(tf_keras.models.clone_model)(model, clone_function=annotate)
        annotated.set_weights(model.get_weights())
        quantized = untranslated(tfmot.quantization.keras.quantize_apply)(annotated, PlannedScheme(), PREFIX)
    copy_weights(model, quantized, to_quantized=True)
    readers = readers_of(model)
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        config = quantized.get_layer(PREFIX + layer.name).quantize_config
        if config.output is not None:
            config.output.learned = learned
        norm = next((r for r in readers[layer.name] if isinstance(r, layers.BatchNormalization)), None)
        if config.weights is not None and norm is not None:
            config.weights.norm = quantized.get_layer(PREFIX + norm.name).layer
    if learned is not None:
        # Keras trains the variables that a model has as attributes.
        quantized.learned_range_variables = learned.variables
    return quantized


def rounded_ranges(model: tf_keras.Model) -> list[tuple[str, float, float]]:
    """(point, low, high) of each range that a quantization-aware network starts from; [] for another network."""
    configs = (getattr(layer, "quantize_config", None) for layer in model.layers)
    outputs = (config.output for config in configs if config is not None and config.output is not None)
    return [(output.point, output.low, output.high) for output in outputs]


def copy_weights(model: tf_keras.Model, quantized: tf_keras.Model, to_quantized: bool = False) -> None:
    """Copies every layer's weights from the quantization-aware network to the float one, or the other way."""
    for layer in model.layers:
        if layer.weights:
            # From the wrapper's list: the wrapped layer's own kernel attribute is a tensor after the first call.
            wrapped = {_short_name(v): v for v in quantized.get_layer(PREFIX + layer.name).weights}
            for variable in layer.weights:
                twin = wrapped[_short_name(variable)]
                source, destination = (variable, twin) if to_quantized else (twin, variable)
                destination.assign(source)


def _short_name(variable: Any) -> str:
    return variable.name.rpartition("/")[2]
