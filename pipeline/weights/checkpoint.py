"""A checkpoint: one file with a network's weights and what belongs to them.

For a quantized network, these are its ranges; for a float one, the class weights of its loss, by which its class
probabilities are biased towards rare classes.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from pipeline.core.errors import RunError, WeightsError
from pipeline.core.files import unreadable, write_atomically
from pipeline.core.from_json import from_json
from pipeline.core.json_file import BadJson, made, parse
from pipeline.core.ranges import Range, Ranges, ranges_from_json, ranges_to_json
from pipeline.weights import layers as weights
from pipeline.weights.hdf5 import open_hdf5
from pipeline.weights.weight_files import is_hdf5

if TYPE_CHECKING:
    import tf_keras

RANGES = "segquant_ranges"
CLASS_WEIGHTS = "segquant_class_weights"
SIZE = "segquant_size"
"""The input size that the network was trained for, such as 360x480; other sizes have the same weights."""


@dataclasses.dataclass(frozen=True)
class ClassWeights:
    """The attribute CLASS_WEIGHTS."""

    weights: tuple[float, ...]


def write(
    model: tf_keras.Model, path: Path, ranges: Ranges | None = None, class_weights: Sequence[float] | None = None
) -> None:
    """Writes a checkpoint whole or not at all, in the layout of Keras' .weights.h5. Raises OSError.

    HDF5 writes into memory: where a disk is full, its library ends the process.
    """
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        weights.write_layers(model, file)
        file.attrs[SIZE] = "x".join(map(str, model.input_shape[1:3]))
        if ranges is not None:
            file.attrs[RANGES] = json.dumps(ranges_to_json(ranges))
        if class_weights is not None:
            file.attrs[CLASS_WEIGHTS] = json.dumps([round(float(weight), 6) for weight in class_weights])
    write_atomically(path, image.getvalue())


def load(model: tf_keras.Model, path: Path) -> None:
    """Sets all weights of ``model`` from the file, or none.

    Raises RunError for a file that is broken, of another network, or with values that are not finite.
    """
    try:
        with weights.hdf5_source(str(path), "it") as source:
            arrays = weights.read_arrays(source, weights.layers_of(model))
    except WeightsError as error:
        raise RunError(
            f"checkpoint {path} cannot be used: {error}. Restore the file, or train again in a new run."
        ) from None
    set_weights(model, arrays)


def set_weights(model: tf_keras.Model, arrays: dict[str, list[np.ndarray]]) -> None:
    """Sets the weights that ``weights.read_arrays`` read for this network."""
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(arrays[layer.name])


def _attribute(path: Path, name: str) -> str | None:
    """The text of an attribute; None where the file has none. Raises WeightsError."""
    with open_hdf5(str(path), "it") as file:
        value = file.attrs.get(name)
        if value is not None and not isinstance(value, str):
            raise WeightsError(f"its {name} is not text")
        return value


def size_in(path: Path) -> str | None:
    """The input size that the weights were trained for, such as 360x480; None for files that do not say or open.

    Raises WeightsError for a file that is broken or says nonsense.
    """
    if unreadable(path) is not None or not is_hdf5(path):
        return None
    try:
        size = _attribute(path, SIZE)
        if size is not None and not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", size):
            raise WeightsError(f"its {SIZE} is {size[:20]!r}, not like 360x480")
    except WeightsError as error:
        raise WeightsError(f"weights {path}: {error}. Restore the file, or give other weights.") from None
    return size


def ranges_in(path: Path) -> dict[str, Range]:
    """The ranges that were written with the weights; raises RunError if there are none."""
    try:
        text = _attribute(path, RANGES)
        if text is None:
            raise BadJson("it has no ranges")
        return made(parse(text), ranges_from_json)
    except (WeightsError, BadJson) as error:
        raise RunError(
            f"checkpoint {path} is broken or holds no ranges ({error}): restore it, or repeat `qat --force`."
        ) from None


def class_weights_in(path: Path, num_classes: int | None = None) -> tuple[float, ...] | None:
    """What of its loss's class weights is left in the logits, which favour rare classes; None if the file has none.

    Raises RunError if they are not positive and finite, or not ``num_classes`` in number.
    """
    try:
        text = _attribute(path, CLASS_WEIGHTS)
        if text is None:
            return None
        class_weights = made(parse(text), lambda data: from_json(ClassWeights, {"weights": data})).weights
    except (WeightsError, BadJson) as error:
        raise RunError(f"checkpoint {path} is broken ({error}): restore it, or train again in a new run.") from None
    if not all(weight > 0 for weight in class_weights):
        raise RunError(
            f"checkpoint {path} holds class weights that are not positive numbers ({list(class_weights)}): restore"
            " it, or train again in a new run."
        )
    if num_classes is not None and len(class_weights) != num_classes:
        raise RunError(
            f"checkpoint {path} holds {len(class_weights)} class weights and the network has {num_classes} classes:"
            " restore it, or train again in a new run."
        )
    return class_weights
