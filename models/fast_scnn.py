"""Fast-SCNN (Poudel, Liwicki, Cipolla: Fast Semantic Segmentation Network, arXiv 1902.04502)."""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from models.blocks import Blocks
from pipeline.core.spec import ModelSpec, Network

layers = tf_keras.layers

BINS = (1, 2, 3, 6)


def separable(b: Blocks, x: tf.Tensor, filters: int, stride: int, name: str) -> tf.Tensor:
    """Depthwise 3×3 → BN → 1×1 → BN → ReLU: no nonlinearity between the two parts."""
    x = b.depthwise(x, stride, relu=False, name=f"{name}_dw")
    return b.conv(x, filters, 1, name=f"{name}_pw")


def bottleneck(b: Blocks, x: tf.Tensor, filters: int, stride: int, name: str) -> tf.Tensor:
    """Inverted residual, expansion 6, linear output; the residual only where shapes agree."""
    channels = x.shape[-1]
    y = b.conv(x, 6 * channels, 1, scaled=False, name=f"{name}_expand")
    y = b.depthwise(y, stride, name=f"{name}_dw")
    y = b.conv(y, filters, 1, relu=False, name=f"{name}_project")
    if stride == 1 and channels == y.shape[-1]:
        y = layers.Add(name=f"{name}_add")([x, y])
    return y


def pyramid_pooling(b: Blocks, x: tf.Tensor, name: str = "ppm") -> tf.Tensor:
    """Average pools to 1, 2, 3 and 6 bins, each 1×1 to 32 channels and resized back, concatenated, 1×1 to 128.

    Over n cells, b bins have stride ⌊n/b⌋ and window n − (b−1)·stride.
    """
    height, width = x.shape[1:3]
    branches = [x]
    for bins in BINS:
        stride = (height // bins, width // bins)
        window = (height - (bins - 1) * stride[0], width - (bins - 1) * stride[1])
        y = layers.AveragePooling2D(window, stride, name=f"{name}_pool{bins}")(x)
        y = b.conv(y, 32, 1, name=f"{name}_conv{bins}")
        branches.append(b.resize(y, height, width, name=f"{name}_resize{bins}"))
    x = layers.Concatenate(name=f"{name}_concat")(branches)
    return b.conv(x, 128, 1, name=f"{name}_out")


def build(spec: ModelSpec) -> tf_keras.Model:
    b = Blocks(spec)
    image = layers.Input((spec.height, spec.width, 3), name="image")
    x = b.conv(image, 32, 3, 2, name="ltd_conv")
    x = separable(b, x, 48, 2, "ltd_ds1")
    high = separable(b, x, 64, 2, "ltd_ds2")
    x = high
    for stage, (filters, first_stride) in enumerate(((64, 2), (96, 2), (128, 1)), 1):
        for n in range(1, 4):
            x = bottleneck(b, x, filters, first_stride if n == 1 else 1, f"gfe{stage}_{n}")
    low = pyramid_pooling(b, x)

    low = b.resize(low, *high.shape[1:3], name="fusion_resize")
    low = b.depthwise(low, dilation=4, name="fusion_dw")
    low = b.conv(low, 128, 1, relu=False, bias=True, name="fusion_low")
    high = b.conv(high, 128, 1, relu=False, bias=True, name="fusion_high")
    x = layers.ReLU(name="fusion_relu")(layers.Add(name="fusion_add")([low, high]))

    x = separable(b, x, 128, 1, "head_ds1")
    x = separable(b, x, 128, 1, "head_ds2")
    x = layers.Dropout(spec.dropout, name="head_dropout")(x)
    x = b.conv(x, spec.num_classes, 1, norm=False, relu=False, bias=True, scaled=False, name="head_logits")
    x = b.resize(x, spec.height, spec.width, name="logits_resize")
    return tf_keras.Model(image, x, name="fast_scnn")


FAST_SCNN = Network(
    name="fast-scnn",
    title="Fast-SCNN",
    source="arXiv 1902.04502",
    build=build,
    # The 1/32 map must have 6×6 cells for the pyramid's six bins: 5·32 + 1 pixels round up to 6 cells.
    min_size=(161, 161),
    auxiliary=("ltd_ds2_pw_relu", "ppm_out_relu"),
    logits_stride=8,
    stages={
        "ltd": "learning to downsample",
        "gfe1": "global features, 1/16",
        "gfe2": "global features, 1/32",
        "gfe3": "global features, 1/32",
        "ppm": "pyramid pooling",
        "fusion": "feature fusion",
        "head": "classifier",
        "logits": "upsampling",
    },
)
