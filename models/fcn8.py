"""FCN8 and FastFCN8: VGG16 made fully convolutional, three scores fused (Long, Shelhamer, Darrell, arXiv 1605.06211).

FastFCN8 is FCN8 with every convolution depthwise-separable, and a seventh of its weights.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf
import tf_keras

from models.blocks import Blocks
from pipeline.core.errors import BadSpec, WeightsError
from pipeline.core.files import unreadable
from pipeline.core.spec import ModelSpec, Network, Resize
from pipeline.weights import layers as weights
from pipeline.weights.weight_files import open_weights

layers = tf_keras.layers

ConvType = Literal["conv", "ds"]

NAMES = {"conv": "fcn8", "ds": "fastfcn8"}
BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""(filters, units) of VGG16's five blocks (arXiv 1409.1556, table 1, column D)."""

ENCODER = tuple(f"block{n}_conv{i}" for n, (_, units) in enumerate(BLOCKS, 1) for i in range(1, units + 1))
VGG16_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
    "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
VGG16_MD5 = "6d6bbae143d832006294945121d1f1fc"
"""Address and MD5 of the published encoder, from tf_keras/src/applications/vgg16.py."""
TOP = r"fc\d|predictions|dense\w*"
"""Names of layers in a classifier's top, as VGG16 and Keras name them."""
TOP_BYTES = 4 * 138_357_544
"""Of VGG16's weights with its top, the most that such a file holds: arXiv 1409.1556, table 2, to the last one."""
VGG16_MEAN_BGR = np.array([103.939, 116.779, 123.68])
"""What 'caffe' preprocessing subtracts from blue, green, red in 0..255: tf_keras/src/applications/imagenet_utils.py."""


@tf_keras.utils.register_keras_serializable(package="segquant")
class BilinearUpsampling(tf_keras.initializers.Initializer):
    """Kernel [4, 4, c, c] with which a transposed convolution of stride 2 is a bilinear ×2, channel by channel."""

    def __call__(self, shape: Any, dtype: Any = None, **_: Any) -> tf.Tensor:
        line = np.array([0.25, 0.75, 0.75, 0.25])
        kernel = np.einsum("y,x,oi->yxoi", line, line, np.eye(shape[2], shape[3]))
        return tf.constant(kernel, dtype or tf.float32)


# TFMOT's wrappers load a saved model's layers in Keras' legacy format, which looks an initialiser up by its bare name.
tf_keras.utils.get_custom_objects()[BilinearUpsampling.__name__] = BilinearUpsampling


def convolution(  # long: the arguments of a layer, as Keras has them
    b: Blocks,
    x: tf.Tensor,
    filters: int,
    kernel: int,
    conv_type: ConvType,
    *,
    name: str,
    norm: bool = True,
    relu: bool = True,
    scaled: bool = True,
) -> tf.Tensor:
    """Convolution with bias → BN → ReLU; for 'ds' a depthwise and a 1×1 convolution, with nothing between the two.

    A 1×1 convolution is separable too: its depthwise part is one factor per channel. The pointwise part could absorb
    the factor, but FastFCN8's published parameter count has it.
    """
    if conv_type == "ds":
        # Nothing normalises between the parts, and Keras' default takes the fan-in over all channels where a depthwise
        # kernel sums over one: through 512 channels it would shrink the signal 16 times. These keep its variance.
        keep = "ones" if kernel == 1 else tf_keras.initializers.RandomNormal(stddev=1 / kernel)
        x = b.depthwise(x, kernel=kernel, norm=False, relu=False, initializer=keep, name=f"{name}_dw")
        name, kernel = f"{name}_pw", 1
    return b.conv(x, filters, kernel, norm=norm, relu=relu, bias=True, scaled=scaled, name=name)


def upsample_and_add(b: Blocks, x: tf.Tensor, score: tf.Tensor, stride: int) -> tf.Tensor:
    """``x`` upsampled ×2 by learned weights, plus ``score``; cropped where twice the coarse map is too large.

    'same' pools round up, so it can be a row or column too large.
    """
    x = layers.Conv2DTranspose(
        x.shape[-1],
        4,
        2,
        "same",
        use_bias=False,
        kernel_initializer=BilinearUpsampling(),
        kernel_regularizer=b.l2,
        name=f"up{stride}",
    )(x)
    rows, columns = x.shape[1] - score.shape[1], x.shape[2] - score.shape[2]
    if rows or columns:
        x = layers.Cropping2D(((0, rows), (0, columns)), name=f"up{stride}_crop")(x)
    return layers.Add(name=f"fuse{stride}")([x, score])


def build(spec: ModelSpec, conv_type: ConvType) -> tf_keras.Model:
    b = Blocks(spec)
    conv = functools.partial(convolution, b, conv_type=conv_type)
    score = functools.partial(conv, filters=spec.num_classes, kernel=1, norm=False, relu=False, scaled=False)

    image = x = layers.Input((spec.height, spec.width, 3), name="image")
    pools = []
    for block, (filters, units) in enumerate(BLOCKS, 1):
        for unit in range(1, units + 1):
            x = conv(x, filters=filters, kernel=3, name=f"block{block}_conv{unit}")
        x = layers.MaxPooling2D(2, 2, "same", name=f"block{block}_pool")(x)
        pools.append(x)
    for name, kernel in (("fc1", 7), ("fc2", 1)):
        # Dropout after the ReLU, so that convolution and ReLU fuse.
        x = conv(x, filters=4096, kernel=kernel, norm=False, name=name)
        x = layers.Dropout(spec.dropout, name=f"{name}_dropout")(x)

    x = score(x, name="score32")
    x = upsample_and_add(b, x, score(pools[3], name="score16"), 16)
    x = upsample_and_add(b, x, score(pools[2], name="score8"), 8)
    x = b.resize(x, spec.height, spec.width, name="logits_resize")
    return tf_keras.Model(image, x, name=NAMES[conv_type])


def build_model(  # long: a network's settings, for callers that have no ModelSpec
    width: int,
    height: int,
    num_classes: int,
    *,
    conv_type: ConvType = "conv",
    batch_norm: bool = True,
    l2: float = 0.0,
    dropout: float = 0.5,
    alpha: float = 1.0,
    resize: Resize = "align_corners",
) -> tf_keras.Model:
    """FCN8 (``conv_type='conv'``) or FastFCN8 (``'ds'``). Note the order: width first.

    Args:
      width, height: input size in pixels, 1 or more; there are crops where 32 does not divide it.
      num_classes: 2 to 255.
      batch_norm: batch norm after the 3×3 convolutions.
      l2: L2 regularisation of every kernel, the transposed ones included (0: none); biases have none.
      dropout: rate after fc1 and fc2; 0.5 is the paper's.
      alpha: width multiplier of every channel count but the classes.
      resize: convention of the last ×8.

    Returns float32 [batch, height, width, 3] RGB in [0, 1] → float32 logits [batch, height, width, num_classes].
    Raises BadSpec.
    """
    if conv_type not in NAMES:
        raise BadSpec(f"conv_type is {conv_type!r}: choose 'conv' (FCN8) or 'ds' (FastFCN8).")
    return build(
        ModelSpec(NAMES[conv_type], height, width, num_classes, alpha, resize, batch_norm, l2, dropout), conv_type
    )


def load_encoder(model: tf_keras.Model, source: str) -> None:
    """Copies VGG16's 13 convolutions into an FCN8 of alpha 1; all of them, or none when it raises WeightsError.

    Args:
      source: 'imagenet', the file that tf_keras.applications publishes (58 MB, kept in ~/.keras/models), or the path
        of such a .h5 file, with or without the top.

    The published kernels take BGR in 0..255 minus a mean, our network RGB in [0, 1]. The first layer absorbs the
    difference: channels reversed, kernel × 255, bias − Σ kernel · mean. That is exact except at the 1-pixel border,
    where 'same' padding adds zeros: a zero is the mean colour for VGG16 and black for our network.
    """
    names = {layer.name for layer in model.layers}
    if ENCODER[0] not in names:
        raise WeightsError(
            f"there are no published encoder weights for {model.name}: VGG16's fit fcn8 only. Train without them."
        )
    shapes = {name: model.get_layer(name).kernel.shape for name in ENCODER}
    if shapes[ENCODER[0]][-1] != BLOCKS[0][0]:
        raise WeightsError(
            f"VGG16's weights fit alpha 1 only, and block1_conv1 has {shapes[ENCODER[0]][-1]} filters, not"
            f" {BLOCKS[0][0]}: use alpha 1, or train without encoder weights."
        )
    path = _download() if source == "imagenet" else Path(os.path.expanduser(source))
    encoder = _read(path)
    kernel, bias = (array.astype(np.float64) for array in encoder[ENCODER[0]])
    bias = bias - np.einsum("yxco,c->o", kernel, VGG16_MEAN_BGR)
    encoder[ENCODER[0]] = [kernel[:, :, ::-1] * 255, bias]
    for name, arrays in encoder.items():
        model.get_layer(name).set_weights(arrays)


_ADVICE = (
    f"Give tf_keras' VGG16 file ({VGG16_URL.rpartition('/')[2]}, or one saved by its save_weights as .h5) with"
    " --encoder-weights FILE."
)


def _download() -> Path:
    try:
        return Path(
            tf_keras.utils.get_file(VGG16_URL.rpartition("/")[2], VGG16_URL, cache_subdir="models", file_hash=VGG16_MD5)
        )
    except Exception as error:  # get_file raises a bare Exception for a URL that cannot be fetched
        raise WeightsError(
            f"VGG16's ImageNet weights could not be downloaded ({error}): fetch that file on a machine with network"
            " access and give it with --encoder-weights FILE."
        ) from None


def _read(path: Path) -> dict[str, list[np.ndarray]]:
    """{layer: [kernel, bias]}, float32, of the 13 convolutions. The file may hold a classifier's top, and nothing else.

    This refuses an FCN8's own weights, which have the same names and shapes but expect other inputs.
    """
    filters = [filters for filters, units in BLOCKS for _ in range(units)]
    convolutions = [
        weights.Layer(name, "Conv2D", (("kernel", (3, 3, came, goes)), ("bias", (goes,))))
        for name, came, goes in zip(ENCODER, [3, *filters], filters, strict=False)
    ]
    try:
        if (reason := unreadable(path)) is not None:
            raise WeightsError(f"it {reason}")
        with open_weights(path, TOP_BYTES) as source:
            return weights.read_arrays(source, convolutions, TOP)
    except WeightsError as error:
        raise WeightsError(f"encoder weights {path}: {error}. {_ADVICE}") from None


STAGES = {
    **{f"block{n}": f"VGG16 block {n}, 1/{1 << n - 1}" for n in range(1, 6)},
    "fc1": "classifier, 1/32",
    "fc2": "classifier, 1/32",
    "score32": "scores, 1/32",
    **{f"{word}{n}": f"scores, 1/{n}" for word in ("score", "up", "fuse") for n in (16, 8)},
    "logits": "upsampling",
}

FCN8 = Network(
    name="fcn8",
    title="FCN8",
    source="arXiv 1605.06211",
    build=functools.partial(build, conv_type="conv"),
    min_size=(1, 1),
    load_encoder=load_encoder,
    learning_rate_factor=0.25,
    logits_stride=8,
    stages=STAGES,
)
FASTFCN8 = Network(
    name="fastfcn8",
    title="FastFCN8",
    source="arXiv 1605.06211, depthwise-separable",
    build=functools.partial(build, conv_type="ds"),
    min_size=(1, 1),
    load_encoder=load_encoder,
    learning_rate_factor=0.25,
    logits_stride=8,
    stages=STAGES,
)
