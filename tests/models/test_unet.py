"""U-Net: its counts by a formula of pencil and paper, its function by NumPy written from the paper's figure 1."""

import numpy as np
import pytest
import tf_keras

import models
from pipeline.core.spec import ModelSpec

BOTH = ("unet", "unet-bilinear")


def size_of(weights):
    return sum(int(np.prod(w.shape)) for w in weights)


@pytest.mark.parametrize("network", BOTH)
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize(("classes", "alpha"), [(2, 1.0), (11, 1.0), (2, 0.25), (11, 0.25)])
def test_the_counts_are_those_of_the_paper_s_layers(network, batch_norm, classes, alpha, full_size):
    """By hand, in units of w = 64 * alpha, the channels of the finest level, and of w².

    3x3 convolutions, contracting: 27 w for the image's 3 channels, then 9 w² and, with the channels doubling, 9 * (2 +
    4), 9 * (8 + 16), 9 * (32 + 64), and below 9 * (128 + 256): 4599 w². Up-convolutions 2x2, from 16 to 8 and so on:
    4 * (128 + 32 + 8 + 2) = 680 w² and 15 w biases. The two 3x3 behind each: 9 * (2 + 1) * (64 + 16 + 4 + 1) = 2295 w².
    Channels that batch norm or a bias follows: 2 * (1 + 2 + 4 + 8 + 16) + 2 * (8 + 4 + 2 + 1) = 92 w. Last, w + 1 for
    each class.
    """
    w = round(64 * alpha)
    model = models.build(ModelSpec(network, 33, 50, classes, alpha=alpha, batch_norm=batch_norm))
    each = 2 if batch_norm else 1
    assert size_of(model.trainable_weights) == 7574 * w * w + (27 + 15 + each * 92) * w + (w + 1) * classes
    assert size_of(model.non_trainable_weights) == (184 * w if batch_norm else 0)


def convolved(x, kernel, bias):
    """[h, w, in] with zeros around it; an even kernel looks down and to the right."""
    size = kernel.shape[0]
    around = ((size - 1) // 2, size // 2)
    padded = np.pad(x, (around, around, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (0, 1))
    return np.einsum("yxcij,ijco->yxo", windows, kernel) + bias


def pooled(x):
    """The largest of each 2x2; an odd last row or column is of the pixels that are there."""
    padded = np.pad(x, ((0, x.shape[0] % 2), (0, x.shape[1] % 2), (0, 0)), constant_values=-np.inf)
    return padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2, -1).max((1, 3))


def transposed(x, kernel, bias):
    """Each pixel makes 2x2 of its own; kernel [2, 2, out, in]."""
    blocks = np.einsum("yxc,ijoc->yixjo", x, kernel)
    return blocks.reshape(2 * x.shape[0], 2 * x.shape[1], -1) + bias


def resized(x, height, width):
    """Bilinear with the corners in place."""
    for axis, size in ((0, height), (1, width)):
        x = np.moveaxis(x, axis, 0)
        at = np.linspace(0, len(x) - 1, size)
        low = np.minimum(at.astype(int), max(len(x) - 2, 0))
        part = (at - low)[:, None, None]
        x = np.moveaxis((1 - part) * x[low] + part * x[np.minimum(low + 1, len(x) - 1)], 0, axis)
    return x


@pytest.mark.parametrize("network", BOTH)
def test_it_computes_what_figure_1_shows(network):
    model = models.build(ModelSpec(network, 37, 50, 3, alpha=1 / 32, batch_norm=False))
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, (2 / np.prod(w.shape[:-1])) ** 0.5, w.shape).astype(np.float32) for w in model.weights]
    model.set_weights(weights)
    weights_of = {layer.name: [w.numpy() for w in layer.weights] for layer in model.layers}
    image = rng.random((37, 50, 3)).astype(np.float32)

    def twice(x, name):
        for n in (1, 2):
            x = np.maximum(convolved(x, *weights_of[f"{name}_conv{n}"]), 0)
        return x

    x, across = image, []
    for level in (1, 2, 3, 4):
        across.append(twice(x, f"down{level}"))
        x = pooled(across[-1])
    x = twice(x, "bottom")
    for level in (4, 3, 2, 1):
        skip, kernel = across.pop(), weights_of[f"up{level}_up"]
        if network == "unet":
            x = transposed(x, *kernel)[: skip.shape[0], : skip.shape[1]]
        else:
            x = convolved(resized(x, *skip.shape[:2]), *kernel)
        x = twice(np.concatenate([skip, x], -1), f"up{level}")
    expected = convolved(x, *weights_of["classifier"])
    assert np.abs(expected).std() > 0.1
    np.testing.assert_allclose(model(image[None]).numpy()[0], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "cropped"), [((96, 128), []), ((97, 128), [1, 2, 3, 4]), ((104, 128), [4]), ((96, 100), [3, 4])]
)
def test_maps_are_cropped_only_where_a_pool_had_rounded_up(size, cropped):
    model = models.build(ModelSpec("unet", size[0], size[1], 2, alpha=0.03))
    crops = [layer for layer in model.layers if isinstance(layer, tf_keras.layers.Cropping2D)]
    assert sorted(int(layer.name[2]) for layer in crops) == cropped
    assert all(layer.cropping[0][0] == layer.cropping[1][0] == 0 for layer in crops)  # the last ones go


def test_dropout_ends_the_contracting_path():
    model = models.build(ModelSpec("unet", 16, 16, 2, alpha=0.03, dropout=0.25))
    (layer,) = (x for x in model.layers if isinstance(x, tf_keras.layers.Dropout))
    assert layer.rate == 0.25 and layer.output_shape[1:3] == (1, 1)
