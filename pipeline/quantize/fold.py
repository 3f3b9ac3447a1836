"""Folds a trained network into the graph to be converted: batch norm folded, batch size 1, ranges fixed."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import tensorflow as tf
import tf_keras

from models.blocks import BilinearResize, last_resize_of
from pipeline.core.errors import BadSpec
from pipeline.core.file_spec import FileSpec, Stride
from pipeline.core.preprocessing import SCALE
from pipeline.core.ranges import Range, Ranges
from pipeline.quantize.network import WeightRounding
from pipeline.quantize.plan import KERNELS, WEIGHTED, channel_axis, gain_of, inputs_of, kind_of, origin_of, readers_of

layers = tf_keras.layers

INPUT_RANGE = Range(0.0, 255 * SCALE)


class FakeQuantize(tf_keras.layers.Layer):
    """Marks an activation with its int8 range, from which the converter takes scale and zero point."""

    def __init__(self, activation_range: Range, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.range = activation_range

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.quantization.fake_quant_with_min_max_args(inputs, self.range.low, self.range.high)


class ArgMax(tf_keras.layers.Layer):
    """[1, h, w, c] → int32 [1, h, w]: the class with the highest logit, the lowest on ties.

    If c is not a multiple of ``lanes``, the first classes are repeated after the last; on ties the first copy wins.
    """

    def __init__(self, lanes: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lanes = lanes

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        padding = -inputs.shape[-1] % self.lanes
        if padding:
            inputs = tf.concat([inputs, inputs[..., :padding]], -1)
        return tf.argmax(inputs, axis=-1, output_type=tf.int32)


@tf.autograph.experimental.do_not_convert  # no layer here has Python to translate, which takes time and writes files
def fold(model: tf_keras.Model, ranges: Ranges | None = None, spec: FileSpec = FileSpec()) -> tf_keras.Model:
    """The network at inference, without batch norm and dropout; with ``ranges``, fake-quantized at their points.

    Kernels are then rounded with one scale per output channel, or with one per kernel if ``spec`` says so (see
    ``tflite.read.with_per_tensor_kernels``). The spec's input type and weight type are left to the converter.

    Input float32 [1, h, w, 3]; output logits or scores float32 [1, ⌈h/stride⌉, ⌈w/stride⌉, classes], or the mask int32
    [1, ⌈h/stride⌉, ⌈w/stride⌉]. Raises BadSpec for a stride that the network does not have.
    """
    stride = spec.stride
    smaller_resize = last_resize(model, stride) if stride > 1 else None
    readers = readers_of(model)
    outputs: dict[str, tf.Tensor] = {}
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer):
            image = layers.Input(layer.input_shape[0][1:], batch_size=1, name="image")
            outputs[layer.name] = FakeQuantize(INPUT_RANGE, name="image_range")(image) if ranges else image
            continue
        sources = [outputs[source.name] for source in inputs_of(layer)]
        x = sources if len(sources) > 1 else sources[0]
        norm = next((r for r in readers[layer.name] if isinstance(r, layers.BatchNormalization)), None)
        if isinstance(layer, layers.BatchNormalization | layers.Dropout):
            y = x
        elif isinstance(layer, WEIGHTED):
            y = _folded(layer, norm, x, input_range(layer, ranges) if ranges else None, spec.per_tensor)
        elif layer.name == smaller_resize:
            height, width = size_at(stride, *model.input_shape[1:3])
            twin = BilinearResize(height, width, layer.convention, name=layer.name)
            y = x if tuple(outputs[inputs_of(layer)[0].name].shape[1:3]) == (height, width) else twin(x)
        else:
            y = layer.__class__.from_config(layer.get_config())(x)
        if ranges and layer.name in ranges:
            y = FakeQuantize(ranges[layer.name], name=f"{layer.name}_range")(y)
        outputs[layer.name] = y
    result = outputs[model.output_names[0]]
    if spec.output == "scores":
        result = layers.Softmax(name="scores")(result)
    elif spec.output == "mask":
        result = ArgMax(spec.argmax_lanes, name="mask")(result)
    return tf_keras.Model(image, result, name=model.name)


def size_at(stride: int, height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of an output with one sample for every ``stride`` pixels of the image."""
    return -(-height // stride), -(-width // stride)


def last_resize(model: tf_keras.Model, stride: Stride) -> str:
    """The name of the resize that brings the logits to the image's size, and now stops at ``stride``.

    Raises BadSpec if the network has none, or if its logits are coarser than the stride.
    """
    last = last_resize_of(model)
    if last is None:
        raise BadSpec(
            f"output stride {stride} does not fit {model.name}, which does not end in a resize of its logits: choose 1."
        )
    rows, columns = inputs_of(last)[0].output_shape[1:3]
    sizes = {s: size_at(s, *model.input_shape[1:3]) for s in get_args(Stride)}
    strides = [s for s, size in sizes.items() if size[0] >= rows and size[1] >= columns]
    if stride not in strides:
        raise BadSpec(
            f"output stride {stride} does not fit {model.name}, whose logits are {rows}x{columns} before their last"
            f" resize: choose one of {', '.join(map(str, strides))}."
        )
    return str(last.name)


def input_range(layer: Any, ranges: Ranges) -> Range | None:
    """The range of a layer's input in the quantized graph; None if ``ranges`` lacks it."""
    (source,) = map(origin_of, inputs_of(layer))
    return INPUT_RANGE if isinstance(source, layers.InputLayer) else ranges.get(source.name)


def folded_weights(layer: Any, norm: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Kernel and bias of a convolution, with the batch norm ``norm`` (None: none) that follows it folded in."""
    kernel = getattr(layer, KERNELS[kind_of(layer)]).numpy()
    bias = layer.bias.numpy() if layer.use_bias else None
    if norm is None:
        return kernel, bias
    gain = gain_of(norm, channel_axis(layer)).numpy()
    shift = norm.beta.numpy() + gain.ravel() * ((0 if bias is None else bias) - norm.moving_mean.numpy())
    return kernel * gain, shift


def accumulator_step(kernel: np.ndarray, axis: int, source: Range, per_tensor: bool) -> np.ndarray:
    """The real value of 1 in the int32 accumulator, float64 [channels]: input scale times kernel scale.

    ``source``: the range of the input.
    """
    others = tuple(range(4)) if per_tensor else tuple(i for i in range(4) if i != axis)
    scale = np.broadcast_to(np.abs(kernel).max(others) / np.float32(127), kernel.shape[axis])
    return np.maximum(scale, 1e-12) * np.float64(np.float32(source.scale))


def _folded(layer: Any, norm: Any, x: tf.Tensor, source: Range | None, per_tensor: bool) -> tf.Tensor:
    """The layer, with ``norm`` folded in, called on ``x``.

    With ``source``, the range of ``x``, kernel and bias are rounded to their integer grids here: the converter, which
    computes in another precision, then has nothing to round.
    """
    kernel, bias = folded_weights(layer, norm)
    twin = layer.__class__.from_config({**layer.get_config(), "use_bias": bias is not None})
    if source is not None:
        axis = channel_axis(layer)
        kernel = WeightRounding(axis, per_tensor)(tf.constant(kernel), False, {}).numpy()
        if bias is not None:
            step = accumulator_step(kernel, axis, source, per_tensor)
            bias = np.rint(bias / step) * step
    y = twin(x)
    twin.set_weights([kernel] if bias is None else [kernel, bias])
    return y
