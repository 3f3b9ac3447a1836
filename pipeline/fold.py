"""Folds a trained network into the graph that ships: batch norm folded, fixed batch of 1, ranges pinned."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import tensorflow as tf
import tf_keras

from pipeline.nouns.preprocessing import SCALE
from pipeline.nouns.ranges import Range, Ranges
from pipeline.quantize import CHANNEL_AXES, KERNELS, WEIGHTED, inputs_of, readers_of

layers = tf_keras.layers

Output = Literal["logits", "scores", "mask"]
INPUT_RANGE = Range(0.0, 255 * SCALE)


class FakeQuantize(tf_keras.layers.Layer):
    """Marks an activation with its int8 range, which the converter takes over as scale and zero point."""

    def __init__(self, chosen: Range, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.range = chosen

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.quantization.fake_quant_with_min_max_args(inputs, self.range.low, self.range.high)


class ArgMax(tf_keras.layers.Layer):
    """[1, h, w, c] → int32 [1, h, w]: the class with the highest logit, the lowest on ties."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.argmax(inputs, axis=-1, output_type=tf.int32)


def fold(
    model: tf_keras.Model, ranges: Ranges | None = None, output: Output = "logits", per_tensor: bool = False
) -> tf_keras.Model:
    """The same function at inference, without batch norm and dropout; with ``ranges``, fake-quantized where they say.

    ``per_tensor`` rounds each kernel to one scale of its own (see ``nouns.tflite.with_per_tensor_kernels``).

    Input float32 [1, h, w, 3]; output logits or scores float32 [1, h, w, classes], or the mask int32 [1, h, w].
    """
    readers = readers_of(model)
    made: dict[str, tf.Tensor] = {}
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer):
            image = layers.Input(layer.input_shape[0][1:], batch_size=1, name="image")
            made[layer.name] = FakeQuantize(INPUT_RANGE)(image) if ranges else image
            continue
        sources = [made[source.name] for source in inputs_of(layer)]
        x = sources if len(sources) > 1 else sources[0]
        norm = next((r for r in readers[layer.name] if isinstance(r, layers.BatchNormalization)), None)
        if isinstance(layer, layers.BatchNormalization | layers.Dropout):
            y = x
        elif isinstance(layer, WEIGHTED):
            y = _folded(layer, norm, x, per_tensor)
        else:
            y = layer.__class__.from_config(layer.get_config())(x)
        if ranges and layer.name in ranges:
            y = FakeQuantize(ranges[layer.name], name=f"{layer.name}_range")(y)
        made[layer.name] = y
    result = made[model.output_names[0]]
    if output == "scores":
        result = layers.Softmax(name="scores")(result)
    elif output == "mask":
        result = ArgMax(name="mask")(result)
    return tf_keras.Model(image, result, name=model.name)


def _folded(layer: Any, norm: Any, x: tf.Tensor, per_tensor: bool) -> tf.Tensor:
    kind = next(t for t in (layers.DepthwiseConv2D, layers.Conv2DTranspose, layers.Conv2D) if isinstance(layer, t))
    kernel = getattr(layer, KERNELS[kind]).numpy()
    bias = layer.bias.numpy() if layer.use_bias else None
    if norm is not None:
        gain = norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
        shape = [1, 1, 1, 1]
        shape[CHANNEL_AXES[kind]] = -1
        kernel = kernel * gain.reshape(shape)
        bias = norm.beta.numpy() + gain * ((0 if bias is None else bias) - norm.moving_mean.numpy())
    config = {**layer.get_config(), "use_bias": bias is not None}
    twin = layer.__class__.from_config(config)
    if per_tensor:
        scale = max(float(np.abs(kernel).max()) / 127, 1e-12)
        kernel = np.rint(kernel / scale) * scale
    y = twin(x)
    twin.set_weights([kernel] if bias is None else [kernel, bias])
    return y
