"""Compares the quantization-aware Keras network with the file made from it, layer by layer."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import get_args

import numpy as np
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from pipeline.convert.parent import load_float, parent_of
from pipeline.core.agreement import CLOSE_STEPS, DIVERGED_BELOW_PERCENT, Agreement, LayerAgreement
from pipeline.core.artifact import Artifact
from pipeline.core.device import RunnerOptions
from pipeline.core.errors import BadSpec
from pipeline.core.graph import Graph
from pipeline.core.preprocessing import InputType, Preprocessing
from pipeline.core.progress import track, waiting
from pipeline.core.ranges import Ranges
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.data import dataset_of
from pipeline.devices import connect
from pipeline.measure.confusion import PixelAgreement
from pipeline.quantize import network as quantize
from pipeline.quantize import plan as planning
from pipeline.quantize.imitate import Imitation
from pipeline.tflite.read import read


@dataclasses.dataclass
class _Tally:
    """Running sums of one layer over the images."""

    layer: str
    op: str
    tensor: int
    scale: float
    zero_point: int
    values: int = 0
    same: int = 0
    close: int = 0
    worst: int = 0
    worst_at: tuple[int, int, int, int] = (0, 0, 0, 0)
    saturated: int = 0

    def codes(self, values: tf.Tensor) -> np.ndarray:
        return np.rint(values.numpy() / self.scale) + self.zero_point

    def add(self, image: int, keras: np.ndarray, file: np.ndarray) -> None:
        apart = np.abs(keras.astype(np.int16) - file.astype(np.int16))
        self.values += apart.size
        self.same += int((apart == 0).sum())
        self.close += int((apart <= CLOSE_STEPS).sum())
        self.saturated += int((file == 127).sum())
        if self.zero_point > -128:  # else the lowest code is 0, which cuts nothing off
            self.saturated += int((file == -128).sum())
        if apart.max() > self.worst:
            self.worst = int(apart.max())
            place = np.unravel_index(apart.argmax(), apart.shape)
            self.worst_at = (image, int(place[1]), int(place[2]), int(place[3]))

    def agreement(self) -> LayerAgreement:
        return LayerAgreement(
            self.layer,
            self.op,
            self.values,
            100 * self.same / self.values,
            100 * self.close / self.values,
            self.worst,
            self.worst_at,
            100 * self.saturated / self.values,
        )


def network_of(run: Run, artifact: Artifact) -> tuple[tf_keras.Model, Ranges]:
    """The float network and the ranges that an int8 artifact was made from; raises BadSpec and RunError."""
    spec, ranges = artifact.recipe.file, artifact.recipe.ranges
    if not ranges or (spec.output, spec.stride) != ("logits", 1):
        raise BadSpec(
            f"{artifact.path} is not an int8 file that gives logits of full size: convert for cpu, with output logits."
        )
    return load_float(run, parent_of(run, artifact).checkpoint), ranges


def names_in_file(model: tf_keras.Model, rounded: Iterable[str]) -> dict[str, str]:
    """{layer whose name the file uses: rounded layer}: itself, or for a batch norm its convolution."""
    names: dict[str, str] = {}
    for name in rounded:
        layer = model.get_layer(name)
        while isinstance(layer, tf_keras.layers.BatchNormalization):
            (layer,) = planning.inputs_of(layer)
        names[layer.name] = name
    return names


def tallies_of(
    graph: Graph, names: dict[str, str], shapes: dict[str, tuple[int, ...]]
) -> tuple[dict[str, _Tally], dict[str, str]]:
    """(a tally for each layer whose output the file holds, the reason for each other layer).

    Tensors keep the names of their layers. Intermediate tensors of a rewrite are named after them as well (see
    ``rewrite.name_for``): a tensor whose name continues that of another is no layer's output, nor is one of another
    shape than the layer's (``shapes``, by layer, without the batch).
    """
    written = {graph.tensors[index].name for op in graph.ops for index in op.outputs}
    tallies: dict[str, _Tally] = {}
    reasons: dict[str, str] = {}
    for op in graph.ops:
        for index in op.outputs:
            tensor = graph.tensors[index]
            layer = _layer_in(tensor.name, names)
            if layer is None or layer in tallies:
                continue
            if any(tensor.name.startswith(f"{other}/") for other in written):
                reasons.setdefault(layer, "a rewrite left only parts of it")
            elif tensor.dtype != "int8":
                reasons[layer] = f"it is {tensor.dtype} in the file"
            elif len(tensor.scale) != 1:
                reasons[layer] = f"it has {len(tensor.scale)} scales in the file"
            elif tuple(tensor.shape[1:]) != shapes[layer]:
                in_file, in_keras = ("x".join(map(str, shape)) for shape in (tensor.shape[1:], shapes[layer]))
                reasons[layer] = f"it has shape {in_file} in the file and {in_keras} in Keras"
            else:
                tallies[layer] = _Tally(layer, f"{op.index} {op.name}", index, tensor.scale[0], tensor.range[1][0])
    missing = (layer for layer in names.values() if layer not in tallies)
    return tallies, {layer: reasons.get(layer, "no tensor has its name") for layer in missing}


def _layer_in(tensor: str, names: dict[str, str]) -> str | None:
    for part in tensor.split(";"):
        layer = next((names[name] for name in part.split("/") if name in names), None)
        if layer is not None:
            return layer
    return None


def agree(run: Run, artifact: Artifact, images: int, say: Say) -> Agreement:
    """Compares the artifact, on LiteRT's reference kernels, with its network on the first validation images."""
    model, ranges = network_of(run, artifact)
    samples = dataset_of(run, "val").splits["val"][:images]
    say(f"comparing every layer on {len(samples)} validation images, with reference kernels (slow)")

    name = str(artifact.path.relative_to(run.path))
    if artifact.recipe.approximation:
        say("note: a rewrite of this file is approximate, as it was asked for: the layer that it replaces will differ")
    with contextlib.closing(connect("host").open(artifact.path, RunnerOptions())):
        pass  # in a process of its own: a stranger's file may end the one that loads it
    data = artifact.path.read_bytes()
    with contextlib.ExitStack() as building:
        building.enter_context(waiting(say, "building the network that the file is compared with"))

        def shown() -> Iterator[np.ndarray]:
            building.close()
            for sample in track(say, samples, "comparing", len(samples)):
                yield sample.image()

        return compare(model, ranges, artifact.recipe.file.per_tensor, data, name, run.preprocessing, shown())


def compare(
    model: tf_keras.Model,
    ranges: Ranges,
    per_tensor: bool,
    data: bytes,
    name: str,
    preprocessing: Preprocessing,
    images: Iterable[np.ndarray],
) -> Agreement:
    """The quantization-aware form of ``model`` against the int8 file ``data``, on uint8 [h, w, 3] images.

    Layer by layer with integer arithmetic (see ``imitate``), and the logits alone in floating point, as in training.
    """
    graph = read(data, name)
    takes = [(graph.tensors[i].dtype in get_args(InputType), graph.tensors[i].shape) for i in graph.inputs]
    if takes != [(True, preprocessing.shape)]:
        raise BadSpec(f"{name} takes other images than the run's network, {list(preprocessing.shape)}: convert again.")
    quantized = quantize.quantization_aware(model, ranges, per_tensor=per_tensor)
    order = list(planning.rounded_at(model))
    shapes = {layer: tuple(model.get_layer(layer).output_shape[1:]) for layer in order}
    tally_of, missing = tallies_of(graph, names_in_file(model, order), shapes)
    if order[-1] in missing:
        raise BadSpec(
            f"{name} gives the logits in another form than Keras ({missing[order[-1]]}): nothing can be"
            " compared. Convert without rewrites (--no-rewrite)."
        )
    tallies = [tally_of[layer] for layer in order if layer in tally_of]
    in_integers = Imitation(quantized, model, ranges, per_tensor, {t.layer: t.op.rpartition(" ")[2] for t in tallies})
    outputs = [quantized.get_layer(quantize.PREFIX + tally.layer).output for tally in tallies]
    every_layer = tf_keras.Model(quantized.input, outputs)
    file, comparison = _FileOnReferenceKernels(data), _Comparison(tallies)
    for image in images:
        file.run(preprocessing.tensor(image, file.input_type))  # type: ignore[arg-type]
        tensor = preprocessing.tensor(image, "float32")
        in_training = quantized(tensor, training=False)
        with in_integers:
            layers = every_layer(tensor, training=False)
        comparison.add(layers, in_training, file)
    not_compared = tuple(sorted(missing.items(), key=lambda item: order.index(item[0])))
    return comparison.agreement(name, not_compared)


class _FileOnReferenceKernels:
    """An int8 file in LiteRT that keeps every tensor of its last run."""

    def __init__(self, data: bytes) -> None:
        self._interpreter = Interpreter(
            model_content=data,
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True,
        )
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        self.input_type = np.dtype(self._input["dtype"]).name

    def run(self, tensor: np.ndarray) -> None:
        self._interpreter.set_tensor(self._input["index"], tensor)
        self._interpreter.invoke()

    def tensor(self, index: int) -> np.ndarray:
        return self._interpreter.get_tensor(index)


class _Comparison:
    """Running sums over the images.

    ``layers``: in order, the logits last; what Keras computes of them in integers is compared with the file.
    """

    def __init__(self, layers: Sequence[_Tally]) -> None:
        self.layers, self.logits = layers, layers[-1]
        self.logits_in_training = dataclasses.replace(self.logits)
        self.masks, self.masks_in_training = PixelAgreement(), PixelAgreement()
        self.codes: set[int] = set()
        self.classes: set[int] = set()
        self.images = 0

    def add(self, in_integers: Sequence[tf.Tensor], in_training: tf.Tensor, file: _FileOnReferenceKernels) -> None:
        """What Keras gave for one image: every layer, and the logits alone; the file has run on the same image."""
        for tally, values in zip(self.layers, in_integers, strict=True):
            tally.add(self.images, tally.codes(values), file.tensor(tally.tensor))
        output = file.tensor(self.logits.tensor)
        codes_in_training = self.logits.codes(in_training)
        self.logits_in_training.add(self.images, codes_in_training, output)
        mask = output[0].argmax(-1)
        self.masks.add(self.logits.codes(in_integers[-1])[0].argmax(-1), mask)
        self.masks_in_training.add(codes_in_training[0].argmax(-1), mask)
        self.codes |= set(np.unique(output).tolist())
        self.classes |= set(np.unique(mask).tolist())
        self.images += 1

    def agreement(self, name: str, not_compared: tuple[tuple[str, str], ...]) -> Agreement:
        layers = tuple(tally.agreement() for tally in self.layers)
        return Agreement(
            file=name,
            images=self.images,
            kernels="LiteRT reference kernels",
            same_class_percent=self.masks.percent,
            close_percent=layers[-1].close_percent,
            in_training_same_class_percent=self.masks_in_training.percent,
            in_training_close_percent=self.logits_in_training.agreement().close_percent,
            codes=len(self.codes),
            classes=len(self.classes),
            diverges_at=next((layer.layer for layer in layers if layer.close_percent < DIVERGED_BELOW_PERCENT), None),
            layers=layers,
            not_compared=not_compared,
        )
