"""Fast-SCNN as ``models.fast_scnn`` builds it: images → logits, before they are resized to the image's size."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = Any
Weights = Mapping[str, Array]
BINS = (1, 2, 3, 6)
AUXILIARY = ("ltd_ds2_pw_relu", "ppm_out_relu")
MOVING = ("moving_mean", "moving_variance")
EPSILON, MOMENTUM = 1e-3, 0.97


class Layers:
    """The layers of one pass, by the names that Keras gives them.

    Attributes:
      weights: by "layer/variable"; None to learn their shapes alone.
      shapes: of the weights that were asked for, and how they begin.
      statistics: of this batch, with the names of the moving ones; empty where not training.
      outputs: of the layers whose names are in ``AUXILIARY``.
    """

    def __init__(self, weights: Weights | None, training: bool, key: Array = None, dropout: Array = 0.0) -> None:
        self.weights, self.training, self.key, self.rate = weights, training, key, dropout
        self.shapes: dict[str, tuple[tuple[int, ...], str]] = {}
        self.statistics: dict[str, Array] = {}
        self.outputs: dict[str, Array] = {}

    def weight(self, name: str, shape: tuple[int, ...], start: str) -> Array:
        self.shapes[name] = (shape, start)
        return jnp.zeros(shape) if self.weights is None else self.weights[name]

    def conv(  # long: as Blocks.conv
        self,
        x: Array,
        filters: int,
        kernel: int,
        stride: int = 1,
        *,
        name: str,
        norm: bool = True,
        relu: bool = True,
        bias: bool = False,
    ) -> Array:
        channels = x.shape[-1]
        start = "he_normal" if relu else "glorot_uniform"
        weights = self.weight(f"{name}/kernel", (kernel, kernel, channels, filters), start)
        if kernel > 1:
            x = jnp.concatenate(shifted(x, kernel, stride, 1), -1)
        x = product(x, weights.reshape(-1, filters))
        if bias:
            x = x + self.weight(f"{name}/bias", (filters,), "zeros")
        return self.finish(x, name, norm, relu)

    def depthwise(self, x: Array, stride: int = 1, *, name: str, dilation: int = 1, relu: bool = True) -> Array:
        weights = self.weight(f"{name}/depthwise_kernel", (3, 3, x.shape[-1], 1), "glorot_uniform")
        x = each_channel(x, weights[..., 0], stride, dilation)
        return self.finish(x, name, True, relu)

    def finish(self, x: Array, name: str, norm: bool, relu: bool) -> Array:
        if norm:
            x = self.norm(x, f"{name}_bn")
        if relu:
            x = jax.nn.relu(x)
        if f"{name}_relu" in AUXILIARY:
            self.outputs[f"{name}_relu"] = x
        return x

    def norm(self, x: Array, name: str) -> Array:
        channels = (x.shape[-1],)
        gamma, beta = self.weight(f"{name}/gamma", channels, "ones"), self.weight(f"{name}/beta", channels, "zeros")
        mean = self.weight(f"{name}/moving_mean", channels, "zeros")
        variance = self.weight(f"{name}/moving_variance", channels, "ones")
        if self.training:
            count = x.size // x.shape[-1]
            mean = x.mean((0, 1, 2))
            variance = jnp.maximum(0.0, (x * x).mean((0, 1, 2)) - mean * mean)
            self.statistics[f"{name}/moving_mean"] = mean
            self.statistics[f"{name}/moving_variance"] = variance * (count / (count - 1))
        return (x - mean) * (gamma * jax.lax.rsqrt(variance + EPSILON)) + beta

    def dropout(self, x: Array) -> Array:
        if not self.training:
            return x
        kept = jax.random.uniform(self.key, x.shape) >= self.rate
        return jnp.where(kept, x / (1 - self.rate), 0.0)


@jax.custom_vjp
def product(x: Array, weights: Array) -> Array:
    """[b, h, w, i] · [i, o]. The weights' gradient is summed row by row: as one product, it is slow on a GPU."""
    return x @ weights


def _product_forward(x: Array, weights: Array) -> tuple[Array, tuple[Array, Array]]:
    return product(x, weights), (x, weights)


def _product_backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, weights = kept
    return gradient @ weights.T, jnp.einsum("bhwi,bhwo->bhio", x, gradient).sum((0, 1))


product.defvjp(_product_forward, _product_backward)


def _each_channel(x: Array, weights: Array, stride: int, dilation: int) -> Array:
    return sum(part * weights[n // 3, n % 3] for n, part in enumerate(shifted(x, 3, stride, dilation)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def each_channel(x: Array, weights: Array, stride: int, dilation: int) -> Array:
    """Depthwise 3×3: [b, h, w, c] with [3, 3, c]."""
    return _each_channel(x, weights, stride, dilation)


def _each_forward(x: Array, weights: Array, stride: int, dilation: int) -> tuple[Array, tuple[Array, Array]]:
    return _each_channel(x, weights, stride, dilation), (x, weights)


def _each_backward(stride: int, dilation: int, kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    _, back = jax.vjp(lambda x, weights: _each_channel(x, weights, stride, dilation), *kept)
    to_x, to_weights = back(gradient)
    # Alone where it spreads over strides: within another kernel, it is worked out again for each of its outputs.
    return (jax.lax.optimization_barrier(to_x) if stride > 1 else to_x), to_weights


each_channel.defvjp(_each_forward, _each_backward)


def shifted(x: Array, kernel: int, stride: int, dilation: int) -> list[Array]:
    """What each weight of a 'same' convolution meets, row by row; [b, h, w, c] → kernel² of [b, ⌈h/s⌉, ⌈w/s⌉, c]."""
    sizes = [-(-n // stride) for n in x.shape[1:3]]
    reach = (kernel - 1) * dilation + 1
    padding = [max(0, (size - 1) * stride + reach - n) for size, n in zip(sizes, x.shape[1:3], strict=True)]
    x = jnp.pad(x, ((0, 0), *((n // 2, n - n // 2) for n in padding), (0, 0)))
    ends = [(size - 1) * stride + 1 for size in sizes]
    starts = [n * dilation for n in range(kernel)]
    return [x[:, i : i + ends[0] : stride, j : j + ends[1] : stride] for i in starts for j in starts]


def resize(x: Array, height: int, width: int) -> Array:
    """Bilinear, corners aligned; [b, h, w, c] → [b, height, width, c]."""
    rows, columns = interpolation(x.shape[1], height), interpolation(x.shape[2], width)
    return jnp.einsum("Hh,bhwc,Ww->bHWc", rows, x, columns, precision="highest")


def interpolation(size: int, larger: int) -> np.ndarray:
    """What each of ``larger`` samples takes of each of ``size``; float32 [larger, size]."""
    at = np.arange(larger) * (size - 1) / max(1, larger - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(size))).astype(np.float32)


def pool(x: Array, bins: int) -> Array:
    """Average over ``bins`` × ``bins`` windows, as the pyramid of ``models.fast_scnn`` has them."""

    def windows(size: int) -> np.ndarray:
        stride = size // bins
        window = size - (bins - 1) * stride
        starts = np.arange(bins)[:, None] * stride
        cells = np.arange(size)
        return ((cells >= starts) & (cells < starts + window)).astype(np.float32) / window

    rows, columns = windows(x.shape[1]), windows(x.shape[2])
    return jnp.einsum("Hh,bhwc,Ww->bHWc", rows, x, columns, precision="highest")


def logits_of(layers: Layers, images: Array, classes: int, auxiliary: bool = True) -> list[Array]:
    """float32 [b, h, w, 3] → logits [b, ⌈h/8⌉, ⌈w/8⌉, classes], and while training those of each auxiliary head."""

    def separable(x: Array, filters: int, stride: int, name: str) -> Array:
        return layers.conv(layers.depthwise(x, stride, relu=False, name=f"{name}_dw"), filters, 1, name=f"{name}_pw")

    def bottleneck(x: Array, filters: int, stride: int, name: str) -> Array:
        y = layers.conv(x, 6 * x.shape[-1], 1, name=f"{name}_expand")
        y = layers.depthwise(y, stride, name=f"{name}_dw")
        y = layers.conv(y, filters, 1, relu=False, name=f"{name}_project")
        return y + x if stride == 1 and x.shape[-1] == filters else y

    x = layers.conv(images, 32, 3, 2, name="ltd_conv")
    x = separable(x, 48, 2, "ltd_ds1")
    x = high = separable(x, 64, 2, "ltd_ds2")
    for stage, (filters, stride) in enumerate(((64, 2), (96, 2), (128, 1)), 1):
        for n in range(1, 4):
            x = bottleneck(x, filters, stride if n == 1 else 1, f"gfe{stage}_{n}")
    branches = [x]
    for bins in BINS:
        y = layers.conv(pool(x, bins), 32, 1, name=f"ppm_conv{bins}")
        branches.append(resize(y, *x.shape[1:3]))
    x = layers.conv(jnp.concatenate(branches, -1), 128, 1, name="ppm_out")
    x = layers.depthwise(resize(x, *high.shape[1:3]), dilation=4, name="fusion_dw")
    x = layers.conv(x, 128, 1, relu=False, bias=True, name="fusion_low")
    x = jax.nn.relu(x + layers.conv(high, 128, 1, relu=False, bias=True, name="fusion_high"))
    x = separable(x, 128, 1, "head_ds1")
    x = layers.dropout(separable(x, 128, 1, "head_ds2"))
    outputs = [layers.conv(x, classes, 1, norm=False, relu=False, bias=True, name="head_logits")]
    if layers.training and auxiliary:
        for name, x in layers.outputs.items():
            outputs.append(layers.conv(x, classes, 1, norm=False, relu=False, bias=True, name=f"aux_{name}"))
    return outputs


def fresh(size: tuple[int, int], classes: int, seed: int) -> dict[str, np.ndarray]:
    """Weights to begin with, drawn as Keras draws them."""
    layers = Layers(None, True, jax.random.key(0))
    jax.eval_shape(lambda x: logits_of(layers, x, classes), jax.ShapeDtypeStruct((2, *size, 3), jnp.float32))
    rng = np.random.default_rng(seed)
    return {name: _drawn(rng, *layers.shapes[name]).astype(np.float32) for name in sorted(layers.shapes)}


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], start: str) -> np.ndarray:
    if start in ("zeros", "ones"):
        return np.full(shape, float(start == "ones"))
    area, inputs, outputs = shape[0] * shape[1], shape[2], shape[3]
    if start == "glorot_uniform":
        limit = math.sqrt(6 / (area * (inputs + outputs)))
        return rng.uniform(-limit, limit, shape)
    values = rng.normal(size=shape)
    while (far := np.abs(values) > 2).any():  # truncated at two deviations, which makes the others smaller
        values[far] = rng.normal(size=int(far.sum()))
    return values * (math.sqrt(2 / (area * inputs)) / 0.87962566103423978)
