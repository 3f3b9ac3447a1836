"""Gives the quantization-aware network the arithmetic of LiteRT's reference kernels, to compare it with its file.

Training rounds in floating point where the file rounds in integers. About one value in a thousand then rounds to the
other of its two neighbouring 8-bit steps, and over forty layers these differences add up. Here the same network, with
the same weights and ranges, computes each op from exact integers: int32 accumulators and biases, fixed-point
multipliers, 10-bit resize positions. Any remaining difference from the file is an error in one of the two.

Sources: tensorflow/lite/kernels/internal/{common.cc, quantization_util.cc, reference/integer_ops/, reference/
resize_bilinear.h}.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from models.blocks import BilinearResize
from pipeline.core.errors import BadSpec
from pipeline.core.ranges import Range, Ranges
from pipeline.quantize import network as quantize
from pipeline.quantize import plan as planning
from pipeline.quantize.fold import accumulator_step, folded_weights, input_range

layers = tf_keras.layers

POSITION_BITS = 10
"""Bits of the fraction of a resize's positions."""


def fixed_point(multiplier: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 [n] → (31-bit mantissas, exponents), int64: multiplier = mantissa / 2³¹ · 2^exponent."""
    fraction, exponent = np.frexp(multiplier)
    mantissa = np.floor(fraction * 2.0**31 + 0.5).astype(np.int64)
    full = mantissa == 1 << 31
    return np.where(full, mantissa // 2, mantissa), (exponent + full).astype(np.int64)


def multiply(values: tf.Tensor, mantissa: np.ndarray, exponent: np.ndarray) -> tf.Tensor:
    """int64 [..., n] · multiplier, rounded twice as MultiplyByQuantizedMultiplier does."""
    left, right = np.maximum(exponent, 0), np.maximum(-exponent, 0)
    product = values * (1 << left) * mantissa
    # First to the nearest integer, halves up; then by the power of two, halves away from zero.
    high = tf.bitwise.right_shift(product + (1 << 30), tf.constant(31, tf.int64))
    mask = (np.int64(1) << right) - 1
    rest = tf.bitwise.bitwise_and(high, tf.broadcast_to(mask, tf.shape(high)))
    threshold = (mask >> 1) + tf.cast(high < 0, tf.int64)
    shifted = tf.bitwise.right_shift(high, tf.broadcast_to(right, tf.shape(high)))
    return shifted + tf.cast(rest > threshold, tf.int64)


def divide(total: tf.Tensor, count: int) -> tf.Tensor:
    """Integer division, halves away from zero."""
    return tf.sign(total) * ((tf.abs(total) + count // 2) // count)


def to_integers(values: tf.Tensor, step: Any) -> tf.Tensor:
    """values / step as int64, for ``values`` that are multiples of ``step``; exact below 2²²."""
    return tf.cast(tf.round(tf.cast(values, tf.float64) / step), tf.int64)


def _real(codes: tf.Tensor, output: Range) -> tf.Tensor:
    codes = tf.clip_by_value(codes, -128, 127) - output.zero_point
    return tf.cast(tf.cast(codes, tf.float64) * np.float32(output.scale).astype(np.float64), tf.float32)


@dataclasses.dataclass(frozen=True)
class Accumulator:
    """Rounds the float output of a convolution as the integer one does: from its int32 accumulator.

    Attributes:
      step: float64 [channels], the real value of 1 in the accumulator: input scale times kernel scale.
      bias: float32 [channels], as added to the float output.
    """

    step: np.ndarray
    bias: np.ndarray
    output: Range

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        bias = np.rint(self.bias / self.step).astype(np.int64)
        # A fused ReLU has set negative values to 0, and they stay 0.
        sums = tf.where(values == 0, tf.constant(0, tf.int64), to_integers(values - self.bias, self.step) + bias)
        multiplier = self.step / np.float64(np.float32(self.output.scale))
        return _real(multiply(sums, *fixed_point(multiplier)) + self.output.zero_point, self.output)


@dataclasses.dataclass(frozen=True)
class Mean:
    """Rounds the float output of an average pool as the integer one does: from the sum of ``count`` codes."""

    count: int
    output: Range

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        sums = to_integers(values * self.count, np.float32(self.output.scale)) + self.count * self.output.zero_point
        return _real(divide(sums, self.count), self.output)


@dataclasses.dataclass(frozen=True)
class ScaledSum:
    """The same for a pool that ``pipeline.rewrites.apply`` has rewritten as a MEAN or as a depthwise convolution."""

    count: int
    output: Range
    depthwise: bool

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        sums = to_integers(values * self.count, np.float32(self.output.scale))
        if self.depthwise:  # every weight is 127, times the kernel's scale, and the bias is 1
            sums = 127 * sums + 1
            mantissa, exponent = fixed_point(np.array([np.float32(1 / (127 * self.count))], np.float64))
        else:  # the reference kernel truncates the quotient
            bits = self.count.bit_length() - 1
            mantissa, exponent = np.array([(1 << 30 + bits) // self.count]), np.array([1 - bits])
        return _real(multiply(sums, mantissa, exponent) + self.output.zero_point, self.output)


@dataclasses.dataclass(frozen=True)
class Resize:
    """Resizes as the reference kernel does: positions of 10 bits, weights of 20, one rounding."""

    layer: BilinearResize
    output: Range

    def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
        codes = to_integers(inputs, np.float32(self.output.scale)) + self.output.zero_point
        rows = self._weights(inputs.shape[1], self.layer.height)
        columns = self._weights(inputs.shape[2], self.layer.width)
        # float64 holds these integers exactly: 2²⁰ · 128.
        total = tf.einsum("yh,bhwc,xw->byxc", rows, tf.cast(codes, tf.float64), columns)
        return _real(divide(tf.cast(total, tf.int64), 1 << 2 * POSITION_BITS), self.output)

    def _weights(self, size: int, resized: int) -> np.ndarray:
        """float64 [resized, size]: in each row the weights of two neighbours, which sum to 2¹⁰."""
        unit = 1 << POSITION_BITS
        aligned = self.layer.convention == "align_corners"
        extent, parts = (size - 1, resized - 1) if aligned and resized > 1 else (size, resized)
        step = (unit * extent + parts // 2) // parts
        weights = np.zeros((resized, size))
        for i in range(resized):
            at = i * step if aligned else i * step + step // 2 - unit // 2
            low = max(int(at / unit), 0)  # truncates, as C does
            high = min(int((at + unit - 1) / unit), size - 1)
            weights[i, low] += unit - (at - unit * low)
            weights[i, high] += at - unit * low
        return weights


class Imitation:
    """Within it, ``network``, the quantization-aware form of ``model``, computes in integers.

    Additions stay in floating point: their fixed-point arithmetic has 20 bits to spare. ``ops``: the file's op for each
    layer that was rewritten. Raises BadSpec for an op that is not imitated.
    """

    def __init__(
        self,
        network: tf_keras.Model,
        model: tf_keras.Model,
        ranges: Ranges,
        per_tensor: bool,
        ops: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._exact: list[tuple[Any, Any]] = []
        for name, point in planning.rounded_at(model).items():
            wrapper, layer = network.get_layer(quantize.PREFIX + name), model.get_layer(name)
            if isinstance(layer, BilinearResize):
                self._exact.append((wrapper.layer, Resize(layer, ranges[point])))
            elif isinstance(layer, layers.AveragePooling2D):
                if layer.padding != "valid":
                    raise BadSpec(f"average pool {name!r} pads: only padding 'valid' is imitated.")
                self._exact.append((wrapper.quantize_config.output, _pool(layer, ranges[point], ops.get(name))))
            else:
                self._exact.append((wrapper.quantize_config.output, _accumulator(layer, ranges, per_tensor)))

    def __enter__(self) -> None:
        for rounding, exact in self._exact:
            rounding.exact = exact

    def __exit__(self, *_: object) -> None:
        for rounding, _exact in self._exact:
            rounding.exact = None


def _pool(layer: Any, output: Range, op: str | None) -> Mean | ScaledSum:
    count = math.prod(layer.pool_size)
    if op in ("MEAN", "DEPTHWISE_CONV_2D"):
        return ScaledSum(count, output, op == "DEPTHWISE_CONV_2D")
    return Mean(count, output)


def _accumulator(layer: Any, ranges: Ranges, per_tensor: bool) -> Accumulator | None:
    """For the convolution whose 8-bit output is that of ``layer``; None for other ops."""
    output, norm = ranges[layer.name], None
    while isinstance(layer, planning.FUSED):
        norm = layer if isinstance(layer, layers.BatchNormalization) else norm
        (layer,) = planning.inputs_of(layer)
    if not isinstance(layer, planning.WEIGHTED):
        return None
    source = input_range(layer, ranges)
    if source is None:
        raise BadSpec(f"{layer.name!r} reads a layer that has no range: calibrate the whole network.")
    kernel, bias = folded_weights(layer, norm)
    step = accumulator_step(kernel, planning.channel_axis(layer), source, per_tensor)
    return Accumulator(step, np.zeros(len(step), np.float32) if bias is None else bias, output)
