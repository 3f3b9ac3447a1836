"""The networks: their published parameter counts, any size, and VGG16's weights against VGG16 itself."""

from __future__ import annotations

import dataclasses
import functools
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tf_keras

import models
from models.blocks import last_resize_of
from models.fcn8 import ENCODER, BilinearUpsampling, build_model, load_encoder
from pipeline.core.errors import BadSpec, WeightsError
from pipeline.core.spec import ModelSpec, Network

NETWORKS = sorted(models.networks())


def test_names_that_a_family_leaves_to_keras_do_not_depend_on_what_was_built_before(monkeypatch):
    def build(spec):
        image = tf_keras.layers.Input((8, 8, 3))
        return tf_keras.Model(image, tf_keras.layers.Conv2D(spec.num_classes, 1)(image))

    monkeypatch.setattr(models, "network", lambda name: Network(name, "Plain", "nowhere", build, (8, 8)))
    first, second = (models.build(ModelSpec("plain", 8, 8, 3)) for _ in range(2))
    assert first.name == second.name
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]


@dataclasses.dataclass(frozen=True)
class Count:
    """What the network's definition gives at alpha 1, whatever the size (height, width)."""

    network: str
    classes: int
    size: tuple[int, int]
    trainable: int
    moving: int | None

    @property
    def id(self) -> str:
        return f"{self.network}-{self.classes}"


COUNTS = (
    Count("fast-scnn", 19, (192, 256), 1_138_051, None),
    Count("fcn8", 2, (192, 256), 134_278_854, 8_448),
    Count("fcn8", 11, (75, 49), 134_326_401, 8_448),
    Count("unet", 2, (192, 256), 31_037_698, 11_776),  # as github.com/milesial/Pytorch-UNet counts
    Count("fastfcn8", 2, (192, 256), 20_607_073, 8_448),
    Count("fastfcn8", 11, (75, 49), 20_654_620, 8_448),
)


def small(network: str, **options: Any) -> ModelSpec:
    least = models.network(network).min_size
    defaults = {"height": least[0] + 32, "width": least[1] + 45, "num_classes": 3, "alpha": 0.03}
    return ModelSpec(network, **{**defaults, **options})


@functools.cache
def built(network: str) -> tf_keras.Model:
    """The small network, made once; tests only read it."""
    return models.build(small(network))


def size_of(weights: list[Any]) -> int:
    return sum(int(np.prod(w.shape)) for w in weights)


@pytest.mark.parametrize("count", COUNTS, ids=lambda c: c.id)
@pytest.mark.usefixtures("full_size")
def test_parameter_counts_are_the_defined_ones(count: Count) -> None:
    model = models.build(ModelSpec(count.network, *count.size, count.classes))
    assert size_of(model.trainable_weights) == count.trainable
    if count.moving is not None:
        assert size_of(model.non_trainable_weights) == count.moving


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("extra", "classes", "resize"),
    [((0, 1), 2, "align_corners"), ((31, 46), 19, "half_pixel"), ((64, 32), 255, "align_corners")],
    ids=str,
)
def test_any_size_and_classes_give_logits_of_that_size(
    network: str, extra: tuple[int, int], classes: int, resize: Any
) -> None:
    least = models.network(network).min_size
    height, width = least[0] + extra[0], least[1] + extra[1]
    model = models.build(small(network, height=height, width=width, num_classes=classes, resize=resize))
    logits = model(np.random.default_rng(0).random((2, height, width, 3), np.float32), training=False).numpy()
    assert logits.shape == (2, height, width, classes)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    last = last_resize_of(model)
    assert (last is None) == (models.network(network).logits_stride == 1)
    if last is not None:
        assert (last.height, last.width, last.convention) == (height, width, resize)


@pytest.mark.parametrize("network", [n for n in NETWORKS if models.network(n).min_size > (1, 1)])
@pytest.mark.parametrize("side", ["height", "width"])
def test_a_size_below_the_smallest_is_an_error_that_names_it(network: str, side: str) -> None:
    least = models.network(network).min_size
    spec = small(network, **{side: least[side == "width"] - 1})
    with pytest.raises(BadSpec, match=re.escape(f"{least[0]}x{least[1]}")):
        models.build(spec)


@pytest.mark.parametrize("network", NETWORKS)
def test_batch_norm_can_be_turned_off(network: str) -> None:
    def norms(model: tf_keras.Model) -> int:
        return sum(isinstance(layer, tf_keras.layers.BatchNormalization) for layer in model.layers)

    assert norms(built(network)) > 0
    bare = models.build(small(network, batch_norm=False))
    assert norms(bare) == 0
    assert not bare.non_trainable_weights


@pytest.mark.parametrize("network", NETWORKS)
def test_l2_is_the_squared_sum_of_every_kernel(network: str) -> None:
    assert not built(network).losses
    model = models.build(small(network, l2=0.01))
    kernels = [w.numpy() for w in model.trainable_weights if "kernel" in w.name]
    assert len(model.losses) == len(kernels)
    expected = 0.01 * sum(float(np.square(kernel, dtype=np.float64).sum()) for kernel in kernels)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_survives_its_own_json(network: str) -> None:
    """Keras saves a model as JSON and weights: nothing in the graph may be left out of its config."""
    model = built(network)
    again = tf_keras.models.model_from_json(model.to_json())
    again.set_weights(model.get_weights())
    image = np.random.default_rng(0).random((1, *model.input_shape[1:]), np.float32)
    np.testing.assert_array_equal(again(image).numpy(), model(image).numpy())


# FCN8's own


@pytest.mark.parametrize(("conv_type", "network"), [("conv", "fcn8"), ("ds", "fastfcn8")])
def test_build_model_takes_the_width_first(conv_type: Any, network: str) -> None:
    model = build_model(96, 64, 4, conv_type=conv_type, alpha=0.05, dropout=0.25)
    assert model.output_shape == (None, 64, 96, 4)
    same = models.build(ModelSpec(network, 64, 96, 4, alpha=0.05, dropout=0.25))
    assert model.to_json() == same.to_json()
    assert {model.get_layer(f"fc{n}_dropout").rate for n in (1, 2)} == {0.25}


def test_build_model_refuses_an_unknown_conv_type() -> None:
    with pytest.raises(BadSpec, match="'sep'.*'conv'.*'ds'"):
        build_model(64, 64, 2, conv_type="sep")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("height", "width", "crops"),
    [
        (360, 480, {"up16_crop": (23, 30), "up8_crop": (45, 60)}),
        (192, 256, {}),
        (33, 32, {"up16_crop": (3, 2), "up8_crop": (5, 4)}),
    ],
    ids=str,
)
def test_maps_are_cropped_only_where_sizes_differ(height: int, width: int, crops: dict[str, tuple[int, int]]) -> None:
    model = build_model(width, height, 2, alpha=0.02)
    assert model.get_layer("fc1_dropout").rate == 0.5  # the default of build_model, not of ModelSpec
    croppings = {layer.name: layer for layer in model.layers if "crop" in layer.name}
    assert {name: layer.output_shape[1:3] for name, layer in croppings.items()} == crops
    assert all(layer.cropping[0][0] == layer.cropping[1][0] == 0 for layer in croppings.values())  # the last ones go


def test_a_fresh_transposed_convolution_upsamples_bilinearly() -> None:
    """Output j of a ×2 bilinear with half-pixel centres lies at input (j + 1/2) / 2 − 1/2: a ramp stays a ramp."""
    up = build_model(96, 64, 3, alpha=0.02).get_layer("up16")
    rows, columns = np.mgrid[:5, :7].astype(np.float32)
    ramps = np.stack([rows, 2 * columns - rows, np.full_like(rows, 4)], -1)[None]
    y, x = (np.mgrid[:10, :14] + 0.5) / 2 - 0.5
    expected = np.stack([y, 2 * x - y, np.full_like(y, 4)], -1)
    layer = tf_keras.layers.Conv2DTranspose(3, 4, 2, "same", use_bias=False, kernel_initializer=BilinearUpsampling())
    for upsample in (up, layer):
        upsampled = upsample(ramps).numpy()[0]
        np.testing.assert_allclose(upsampled[1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-5)


def test_a_depthwise_separable_convolution_has_nothing_between_its_parts() -> None:
    model = build_model(64, 64, 2, conv_type="ds", alpha=0.02)
    parts = [layer for layer in model.layers if layer.name.endswith("_dw")]
    assert len(parts) == 13 + 2 + 3
    for part in parts:
        assert not part.use_bias and part.activation is tf_keras.activations.linear
        (after,) = (node.layer for node in part.outbound_nodes)
        assert after.name == part.name.removesuffix("_dw") + "_pw"
        assert after.kernel_size == (1, 1) and after.use_bias
    assert not any(type(layer) is tf_keras.layers.Conv2D and layer.kernel_size != (1, 1) for layer in model.layers)


# VGG16's weights


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG16 without its top, random weights with the biases not zero, as Keras saves it."""
    vgg = tf_keras.applications.VGG16(weights=None, include_top=False, input_shape=(256, 256, 3))
    rng = np.random.default_rng(0)
    for layer in vgg.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            spread = np.sqrt(2 / np.prod(kernel.shape[:3]), dtype=np.float32)
            kernel = rng.standard_normal(kernel.shape, np.float32) * spread
            layer.set_weights([kernel, rng.uniform(-5, 5, bias.shape)])
    path = tmp_path_factory.mktemp("vgg16") / "vgg16.h5"
    vgg.save_weights(path)
    return path


@functools.cache
def encoder_only() -> tf_keras.Model:
    """VGG16's own model has the layers that load_encoder looks for, and not FCN8's 120 M weights after them."""
    return tf_keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))


def saved(path: Path, layer: str) -> tuple[np.ndarray, np.ndarray]:
    with h5py.File(path) as file:
        return np.asarray(file[f"{layer}/{layer}/kernel:0"]), np.asarray(file[f"{layer}/{layer}/bias:0"])


@pytest.mark.usefixtures("full_size")
def test_an_encoder_with_vgg16s_weights_computes_what_vgg16_computes(vgg16: Path) -> None:
    reference = tf_keras.applications.VGG16(weights=None, include_top=False, input_shape=(256, 256, 3))
    reference.load_weights(vgg16)
    ours = build_model(256, 256, 2, batch_norm=False)
    load_encoder(ours, str(vgg16))

    def output(model: tf_keras.Model, layers: list[str], image: np.ndarray) -> list[np.ndarray]:
        return [y.numpy()[0] for y in tf_keras.Model(model.input, [model.get_layer(n).output for n in layers])(image)]

    image = np.random.default_rng(1).integers(0, 256, (1, 256, 256, 3)).astype(np.float32)
    prepared = tf_keras.applications.vgg16.preprocess_input(image.copy())  # RGB 0..255 → BGR minus the mean
    first, last = output(ours, ["block1_conv1_relu", "block5_conv3_relu"], image / 255)
    expected_first, expected_last = output(reference, ["block1_conv1", "block5_conv3"], prepared)
    np.testing.assert_allclose(first[1:-1, 1:-1], expected_first[1:-1, 1:-1], atol=1e-5 * expected_first.max())
    assert np.abs(first - expected_first)[0].max() > 0.01 * expected_first.max()  # the border: black, not the mean
    # block5_conv3 sees 196 pixels: of its 16×16 cells those from 6 to 9 see no border.
    inner = (slice(6, 10), slice(6, 10))
    assert expected_last[inner].std() > 0
    np.testing.assert_allclose(last[inner], expected_last[inner], atol=1e-4 * expected_last[inner].max())


def test_the_published_files_layout_is_read_too(vgg16: Path, tmp_path: Path) -> None:
    """tf_keras.applications' file calls its arrays block1_conv1_W_1:0 and lists them in weight_names."""
    published = tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    with h5py.File(published, "w") as file:
        for name in ENCODER:
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}_W_1:0".encode(), f"{name}_b_1:0".encode()]
            for key, array in zip(group.attrs["weight_names"], saved(vgg16, name), strict=True):
                group[key] = array
    model = encoder_only()
    load_encoder(model, str(published))
    for name in ENCODER[1:]:
        for weights, expected in zip(model.get_layer(name).get_weights(), saved(vgg16, name), strict=True):
            np.testing.assert_array_equal(weights, expected)


def damaged(kind: str, vgg16: Path, folder: Path) -> Path:
    path = folder / "damaged.h5"
    if kind == "truncated":
        path.write_bytes(vgg16.read_bytes()[:1_000_000])
    elif kind == "empty":
        path.touch()
    elif kind == "a web page":
        path.write_text("<html>404</html>")
    elif kind == "another network":
        tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(3,))]).save_weights(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "not finite":
        shutil.copy(vgg16, path)
        with h5py.File(path, "r+") as file:
            file["block3_conv2/block3_conv2/kernel:0"][1, 1, 0, 0] = np.nan
    elif kind == "other shapes":
        with h5py.File(path, "w") as file:
            for name in ENCODER:
                group = file.create_group(name)
                group.attrs["weight_names"] = ["k", "b"]
                group["k"], group["b"] = np.ones((3, 3, 4, 8), np.float32), np.zeros(8, np.float32)
    return path


@pytest.mark.parametrize(
    "kind",
    ["truncated", "empty", "a web page", "another network", "a folder", "missing", "other shapes", "not finite"],
)
def test_a_damaged_encoder_file_is_an_error_and_changes_nothing(kind: str, vgg16: Path, tmp_path: Path) -> None:
    model = encoder_only()
    before = model.get_weights()
    path = damaged(kind, vgg16, tmp_path)
    with pytest.raises(WeightsError, match="--encoder-weights FILE") as error:
        load_encoder(model, str(path))
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_imagenet_weights_offline_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # nothing cached
    for proxy in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # the discard port: refused at once
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(WeightsError, match="could not be downloaded.*--encoder-weights FILE") as error:
        load_encoder(encoder_only(), "imagenet")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"conv_type": "ds"}, "no published encoder weights for fastfcn8"), ({"alpha": 0.5}, "alpha 1 only.*32 filters")],
    ids=str,
)
def test_networks_that_vgg16_does_not_fit_are_errors(options: dict[str, Any], expected: str, vgg16: Path) -> None:
    with pytest.raises(WeightsError, match=expected):
        load_encoder(build_model(32, 32, 2, **options), str(vgg16))
