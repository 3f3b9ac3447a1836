"""Takes weights that were trained elsewhere as a run's float parent, from any file format of Keras and TensorFlow."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

import models
from pipeline.core.confined import why_unsafe
from pipeline.core.errors import RunError, WeightsError
from pipeline.core.files import open_regular, sha256, unreadable
from pipeline.core.run import FILE, Run
from pipeline.core.say import Say
from pipeline.core.training import FloatResult, Training, changes
from pipeline.data import dataset_of
from pipeline.data.decoded import Decoded
from pipeline.measure.score import score_masks
from pipeline.train.train import keras_infer
from pipeline.weights import checkpoint
from pipeline.weights import layers as weights
from pipeline.weights.hdf5 import MOST_DATASET_BYTES
from pipeline.weights.layers import Source
from pipeline.weights.weight_files import is_hdf5, open_weights

ALLOWED = (
    "Allowed are the best.weights.h5 of a run, .h5, .weights.h5 and .keras files of Keras 2 or 3, and SavedModel"
    " folders and checkpoints that tf_keras wrote, of the same network"
)
MOST_LIST_BYTES = 1 << 20
"""Of a folder's list of checkpoints, which names a few."""
READ_SECONDS = 8
"""Of the processor, for reading a whole checkpoint; half a gigabyte takes one or two."""


def adopt(run: Run, path: Path, say: Say, *, force: bool = False) -> FloatResult:
    """Makes trained weights the run's float parent, and scores them on its validation images.

    Stores a checkpoint with the file's weights, and with its class weights if it has them.
    Raises RunError if the run has another parent already, which ``force`` sets aside, and WeightsError if the file does
    not hold weights of the run's network.
    """
    model = models.build(run.config.model)
    try:
        class_weights, digest = _load(model, path)
    except WeightsError as error:
        raise WeightsError(f"--parent {path}: {error}. {ALLOWED} ({_described(run)}).") from None
    training, settings = run.float_training, {"parent_sha256": digest}
    replaces = force and _is_other_or_broken(training, settings)
    if training.is_finished(settings, replaces):
        result = training.float_result()
    else:
        training.begin(settings, replaces)
        dataset = dataset_of(run, "val")
        percent = score_masks(Decoded(dataset.splits["val"]), keras_infer(model), dataset.classes, say=say).miou_percent
        checkpoint.write(model, training.best, class_weights=class_weights)
        result = FloatResult(percent, parent=path.name, parent_sha256=digest)
        training.finish(result)
    say(f"float network: {path}, val mIoU {result.best_val_miou_percent:.2f} %")
    return result


def _is_other_or_broken(training: Training, settings: dict[str, Any]) -> bool:
    try:
        if training.trained:
            training.float_result()
        return bool(changes(training.settings() or settings, settings))
    except RunError:
        return True


def _described(run: Run) -> str:
    spec = run.config.model
    return f"{spec.network}, alpha {spec.alpha:g}, {spec.num_classes} classes"


def _load(model: tf_keras.Model, path: Path) -> tuple[tuple[float, ...] | None, str]:
    """Sets the weights of ``model``; returns the class weights, if it is a checkpoint of a run, and a digest."""
    prefix = checkpoint_prefix(path)
    if prefix is not None:
        with _in_checkpoint(prefix) as source:
            arrays = weights.read_arrays(source, weights.layers_of(model))
        checkpoint.set_weights(model, arrays)
        return None, hashlib.sha256("".join(map(sha256, _parts(prefix))).encode()).hexdigest()
    if (reason := unreadable(path)) is not None:
        raise WeightsError(f"it {reason}")
    with open_weights(path, 4 * model.count_params()) as source:
        arrays = weights.read_arrays(source, weights.layers_of(model))
    checkpoint.set_weights(model, arrays)
    return checkpoint.class_weights_in(path, model.output_shape[-1]) if is_hdf5(path) else None, sha256(path)


def checkpoint_prefix(path: Path) -> Path | None:
    """The prefix of the TensorFlow checkpoint that a path names.

    The path may be the prefix, one of the checkpoint's files, a SavedModel or a folder of checkpoints. Returns None for
    any other file. Raises WeightsError for a folder without weights.
    """
    path = Path(os.path.abspath(path))  # because '.' has no name
    name = path.name
    match = re.fullmatch(r"(.+)\.(index|data-\d{5}-of-\d{5})", name)
    if match and path.with_name(f"{match[1]}.index").is_file():
        return path.with_name(match[1])
    if path.with_name(f"{name}.index").is_file() and not path.exists():
        return path
    if name == "checkpoint" and path.is_file():
        path = path.parent
    if not path.is_dir():
        return None
    if (path / "variables" / "variables.index").is_file():
        return path / "variables" / "variables"
    if (last := _last_listed(path)) is not None:
        return last
    if (path / FILE).is_file():
        raise WeightsError(f"it is the folder of a run: give its weights, {Training(path / 'float').best}")
    kind = "a SavedModel without variables" if (path / "saved_model.pb").is_file() else "a folder without weights in it"
    raise WeightsError(f"it is {kind}")


def _last_listed(folder: Path) -> Path | None:
    """The checkpoint that the folder's list names as the last; only one in that folder, whatever path is listed."""
    with contextlib.suppress(OSError, ValueError, tf.errors.OpError):
        open_regular(folder / "checkpoint", MOST_LIST_BYTES).close()  # TensorFlow would wait for a pipe
        state = tf.train.get_checkpoint_state(str(folder))
        if state is not None and (name := Path(state.model_checkpoint_path).name):
            return folder / name if (folder / f"{name}.index").is_file() else None
    return None


@contextlib.contextmanager
def _in_checkpoint(prefix: Path) -> Iterator[Source]:
    for part in _parts(prefix):
        if (reason := unreadable(part)) is not None:
            raise WeightsError(f"its {part.name} {reason}")
    try:
        with _without_wildcards(prefix) as plain:
            if (why := why_unsafe(lambda: _read_all(str(plain)), READ_SECONDS)) is not None:
                raise WeightsError(f"it is a broken TensorFlow checkpoint ({why})")
            reader = tf.train.load_checkpoint(str(plain))
            yield weights.checkpoint_source(
                reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map(), reader.get_tensor
            )
    except (tf.errors.OpError, ValueError, TypeError, RuntimeError, OSError) as error:
        why = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise WeightsError(f"it is a broken TensorFlow checkpoint ({why})") from None


def _read_all(prefix: str) -> None:
    """Reads what this process may read, in a child: TensorFlow ends the process where an index makes no sense."""
    reader = tf.train.load_checkpoint(prefix)
    dtypes = reader.get_variable_to_dtype_map()
    for name, shape in reader.get_variable_to_shape_map().items():
        if dtypes[name].is_floating and dtypes[name].size * math.prod(shape) <= MOST_DATASET_BYTES:
            with contextlib.suppress(tf.errors.OpError):  # of what this network does not have it does not matter
                reader.get_tensor(name)


@contextlib.contextmanager
def _without_wildcards(prefix: Path) -> Iterator[Path]:
    """A path of the same checkpoint that TensorFlow does not take for a pattern."""
    if not re.search(r"[][*?\\]", str(prefix)):
        yield prefix
        return
    with tempfile.TemporaryDirectory(prefix="segquant-") as folder:
        for part in _parts(prefix):
            (Path(folder) / f"checkpoint{part.name.removeprefix(prefix.name)}").symlink_to(part)
        yield Path(folder) / "checkpoint"


def _parts(prefix: Path) -> list[Path]:
    return sorted(part for part in prefix.parent.iterdir() if part.name.startswith(f"{prefix.name}."))
