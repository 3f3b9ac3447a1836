"""Weights are written as Keras writes them, and never straight to the disk."""

import errno
import os
import zlib

import h5py
import numpy as np
import pytest
import tf_keras

from models.blocks import BilinearResize
from pipeline.core.confined import why_unsafe
from pipeline.core.errors import WeightsError
from pipeline.core.ranges import Range
from pipeline.weights import checkpoint, hdf5
from pipeline.weights.layers import Layer, hdf5_source, read_arrays


def content(path):
    """{path in the file: array, or None for a group}"""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, x: found.update({name: x[()] if isinstance(x, h5py.Dataset) else None}))
    return found


def network():
    """Every kind of layer with weights that networks here have, some of them twice."""
    tf_keras.utils.set_random_seed(3)
    layers = tf_keras.layers
    image = layers.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", use_bias=False)(image))
    x = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x)))
    x = layers.Add()([x, layers.Dropout(0.5)(layers.Conv2D(4, 1)(x))])
    x = layers.Conv2DTranspose(2, 4, 2, "same")(layers.Conv2D(2, 1, 2)(x))
    return tf_keras.Model(image, BilinearResize(16, 16)(x))


def test_the_file_is_the_one_that_keras_writes(tmp_path):
    checkpoint.write(network(), tmp_path / "ours.weights.h5")
    network().save_weights(str(tmp_path / "keras.weights.h5"))
    ours, keras = content(tmp_path / "ours.weights.h5"), content(tmp_path / "keras.weights.h5")
    assert ours.keys() == keras.keys() and sum(array is not None for array in keras.values()) > 15
    for path, array in keras.items():
        assert array is None if ours[path] is None else np.array_equal(ours[path], array)


def test_keras_and_we_read_it_again(tmp_path):
    written, path = network(), tmp_path / "x.weights.h5"
    checkpoint.write(written, path, {"a": Range(0.0, 1.0)}, [0.5, 1.5])
    other = network()
    for load in (lambda: other.load_weights(str(path)), lambda: checkpoint.load(other, path)):
        for variable in other.weights:
            variable.assign(variable * 0)
        load()
        assert all(np.array_equal(a, b) for a, b in zip(written.get_weights(), other.get_weights(), strict=True))
    assert checkpoint.ranges_in(path) == {"a": Range(0.0, 1.0)} and checkpoint.class_weights_in(path) == (0.5, 1.5)


def test_a_checkpoint_says_the_size_it_was_trained_for_where_we_wrote_it(tmp_path, monkeypatch):
    path, by_keras = tmp_path / "x.weights.h5", tmp_path / "keras.weights.h5"
    checkpoint.write(network(), path)
    network().save_weights(str(by_keras))
    assert checkpoint.size_in(path) == "8x8"
    assert checkpoint.size_in(by_keras) is checkpoint.size_in(tmp_path) is checkpoint.size_in(tmp_path / "no") is None
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "unreadable", lambda path: "cannot be read (Permission denied)")
        assert checkpoint.size_in(path) is None
    for nonsense in ("8", "0x8", "8x8x8", "8x8\n", "[/]", 8):
        with h5py.File(path, "a") as file:
            file.attrs["segquant_size"] = nonsense
        with pytest.raises(WeightsError, match="segquant_size is"):
            checkpoint.size_in(path)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    model, path = network(), tmp_path / "x.weights.h5"
    checkpoint.write(model, path)
    before = path.read_bytes()

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as raised:
        checkpoint.write(model, path, class_weights=[1.0])
    assert raised.value.filename == str(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("link", [False, True], ids=["plain", "with a link"])
def test_a_file_that_unpacks_to_more_than_it_says_ends_its_child_alone(link, tmp_path, monkeypatch):
    """A chunk of 1 MiB that inflates to more than the child may have; a link that nobody follows changes nothing."""
    path, side, most = tmp_path / "x.h5", 512, 1 << 27
    monkeypatch.setattr(hdf5, "why_unsafe", lambda work, seconds: why_unsafe(work, seconds, most))
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["only"]
        group = file.create_group("only")
        group.attrs["weight_names"] = ["kernel:0"]
        dataset = group.create_dataset("kernel:0", (side, side), "f4", chunks=(side, side), compression="gzip")
        packer, empty = zlib.compressobj(1), bytes(1 << 22)
        pieces = [packer.compress(empty) for _ in range((most >> 22) + 1)]
        dataset.id.write_direct_chunk((0, 0), b"".join([*pieces, packer.flush()]))
        if link:
            file["first"] = h5py.SoftLink("/only")
    layers = [Layer("only", "Conv2D", (("kernel", (side, side)),))]
    with pytest.raises(WeightsError, match="is broken"), hdf5_source(str(path), "it") as source:
        read_arrays(source, layers)


def test_attributes_of_every_group_are_read_by_the_child_first(tmp_path, monkeypatch):
    path, read = tmp_path / "x.h5", []
    with h5py.File(path, "w") as file:
        deep = file.create_group("model_weights/first/deep")
        deep.attrs["weight_names"] = ["kernel:0"]
        file["model_weights/again"] = file["model_weights"]
    monkeypatch.setattr(h5py.AttributeManager, "__getitem__", lambda attributes, name: read.append(name))
    hdf5._read_all(str(path))
    assert read == ["weight_names"]


@pytest.mark.timeout(20)
def test_a_pipe_is_no_checkpoint_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightsError, match="it is not a file"), hdf5.open_hdf5(str(tmp_path / "pipe"), "it"):
        pass
