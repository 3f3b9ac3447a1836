"""U-Net (Ronneberger, Fischer, Brox: Convolutional Networks for Biomedical Image Segmentation, arXiv 1505.04597).

Two things differ from the paper. Convolutions pad, so that the logits have the image's size; the paper's lose a border
of 92 pixels. Batch norm, which is newer than the paper, follows them; `--no-batch-norm` leaves it out.
"""

from __future__ import annotations

import functools
from typing import Literal

import tensorflow as tf
import tf_keras

from models.blocks import Blocks
from pipeline.core.spec import ModelSpec, Network

layers = tf_keras.layers

Upsampling = Literal["transposed", "bilinear"]

FILTERS = (64, 128, 256, 512)
"""Filters of the four levels, the finest first (figure 1); the bottom has twice as many as the last."""


def double_conv(b: Blocks, x: tf.Tensor, filters: int, name: str) -> tf.Tensor:
    x = b.conv(x, filters, 3, name=f"{name}_conv1")
    return b.conv(x, filters, 3, name=f"{name}_conv2")


def up_convolution(
    b: Blocks, x: tf.Tensor, filters: int, size: tuple[int, int], upsampling: Upsampling, name: str
) -> tf.Tensor:
    """Upsamples to twice the size and ``filters`` channels, without a nonlinearity, and crops to ``size``.

    'transposed': one transposed 2x2 convolution. 'bilinear', as section 2 words it: "an upsampling of the feature map
    followed by a 2x2 convolution". 'same' pools round up, so twice the map may be a row or a column too large.
    """
    if upsampling == "bilinear":
        x = b.resize(x, *size, name=f"{name}_resize")
        return b.conv(x, filters, 2, norm=False, relu=False, name=f"{name}_up")
    x = layers.Conv2DTranspose(b.spec.channels(filters), 2, 2, "valid", kernel_regularizer=b.l2, name=f"{name}_up")(x)
    rows, columns = x.shape[1] - size[0], x.shape[2] - size[1]
    return layers.Cropping2D(((0, rows), (0, columns)), name=f"{name}_crop")(x) if rows or columns else x


def build(spec: ModelSpec, upsampling: Upsampling) -> tf_keras.Model:
    b = Blocks(spec)
    image = x = layers.Input((spec.height, spec.width, 3), name="image")
    skips = []
    for level, filters in enumerate(FILTERS, 1):
        x = double_conv(b, x, filters, f"down{level}")
        skips.append(x)
        x = layers.MaxPooling2D(2, 2, "same", name=f"down{level}_pool")(x)
    x = double_conv(b, x, 2 * FILTERS[-1], "bottom")
    x = layers.Dropout(spec.dropout, name="bottom_dropout")(x)  # "at the end of the contracting path", section 3.1
    for level, filters in reversed(list(enumerate(FILTERS, 1))):
        skip = skips.pop()
        x = up_convolution(b, x, filters, skip.shape[1:3], upsampling, f"up{level}")
        x = layers.Concatenate(name=f"up{level}_concat")([skip, x])
        x = double_conv(b, x, filters, f"up{level}")
    x = b.conv(x, spec.num_classes, 1, norm=False, relu=False, scaled=False, name="classifier")
    return tf_keras.Model(image, x, name=spec.network.replace("-", "_"))


STAGES = {
    **{f"down{level}": f"contracting, 1/{1 << level - 1}" for level in range(1, 5)},
    "bottom": "bottom, 1/16",
    **{f"up{level}": f"expanding, 1/{1 << level - 1}" for level in range(1, 5)},
    "classifier": "classifier",
}

UNET = Network(
    name="unet",
    title="U-Net",
    source="arXiv 1505.04597",
    build=functools.partial(build, upsampling="transposed"),
    # One cell of the lowest map; a smaller image would be padded at all four levels.
    min_size=(16, 16),
    stages=STAGES,
)
UNET_BILINEAR = Network(
    name="unet-bilinear",
    title="U-Net, resizing",
    source="arXiv 1505.04597, bilinear resizes for transposed convolutions",
    build=functools.partial(build, upsampling="bilinear"),
    min_size=(16, 16),
    stages=STAGES,
)
