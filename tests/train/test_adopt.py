"""Weights from elsewhere: every format of Keras and TensorFlow gives the same arrays, or is refused for what it is."""

import hashlib
import io
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import h5py
import keras  # Keras 3, beside tf_keras, which is Keras 2
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import models
from models.fcn8 import load_encoder
from models.pretrained import pretrained
from pipeline.core.errors import RunError, WeightsError
from pipeline.core.run import create
from pipeline.core.say import quiet
from pipeline.core.spec import ModelSpec
from pipeline.train.adopt import _load as load
from pipeline.train.adopt import adopt, checkpoint_prefix
from pipeline.weights import checkpoint
from tests.conftest import ROOT
from tests.support.small_run import small_data

CLASS_WEIGHTS = (0.5, 0.75, 1.75)


def network(of=tf_keras, filters=6, more=False):
    """Every kind of layer with weights that our networks have, and two of one class."""
    layers = of.layers
    image = layers.Input((24, 32, 3))
    x = layers.Conv2D(filters, 3, padding="same", name="first")(image)
    x = layers.BatchNormalization(name="first_bn")(x)
    x = layers.Dropout(0.5, name="drop")(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="dw")(x)
    x = layers.Conv2D(filters, 1, name="second")(x)
    if more:
        x = layers.Conv2D(filters, 1, name="third")(x)
    return of.Model(image, layers.Conv2DTranspose(3, 4, 2, "same", use_bias=False, name="up")(x))


def with_weights(model, seed=1):
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.1, 1, np.shape(w)).astype(np.float32) for w in model.get_weights()])
    return model


KEPT = [w.copy() for w in with_weights(network()).get_weights()]


def written(kind, folder):
    model = with_weights(network())
    if kind.startswith("keras 3"):
        model = network(keras)
        drawn = iter(KEPT)  # Keras 3 lists a layer's state after its weights: the seed of the dropout is no weight
        for layer in model.layers:
            if not isinstance(layer, keras.layers.Dropout):
                layer.set_weights([next(drawn) for _ in layer.weights])
    if kind.endswith("trained .keras"):
        model.compile("adam", "mse")
        model.optimizer.build(model.trainable_variables)
    path = folder / {
        "whole .h5": "x.h5",
        "weights .h5": "x.h5",
        "weights .weights.h5": "x.weights.h5",
        "whole .keras": "x.keras",
        "trained .keras": "x.keras",
        "old names": "x.weights.h5",
    }.get(kind.removeprefix("keras 3 "), "x")
    if kind == "checkpoint of a model":
        tf.train.Checkpoint(model=model).write(str(path))
    elif "whole" in kind or "trained" in kind or kind == "SavedModel":
        model.save(path)
    else:
        model.save_weights(str(path))
    if kind == "old names":  # Keras 2.12 to 2.15
        with h5py.File(path, "r+") as file:
            file.move("layers", "_layer_checkpoint_dependencies")
    return {"index of a checkpoint": path.with_suffix(".index"), "folder of a checkpoint": folder}.get(kind, path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "kind",
    [
        "whole .h5",
        "weights .h5",
        "weights .weights.h5",
        "whole .keras",
        "trained .keras",
        "old names",
        "SavedModel",
        "checkpoint",
        "checkpoint of a model",
        "index of a checkpoint",
        "folder of a checkpoint",
        "keras 3 whole .h5",
        "keras 3 weights .weights.h5",
        "keras 3 whole .keras",
        "keras 3 trained .keras",
    ],
)
def test_every_format_of_keras_and_tensorflow_gives_the_same_arrays(kind, tmp_path):
    model = network()
    leaning, digest = load(model, written(kind, tmp_path))
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), KEPT, strict=True))
    assert leaning is None and len(digest) == 64


def test_class_weights_come_with_a_checkpoint_of_ours_and_must_make_sense(tmp_path):
    path = tmp_path / "x.weights.h5"
    checkpoint.write(with_weights(network()), path, class_weights=CLASS_WEIGHTS)
    assert load(network(), path)[0] == CLASS_WEIGHTS
    for wrong, words in (
        ([1, 2], "2 class weights and the network has 3"),
        ([1, -1, 1], "not positive"),
        ([1, 0, 1], "not positive"),
        ([1, float("nan"), 1], "the number NaN"),
        ("x", "broken"),
        (None, "broken"),
    ):
        with h5py.File(path, "r+") as file:
            file.attrs[checkpoint.CLASS_WEIGHTS] = str(wrong).replace("nan", "NaN")
        with pytest.raises(RunError, match=words):
            load(network(), path)


def test_another_parent_is_refused_and_with_force_sets_the_first_aside(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.train.adopt.score_masks", lambda *_, **__: SimpleNamespace(miou_percent=50.0))
    spec, data = ModelSpec("fcn8", 16, 24, 5, alpha=0.05), small_data(tmp_path, 16, 24)
    run = create(tmp_path / "run", spec, data, "abcde", [(i, i, i) for i in range(5)], 0)
    first, second = tmp_path / "1.weights.h5", tmp_path / "2.weights.h5"
    for seed, path in enumerate((first, second)):
        checkpoint.write(with_weights(models.build(run.config.model), seed), path)
    adopt(run, first, quiet)
    with pytest.raises(RunError, match="force it"):
        adopt(run, second, quiet)
    adopt(run, second, quiet, force=True)
    adopt(run, second, quiet, force=True)  # the same weights replace nothing
    assert run.float_training.float_result().parent == second.name
    assert len(list(run.path.glob("float.replaced-*"))) == 1
    (run.float_dir / "result.json").write_text("{")
    with pytest.raises(RunError, match="force a new training"):
        adopt(run, second, quiet)
    assert adopt(run, second, quiet, force=True).parent == second.name


def test_the_weights_in_the_repository_are_read_as_keras_reads_them():
    path = pretrained("fast-scnn")["camvid"]
    by_keras, by_us = (models.build(ModelSpec("fast-scnn", 161, 161, 11)) for _ in range(2))
    by_keras.load_weights(str(path))
    checkpoint.load(by_us, path)
    assert all(np.array_equal(a, b) for a, b in zip(by_keras.get_weights(), by_us.get_weights(), strict=True))


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras", ""], ids=lambda x: x or "checkpoint")
@pytest.mark.filterwarnings("ignore")
def test_what_is_not_finite_or_of_another_network_is_refused_by_name_and_changes_nothing(suffix, tmp_path):
    def refused(model, words):
        path = tmp_path / f"x{suffix}"
        model.save(path) if suffix == ".keras" else model.save_weights(str(path))
        ours = network()
        weights_before = ours.get_weights()
        with pytest.raises(WeightsError, match=words):
            load(ours, path)
        assert all(np.array_equal(a, b) for a, b in zip(weights_before, ours.get_weights(), strict=True))

    for layer, weight, value in (("first", 0, np.nan), ("second", 1, np.inf), ("first_bn", 2, -np.inf)):
        model = with_weights(network())
        model.get_layer(layer).weights[weight][..., -1].assign(value)
        refused(model, f"{layer} .* not finite")
    model = with_weights(network())
    model.get_layer("first_bn").moving_variance.assign(-model.get_layer("first_bn").moving_variance)
    refused(model, "first_bn moving_variance .* negative")
    refused(network(filters=7), r"first kernel has shape \(3, 3, 3, 6\) here and \(3, 3, 3, 7\) there")
    refused(network(more=True), "another network")


def test_our_own_checkpoint_with_nan_is_refused_where_it_is_used(tmp_path):
    path = tmp_path / "best.weights.h5"
    model = with_weights(network())
    model.get_layer("up").kernel.assign(model.get_layer("up").kernel * np.nan)
    checkpoint.write(model, path)
    with pytest.raises(RunError, match="up kernel in it holds values that are not finite. Restore"):
        checkpoint.load(network(), path)


def zipped(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in names.items():
            archive.writestr(name, data)


def strange(kind, folder):
    path = folder / kind
    if kind == "x.npz":
        np.savez(path, a=np.ones(3))
    elif kind == "x.npy":
        np.save(path, np.ones(3))
    elif kind == "x.pt":
        zipped(path, {"x/data.pkl": b"", "x/version": b"3"})
    elif kind == "x.pkl":
        path.write_bytes(pickle.dumps({"a": 1}))
    elif kind == "bomb.keras":
        zipped(path, {"model.weights.h5": b""})
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("model.weights.h5", bytes(70 << 20))
    elif kind == "cut.keras":
        data = io.BytesIO()
        zipped(data, {"model.weights.h5": os.urandom(1000)})
        path.write_bytes(data.getvalue()[:500])
    elif kind == "cut.h5":
        network().save_weights(str(folder / "y.h5"))
        path.write_bytes((folder / "y.h5").read_bytes()[:3000])
    elif kind == "other.h5":
        with h5py.File(path, "w") as file:
            file["x"] = np.ones(3)
    elif kind == "a link":
        path.symlink_to(folder / "nowhere")
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "lzma.keras":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("model.weights.h5", bytes(1000))
        damaged = bytearray(path.read_bytes())
        damaged[30 + len("model.weights.h5") + 4 + 5] = 255  # the first of the stream, which is always 0
        path.write_bytes(damaged)
    elif kind == "a folder with a pipe":
        path.mkdir()
        os.mkfifo(path / "checkpoint")
    elif kind == "piped checkpoint":
        path.with_name(f"{kind}.index").write_bytes(b"")
        os.mkfifo(path.with_name(f"{kind}.data-00000-of-00001"))
    elif kind == "a run":
        path.mkdir()
        (path / "run.json").write_text("{}")
    elif kind == "sm/saved_model.pb":
        path.parent.mkdir()
        path.write_bytes(b"\x08\x01")
    elif kind == "cut checkpoint.index":
        path.write_bytes(b"")
    elif kind != "nothing":
        path.write_bytes(
            {"x.tflite": b"\x1c\0\0\0TFL3", "x.onnx": b"\x08\x08\x12\x07", "empty.h5": b""}.get(kind, b"??")
        )
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("x.tflite", "a TensorFlow Lite model"),
        ("x.onnx", "an ONNX model"),
        ("x.pt", "a PyTorch file"),
        ("x.pth", "a PyTorch file"),
        ("x.pkl", "a Python pickle"),
        ("x.npz", "a NumPy .npz"),
        ("x.npy", "a NumPy .npy"),
        ("x.safetensors", "a safetensors file"),
        ("sm/saved_model.pb", "give its folder"),
        ("x.bin", "unknown kind"),
        ("bomb.keras", "more than 64 MiB"),
        ("cut.keras", "a broken .keras"),
        ("text.keras", "a broken .keras"),
        ("lzma.keras", "a broken .keras"),
        ("cut.h5", "it is broken"),
        ("text.h5", "a broken .h5"),
        ("empty.h5", "it is empty"),
        ("other.h5", "without the weights of a Keras network"),
        ("a link", "a link to .*nowhere, which does not exist"),
        ("a pipe", "neither a file nor a folder"),
        ("a folder", "a folder without weights"),
        ("a folder with a pipe", "a folder without weights"),
        ("piped checkpoint", "data-00000-of-00001 is neither a file nor a folder"),
        ("a run", "float/best"),
        ("cut checkpoint.index", "broken TensorFlow checkpoint"),
        ("nothing", "it does not exist"),
    ],
    ids=lambda x: x if " " not in x else "",
)
def test_what_is_no_weights_is_refused_for_what_it_is(kind, words, tmp_path):
    path = strange(kind, tmp_path)
    with pytest.raises(WeightsError, match=words) as error:
        load(network(), path)
    assert "\n" not in str(error.value) and ("does not exist" in words or "does not exist" not in str(error.value))


@pytest.mark.parametrize("kind", ["external storage", "external link", "soft link", "virtual dataset"])
@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_a_file_that_points_at_other_files_is_refused(kind, suffix, tmp_path):
    path, secret = tmp_path / f"x{suffix}", tmp_path / "secret"
    network().save_weights(str(path))
    shape, size = (3, 3, 3, 6), 3 * 3 * 3 * 6
    secret.write_bytes(np.full(size, 7, np.float32).tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = np.full(shape, 7, np.float32)
    with h5py.File(path, "r+") as file:
        name = "layers/conv2d/vars/0" if "layers" in file else "first/first/kernel:0"
        del file[name]
        if kind == "external storage":
            file.create_dataset(name, shape, "f4", external=[(str(secret), 0, 4 * size)])
        elif kind == "virtual dataset":
            layout = h5py.VirtualLayout(shape, "f4")
            layout[...] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", shape)
            file.create_virtual_dataset(name, layout)
        else:
            external = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/x")
            file[name] = external if kind == "external link" else h5py.SoftLink("/elsewhere")
    with pytest.raises(WeightsError, match=r"is a link, which may lead|takes its values from other files"):
        load(network(), path)
    with pytest.raises(RunError, match=r"is a link, which may lead|takes its values from other files"):
        checkpoint.load(network(), path)


def test_groups_that_hold_themselves_come_to_an_end(tmp_path):
    path = tmp_path / "x.weights.h5"
    with h5py.File(path, "w") as file:
        layers = file.create_group("layers")
        layers["again"] = layers["and_again"] = layers
    with pytest.raises(WeightsError, match="more objects than a network, or contains itself"):
        load(network(), path)


def test_nothing_in_a_file_is_run(tmp_path):
    """A .keras file whose description would make a Lambda layer: only its weights are read."""
    with_weights(network()).save(tmp_path / "x.keras")
    with zipfile.ZipFile(tmp_path / "x.keras") as archive:
        data = archive.read("model.weights.h5")
    zipped(tmp_path / "y.keras", {"config.json": b'{"class_name": "Lambda"', "model.weights.h5": data})
    model = network()
    load(model, tmp_path / "y.keras")
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), KEPT, strict=True))


def test_an_encoders_weights_are_those_of_vgg16_and_of_nothing_that_looks_like_it(tmp_path):
    encoder = tf_keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    for suffix in (".weights.h5", ".h5"):
        path = tmp_path / f"vgg{suffix}"
        encoder.save_weights(str(path))
        same = tf_keras.models.clone_model(encoder)
        load_encoder(same, str(path))
        for ours, theirs in zip(same.get_weights()[2:], encoder.get_weights()[2:], strict=True):
            np.testing.assert_array_equal(ours, theirs)
        with h5py.File(path, "r+") as file:
            root = file.get("layers", file)
            if "layers" in file:
                root["batch_normalization/vars/0"] = np.ones(3, np.float32)
            else:
                root["score32/kernel"] = np.ones(3, np.float32)
                root["score32"].attrs["weight_names"] = ["kernel"]
                encoder_layers = [layer.name for layer in encoder.layers]
                root.attrs["layer_names"] = [*(str(n).encode() for n in encoder_layers), b"score32"]
        with pytest.raises(WeightsError, match="it has (batch_normalization|score32), which this network"):
            load_encoder(same, str(path))
    shutil.copy(ROOT / "README.md", tmp_path / "x.onnx")
    for path, words in (("x.onnx", "an ONNX model"), ("", "is a folder")):
        with pytest.raises(WeightsError, match=words):
            load_encoder(same, str(tmp_path / path))


def test_an_index_that_ends_tensorflows_process_is_refused_in_a_sentence(tmp_path, capfd):
    """Its checksum is right, and an entry in it is none: TensorFlow's reader checks that by ending the process."""
    prefix = tf.train.Checkpoint(v=tf.Variable(tf.ones([3, 5]))).write(str(tmp_path / "x"))
    index = bytearray(Path(f"{prefix}.index").read_bytes())
    end = index.index(b"\x00\x00\x00\x00\x01\x00\x00\x00") + 9  # of the first block: its restarts, its compression
    assert int.from_bytes(index[end : end + 4], "little") == masked_crc32c(bytes(index[:end]))
    shape = index.index(b"\x12\x08\x12\x02\x08\x03")
    index[shape + 1] = 127  # bytes of a message, more than there are
    index[end : end + 4] = masked_crc32c(bytes(index[:end])).to_bytes(4, "little")
    Path(f"{prefix}.index").write_bytes(index)
    with pytest.raises(WeightsError, match="broken TensorFlow checkpoint .it ends its reader with SIGABRT"):
        load(network(), Path(prefix))
    assert capfd.readouterr().err == ""


def masked_crc32c(data):
    """As a TensorFlow checkpoint's blocks have it (RFC 3720, appendix B.4; tsl/lib/hash/crc32c.h, Mask)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_a_checkpoint_is_found_in_a_folder_of_any_name_and_in_no_other(tmp_path):
    folder = tmp_path / "a[b]*"
    folder.mkdir()
    network().save_weights(str(folder / "x"), save_format="tf")
    assert checkpoint_prefix(folder) == folder / "x"
    _, digest = load(network(), folder)
    assert digest != hashlib.sha256(b"").hexdigest()
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)  # a moved folder still lists where it was
    assert checkpoint_prefix(elsewhere) == elsewhere / "x" and load(network(), elsewhere)[1] == digest
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "checkpoint").write_text(f'model_checkpoint_path: "{elsewhere / "x"}"\n')
    with pytest.raises(WeightsError, match="a folder without weights"):
        checkpoint_prefix(tmp_path / "other")
