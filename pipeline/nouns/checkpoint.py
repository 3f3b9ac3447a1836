"""A checkpoint: one file with a network's weights and what goes with them.

A quantized network's has its ranges; a float one's the class weights of the loss that it was trained with, which say by
how much its class probabilities lean towards rare classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from pipeline.nouns.errors import RunError
from pipeline.nouns.ranges import Range, Ranges, ranges_from_json, ranges_to_json

if TYPE_CHECKING:
    import tf_keras

RANGES = "segquant_ranges"
CLASS_WEIGHTS = "segquant_class_weights"


def write(
    model: tf_keras.Model, path: Path, ranges: Ranges | None = None, class_weights: Sequence[float] | None = None
) -> None:  # fmt: skip
    """Writes all of it, whole or not at all."""
    part = path.with_name(f".part.{path.name}")  # Keras chooses the format by the ending .weights.h5
    model.save_weights(str(part))
    with h5py.File(part, "r+") as file:
        if ranges is not None:
            file.attrs[RANGES] = json.dumps(ranges_to_json(ranges))
        if class_weights is not None:
            file.attrs[CLASS_WEIGHTS] = json.dumps([round(float(weight), 6) for weight in class_weights])
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


def class_weights_in(path: Path) -> tuple[float, ...] | None:
    """Those of the loss that the weights were trained with; None where the file does not tell."""
    try:
        with h5py.File(path) as file:
            return tuple(map(float, json.loads(file.attrs[CLASS_WEIGHTS])))
    except KeyError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"checkpoint {path} is broken ({type(error).__name__}): restore it, or train again.") from None
