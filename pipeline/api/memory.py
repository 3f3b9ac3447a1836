"""From a network to a scored file, all in memory: build, calibrate, quantize, inspect, score, predict."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tf_keras

import models
from calib.estimators import estimator
from calib.ranges import measure as measure_ranges
from pipeline.check.check import Checked
from pipeline.check.check import check as check_dataset
from pipeline.core.artifact import Artifact
from pipeline.core.dataset import Dataset
from pipeline.core.errors import BadSpec
from pipeline.core.file_spec import FileSpec
from pipeline.core.inspection import Inspection
from pipeline.core.number import whole
from pipeline.core.preprocessing import Preprocessing
from pipeline.core.ranges import Range, Ranges
from pipeline.core.say import Say, quiet
from pipeline.core.score import Score
from pipeline.core.spec import ModelSpec, Resize, parse_size
from pipeline.core.target import Target
from pipeline.data import open_dataset
from pipeline.data.decoded import Decoded
from pipeline.measure.inspect import inspect as inspect_file
from pipeline.measure.score import Infer, on_this_machine, score_masks
from pipeline.measure.threads import over
from pipeline.quantize import plan as planning
from pipeline.quantize.quantize import Quantized
from pipeline.quantize.quantize import quantize as quantize_network
from pipeline.targets import target as find_target
from pipeline.tflite.read import read_file
from pipeline.train.train import keras_infer

File = Quantized | Artifact | Path | str | bytes
"""A .tflite file, wherever it is; text is its path."""


def target_of(target: Target | str) -> Target:
    """A target by its name, or itself; raises UnknownName."""
    return find_target(target) if isinstance(target, str) else target


def build(
    spec: ModelSpec | str, size: str | None = None, num_classes: int | None = None, alpha: float | None = None
) -> tf_keras.Model:
    """A network with fresh weights: float32 [batch, h, w, 3] in [0, 1] → float32 logits [batch, h, w, classes].

    ``spec``: all of it, or a name from `list`, which ``size`` (HEIGHTxWIDTH in pixels, by default 360x480),
    ``num_classes`` (19) and ``alpha`` (1) then go with. Raises UnknownName, and BadSpec, also for one of these beside a
    ModelSpec, which has its own.
    """
    if isinstance(spec, str):
        models.network(spec)  # first: an unknown name is the error to report before a bad size
        height, width = parse_size("360x480" if size is None else size)
        spec = ModelSpec(
            spec, height, width, 19 if num_classes is None else num_classes, 1.0 if alpha is None else alpha
        )
    else:
        for name, value in (("size", size), ("num_classes", num_classes), ("alpha", alpha)):
            if value is not None:
                raise BadSpec(
                    f"{name}={value!r} has no effect beside a ModelSpec, which has its own: leave {name} out."
                )
    return models.build(spec)


def calibrate(network: tf_keras.Model, images: Iterable[np.ndarray], method: str = "min-max") -> dict[str, Range]:
    """The range of every activation that the quantized network keeps in 8 bits, by layer.

    ``images``: uint8 [h, w, 3] RGB of any size. ``method``: an estimator, see ``calib.estimators``. Raises UnknownName,
    and BadSpec without an image or for a layer that has no quantization rule.
    """
    how, planned = estimator(method), planning.plan(network)
    preprocessing = Preprocessing(*network.input_shape[1:3])
    tensors = [preprocessing.tensor(image, "float32") for image in checked(images)]
    if not tensors:
        raise BadSpec("calibrate got no image: give some, uint8 [height, width, 3]; 100 are enough.")
    return planned.share(measure_ranges(network, planned.points, lambda: iter(tensors), how))


def quantize(
    network: tf_keras.Model, ranges: Ranges | None, target: Target | str = "cpu", spec: FileSpec | None = None
) -> Quantized:
    """The checked .tflite file of a network for a target, by default with logits of full size.

    ``ranges``: from ``calibrate``; None for a target of float files. The network is not changed. Raises
    UnknownName, BadSpec, and ContractViolation naming the op.
    """
    return quantize_network(network, ranges, target_of(target), spec)


def inspect(file: File, target: Target | str, *, compiler: bool = True) -> Inspection:
    """How a target runs any .tflite file, op by op, by its rules and, with ``compiler``, by its own compiler where that
    is installed. Raises ArtifactError, UnknownName and BadSpec.
    """
    with on_disk(file) as path:
        return inspect_file(path, target_of(target), compiler)


def score(
    network: tf_keras.Model | File,
    data: Dataset | str,
    *,
    split: str = "val",
    images: int | None = None,
    resize: Resize | None = None,
) -> Score:
    """mIoU of a network in Keras, or of a .tflite file in LiteRT on this machine, on labelled images.

    ``data``: a dataset of the network's classes, or its name such as 'synthetic' or 'camvid:DIR'. ``images``: the first
    so many, None: all. ``resize``: the convention of the network's resizes, for a file whose output is smaller than the
    image. Raises BadSpec, DataError and ArtifactError.
    """
    if images is not None:
        whole("images", images, 1)
    dataset = open_dataset(data) if isinstance(data, str) else data
    if split not in dataset.splits:
        raise BadSpec(f"{dataset.text} has no split {split!r}: choose one of {', '.join(dataset.splits)}.")
    decoded = Decoded(dataset.splits[split])
    if isinstance(network, tf_keras.Model):
        _check_no_resize(resize)
        _check_classes(network.output_shape, dataset)
        return score_masks(decoded, keras_infer(network), dataset.classes, images)
    with on_disk(network) as path, _infer(path, resize) as infer:
        _, graph = read_file(path)
        _check_classes(graph.output_tensor.shape, dataset)
        return score_masks(decoded, infer, dataset.classes, images)


def _check_no_resize(resize: Resize | None) -> None:
    if resize is not None:
        raise BadSpec(
            f"resize={resize!r} has no effect for a Keras network, which resizes by itself: leave resize out."
        )


def _check_classes(output: tuple[int | None, ...], dataset: Dataset) -> None:
    """Raises BadSpec where logits or scores of this shape are of another number of classes; a mask does not tell."""
    if len(output) == 4 and output[3] != len(dataset.classes):
        raise BadSpec(
            f"the network has {output[3]} classes and {dataset.text} has {len(dataset.classes)}: score it on a dataset"
            " of its own classes."
        )


def check(data: Dataset | str, say: Say = quiet) -> Checked:
    """What a dataset holds and what is wrong with it; opens every image and label of it."""
    return check_dataset(open_dataset(data) if isinstance(data, str) else data, say)


def predict(
    network: tf_keras.Model | File, images: Iterable[np.ndarray], resize: Resize | None = None
) -> Iterator[np.ndarray]:
    """The mask of each image, at its own size: uint8 [h, w, 3] RGB → uint8 [h, w] of class ids, in order.

    ``resize``: as for ``score``. ``pipeline.report.pictures`` draws masks.
    """
    if isinstance(network, tf_keras.Model):
        _check_no_resize(resize)
        yield from map(keras_infer(network), checked(images))
        return
    with on_disk(network) as path, _infer(path, resize) as infer:
        yield from over(infer, checked(images))


def checked(images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The images; raises BadSpec for one that is not uint8 [h, w, 3], whose values would be taken for others."""
    for image in images:
        shape, kind = getattr(image, "shape", None), getattr(image, "dtype", type(image).__name__)
        if kind != np.uint8 or shape is None or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise BadSpec(f"an image is {kind} {list(shape or ())}: give uint8 [height, width, 3], RGB from 0 to 255.")
        yield image


def _infer(path: Path, resize: Resize | None) -> contextlib.AbstractContextManager[Infer]:
    _, graph = read_file(path)
    shape = graph.tensors[graph.inputs[0]].shape if graph.inputs else ()
    if len(shape) != 4 or shape[3] != 3:
        raise BadSpec(f"{path.name} has an input of shape {list(shape)}: only [1, h, w, 3] can be scored.")
    return on_this_machine(path, Preprocessing(*shape[1:3]), resize)


@contextlib.contextmanager
def on_disk(file: File) -> Iterator[Path]:
    """The file's path; a file in memory is written to a temporary folder meanwhile."""
    if isinstance(file, Artifact | Path | str):
        yield file.path if isinstance(file, Artifact) else Path(file)
        return
    with tempfile.TemporaryDirectory(prefix="segquant-") as folder:
        path = Path(folder) / "network.tflite"
        path.write_bytes(file.data if isinstance(file, Quantized) else file)
        yield path
