"""Reads a network's weights from where Keras and TensorFlow put them in their files.

Only numbers are read: no graph is loaded, no layer is built from a description, nothing is unpickled.

| layout | written by | key of a weight |
|---|---|---|
| names  | whole-model .h5 and old-style weights .h5, Keras 2 and 3 | the layer's group, which lists its weights |
| layers | .weights.h5 and the same inside .keras, Keras 2 and 3 | layers/conv2d_3/vars/0: class and count, or name |
| graph  | checkpoints and SavedModels of tf_keras | layer_with_weights-7/kernel/.ATTRIBUTES/VARIABLE_VALUE |
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import h5py
import numpy as np

from pipeline.core.errors import WeightsError
from pipeline.weights import hdf5

if TYPE_CHECKING:
    import tf_keras

CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
"""The group of all layers in a .weights.h5; Keras 2.12 to 2.15 use the second name."""
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array of a file, not read yet."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer of a network: its name, its class, and the (name, shape) of its weights in Keras' order."""

    name: str
    kind: str
    weights: tuple[tuple[str, tuple[int, ...]], ...]


Source = Callable[[Sequence[Layer]], tuple[list[list[Entry]], list[str]]]
"""A network's layers → (the entries of each, names of what else the file holds). A missing layer has no entries."""


def layers_of(model: tf_keras.Model) -> list[Layer]:
    return [
        Layer(
            layer.name,
            type(layer).__name__,
            tuple((v.name.rpartition("/")[2].partition(":")[0], tuple(v.shape)) for v in layer.weights),
        )
        for layer in model.layers
    ]


def snake_case(name: str) -> str:
    """A class' name as Keras writes it in its files: DepthwiseConv2D → depthwise_conv2d."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def write_layers(model: tf_keras.Model, file: h5py.File) -> None:
    """Writes the weights as Keras does in a .weights.h5: layers/conv2d_3/vars/0, by class and count."""
    file.create_group("vars")  # of the network itself, which has none besides those of its layers
    counts: dict[str, int] = collections.Counter()
    for layer in model.layers:
        kind = snake_case(type(layer).__name__)
        group = file.create_group(f"{CONTAINERS[0]}/{_numbered(kind, counts)}/vars")
        for i, variable in enumerate(layer.weights):
            group[str(i)] = variable.numpy()


def _numbered(kind: str, counts: dict[str, int]) -> str:
    """conv2d for the first layer of its class, then conv2d_1, conv2d_2, ..."""
    counts[kind] += 1
    return kind if counts[kind] == 1 else f"{kind}_{counts[kind] - 1}"


@contextlib.contextmanager
def hdf5_source(file: str | BinaryIO, name: str) -> Iterator[Source]:
    """The weights in an HDF5 file that Keras wrote; the message of its WeightsError has no full stop."""
    with hdf5.open_hdf5(file, name) as root:
        container = next((c for c in CONTAINERS if c in root), None)
        group = hdf5.child_of(root, "model_weights") if "model_weights" in root else root
        if container is not None:
            yield _source_by_container(hdf5.child_of(root, container))
        elif names := _layer_names(group):
            yield _source_by_name(group, names)
        else:
            raise WeightsError(f"{name} is an HDF5 file without the weights of a Keras network")


def checkpoint_source(
    shapes: Mapping[str, Sequence[int]], dtypes: Mapping[str, Any], read: Callable[[str], Any]
) -> Source:
    """The weights in a TensorFlow checkpoint, from its reader's maps of shapes and dtypes by name.

    All layers may share a prefix: tf.train.Checkpoint(model=...) writes model/layer_with_weights-0/...
    """
    pattern = re.compile(rf"(.*?)layer_with_weights-(\d+)/(\w+){re.escape(VALUE)}")
    matches = {key: match for key in shapes if (match := pattern.fullmatch(key)) and ".OPTIMIZER_SLOT" not in key}
    if not matches:
        raise WeightsError(
            "it names no layers: Keras 3 does not name them in checkpoints and SavedModels, as tf_keras does. Save the"
            " weights with model.save_weights('x.weights.h5')"
        )
    prefixes = sorted({match[1] for match in matches.values()}, key=len)
    prefix = prefixes[0]
    entries = {key: _checkpoint_entry(shapes[key], dtypes[key], read, key) for key in matches}

    def entries_of(layers: Sequence[Layer]) -> tuple[list[list[Entry]], list[str]]:
        result: list[list[Entry]] = []
        unused = {key for key, match in matches.items() if match[1] == prefix}
        number = -1
        for layer in layers:
            number += bool(layer.weights)
            keys = [f"{prefix}layer_with_weights-{number}/{weight}{VALUE}" for weight, _ in layer.weights]
            result.append([entries[key] for key in keys if key in entries])
            unused -= set(keys)
        return result, sorted(key.removesuffix(VALUE) for key in unused)

    return entries_of


def _checkpoint_entry(shape: Sequence[int], dtype: Any, read: Callable[[str], Any], key: str) -> Entry:
    return Entry(tuple(shape), np.dtype(dtype.as_numpy_dtype), lambda: np.asarray(read(key)))


def _entry(dataset: h5py.Dataset) -> Entry:
    return Entry(tuple(dataset.shape or ()), dataset.dtype, lambda: np.asarray(dataset[()]))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _layer_names(root: h5py.Group) -> list[str]:
    """The groups of layers: from the list in the file; in old files without one, the groups that list weights."""
    if "layer_names" in root.attrs:
        return [_text(name) for name in root.attrs["layer_names"]]
    hard = [key for key in root if isinstance(root.get(key, getlink=True), h5py.HardLink)]
    return [key for key in hard if "weight_names" in root[key].attrs]


def _source_by_name(root: h5py.Group, names: list[str]) -> Source:
    entries: dict[str, list[Entry]] = {}
    for group_name in names:
        group = hdf5.child_of(root, group_name)
        keys = [_text(key) for key in group.attrs["weight_names"]]
        entries[group_name] = [_entry(hdf5.child_of(group, key)) for key in keys]

    def entries_of(layers: Sequence[Layer]) -> tuple[list[list[Entry]], list[str]]:
        known = {layer.name for layer in layers}
        return [entries.get(layer.name, []) for layer in layers], [
            k for k, v in entries.items() if v and k not in known
        ]

    return entries_of


def _source_by_container(container: h5py.Group) -> Source:
    datasets = hdf5.datasets_in(container)
    entries: dict[str, dict[int, Entry]] = collections.defaultdict(dict)
    for path, dataset in datasets.items():
        if match := re.fullmatch(r"(.+)/vars/(\d+)", path):
            entries[match[1]][int(match[2])] = _entry(dataset)

    def entries_of(layers: Sequence[Layer]) -> tuple[list[list[Entry]], list[str]]:
        by_name = any(layer.weights and layer.name in entries for layer in layers)
        counts: dict[str, int] = collections.Counter()
        result, used = [], set()
        for layer in layers:
            numbered = _numbered(snake_case(layer.kind), counts)
            key = layer.name if by_name else numbered
            used.add(key)
            result.append([entry for _, entry in sorted(entries.get(key, {}).items())])
        # A Keras 3 dropout keeps the state of its generator here, which is not a weight.
        return result, [key for key in entries if key not in used and "seed_generator" not in key]

    return entries_of


def read_arrays(
    source: Source, layers: Sequence[Layer], others: str = "", skip: Collection[str] = ()
) -> dict[str, list[np.ndarray]]:
    """{layer: its weights, float32, in Keras' order}; each has the layer's shape and is finite.

    ``skip``: layers that are not read. ``others``: a pattern for names of other layers that the file may hold. Raises
    WeightsError, which names the first layer that differs; its message has no full stop.
    """
    entries_by_layer, unused = source(layers)
    arrays: dict[str, list[np.ndarray]] = {}
    for layer, entries in zip(layers, entries_by_layer, strict=True):
        if layer.name in skip or (not layer.weights and not entries):
            continue
        if not entries:
            raise WeightsError(f"it is of another network: it has no weights for {layer.name}")
        if len(entries) != len(layer.weights):
            raise WeightsError(
                f"it is of another network: {layer.name} has {len(layer.weights)} weights here and {len(entries)} there"
            )
        arrays[layer.name] = [
            _array(f"{layer.name} {name}", shape, entry)
            for (name, shape), entry in zip(layer.weights, entries, strict=True)
        ]
    for name in unused:
        if not others or not re.fullmatch(others, name):
            raise WeightsError(f"it is of another network: it has {name}, which this network does not have")
    return arrays


def _array(name: str, shape: tuple[int, ...], entry: Entry) -> np.ndarray:
    if entry.shape != shape:  # checked before it is read: it may be of any size
        raise WeightsError(f"it is of another network: {name} has shape {shape} here and {entry.shape} there")
    if entry.dtype.kind != "f" and entry.dtype.name != "bfloat16":
        raise WeightsError(f"{name} in it is of type {entry.dtype}, not floating point")
    with np.errstate(over="ignore"):
        array = entry.read().astype(np.float32)
    if not np.isfinite(array).all():
        raise WeightsError(f"{name} in it holds values that are not finite")
    if name.endswith("moving_variance") and (array < 0).any():
        raise WeightsError(f"{name} in it holds negative variances")
    return array
