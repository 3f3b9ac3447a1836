"""Layers that the families share. TFMOT can annotate, quantize, save and load each, and the converter takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

from pipeline.core.spec import ModelSpec, Resize

layers = tf_keras.layers


@tf_keras.utils.register_keras_serializable(package="segquant")
class BilinearResize(tf_keras.layers.Layer):
    """Bilinear resize to a fixed size: [b, h, w, c] → [b, height, width, c].

    align_corners converts to RESIZE_BILINEAR version 2, which every compiler takes; half_pixel to version 3.
    Keras' own Resizing and UpSampling2D have half_pixel only.

    Attributes:
      exact: resizes in place of this layer, in integers (see ``pipeline.quantize.imitate``); None for the layer itself.
    """

    exact: Callable[[tf.Tensor], tf.Tensor] | None = None

    def __init__(self, height: int, width: int, convention: Resize = "align_corners", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.height, self.width, self.convention = height, width, convention

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if self.exact is not None:
            return self.exact(inputs)
        return tf.raw_ops.ResizeBilinear(
            images=inputs,
            size=[self.height, self.width],
            align_corners=self.convention == "align_corners",
            half_pixel_centers=self.convention == "half_pixel",
        )

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], self.height, self.width, input_shape[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "height": self.height, "width": self.width, "convention": self.convention}


def last_resize_of(model: tf_keras.Model) -> Any | None:
    """The layer that resizes the logits to the image's size, under any name, wrapped by TFMOT or not.

    None where the network does not end in a resize: then its logits have that size already.
    """
    last = model.get_layer(model.output_names[0])
    return last if isinstance(getattr(last, "layer", last), BilinearResize) else None


def logits_bias_of(model: tf_keras.Model) -> tf.Variable | None:
    """A bias of the convolution that ends the network, or that its last resize takes, or of one that is added there.

    None where there is none: whatever is added to this one is added to all logits.
    """
    last = last_resize_of(model)
    ends = [model.output if last is None else last.input]
    while ends:
        layer = ends.pop()._keras_history.layer
        if isinstance(layer, layers.Add):
            ends.extend(layer.input)
        elif isinstance(layer, layers.Conv2D) and layer.activation is tf_keras.activations.linear and layer.use_bias:
            return layer.bias
    return None


class Blocks:
    """Builds layers under one spec: its channel multiplier, batch norm, L2 and resize convention."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.l2 = tf_keras.regularizers.L2(spec.l2) if spec.l2 else None

    def conv(  # long: the arguments of a layer, as Keras has them
        self,
        x: tf.Tensor,
        filters: int,
        kernel: int,
        stride: int = 1,
        *,
        name: str,
        norm: bool = True,
        relu: bool = True,
        bias: bool = False,
        scaled: bool = True,
    ) -> tf.Tensor:
        """Conv2D 'same' → batch norm → ReLU. Without batch norm the convolution gets a bias."""
        norm = norm and self.spec.batch_norm
        x = layers.Conv2D(
            self.spec.channels(filters) if scaled else filters,
            kernel,
            stride,
            "same",
            use_bias=bias or not norm,
            kernel_regularizer=self.l2,
            name=name,
            kernel_initializer="he_normal" if relu else "glorot_uniform",
        )(x)
        return self._finish(x, name, norm, relu)

    def depthwise(  # long: the arguments of a layer, as Keras has them
        self,
        x: tf.Tensor,
        stride: int = 1,
        *,
        name: str,
        dilation: int = 1,
        kernel: int = 3,
        norm: bool = True,
        relu: bool = True,
        bias: bool = False,
        padding: str = "same",
        initializer: Any = "glorot_uniform",
    ) -> tf.Tensor:
        """DepthwiseConv2D → batch norm → ReLU."""
        norm = norm and self.spec.batch_norm
        x = layers.DepthwiseConv2D(
            kernel,
            stride,
            padding,
            dilation_rate=dilation,
            use_bias=bias,
            depthwise_regularizer=self.l2,
            depthwise_initializer=initializer,
            name=name,
        )(x)
        return self._finish(x, name, norm, relu)

    def _finish(self, x: tf.Tensor, name: str, norm: bool, relu: bool) -> tf.Tensor:
        if norm:
            # 0.97 instead of Keras' 0.99, so that the moving statistics of a short training do not lag behind.
            x = layers.BatchNormalization(momentum=0.97, name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x) if relu else x

    def resize(self, x: tf.Tensor, height: int, width: int, *, name: str) -> tf.Tensor:
        if (height, width) == tuple(x.shape[1:3]):
            return x
        return BilinearResize(height, width, self.spec.resize, name=name)(x)
