"""A checkpoint: one file with a network's weights and, where it is quantized, the ranges that go with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from pipeline.nouns.errors import RunError
from pipeline.nouns.ranges import Range, Ranges, ranges_from_json, ranges_to_json

if TYPE_CHECKING:
    import tf_keras

RANGES = "segquant_ranges"


def write(model: tf_keras.Model, path: Path, ranges: Ranges | None = None) -> None:
    """Writes both, whole or not at all."""
    part = path.with_name(f".part.{path.name}")  # Keras chooses the format by the ending .weights.h5
    model.save_weights(str(part))
    if ranges is not None:
        with h5py.File(part, "r+") as file:
            file.attrs[RANGES] = json.dumps(ranges_to_json(ranges))
    part.replace(path)


def load(model: tf_keras.Model, path: Path) -> None:
    """Gives ``model`` the weights of the file; raises RunError for one that is broken or of another network."""
    try:
        model.load_weights(str(path))
    except (OSError, KeyError, ValueError) as error:
        raise RunError(
            f"checkpoint {path} is broken or of another network ({str(error).splitlines()[0]}): restore the file, or"
            " train again in a new run."
        ) from None


def ranges_in(path: Path) -> dict[str, Range]:
    """The ranges that were written with the weights; raises RunError where there are none."""
    try:
        with h5py.File(path) as file:
            return ranges_from_json(json.loads(file.attrs[RANGES]))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise RunError(
            f"checkpoint {path} is broken or holds no ranges ({type(error).__name__}): restore it, or repeat"
            " `qat --force`."
        ) from None
