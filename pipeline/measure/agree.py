"""Compares the quantization-aware Keras network with the file made from it, layer by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from pipeline.convert.parent import load_float, parent_of
from pipeline.core.agreement import CLOSE_STEPS, DIVERGED_BELOW_PERCENT, Agreement, LayerAgreement
from pipeline.core.artifact import Artifact
from pipeline.core.errors import BadSpec
from pipeline.core.graph import Graph
from pipeline.core.preprocessing import Preprocessing
from pipeline.core.ranges import Ranges
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.data import dataset_of
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

    def codes(self, values: tf.Tensor) -> np.ndarray:
        return np.rint(values.numpy() / self.scale) + self.zero_point

    def add(self, image: int, keras: np.ndarray, file: np.ndarray) -> None:
        apart = np.abs(keras.astype(np.int16) - file.astype(np.int16))
        self.values += apart.size
        self.same += int((apart == 0).sum())
        self.close += int((apart <= CLOSE_STEPS).sum())
        if apart.max() > self.worst:
            self.worst = int(apart.max())
            place = np.unravel_index(apart.argmax(), apart.shape)
            self.worst_at = (image, int(place[1]), int(place[2]), int(place[3]))

    def done(self) -> LayerAgreement:
        return LayerAgreement(
            self.layer,
            self.op,
            self.values,
            100 * self.same / self.values,
            100 * self.close / self.values,
            self.worst,
            self.worst_at,
        )


def network_of(run: Run, artifact: Artifact) -> tuple[tf_keras.Model, Ranges]:
    """The float network and the ranges that an int8 artifact was made from; raises BadSpec and RunError."""
    spec, ranges = artifact.recipe.file, artifact.recipe.ranges
    if not ranges or (spec.output, spec.stride) != ("logits", 1):
        raise BadSpec(
            f"{artifact.path} is not an int8 file that gives logits at full size: convert with --output logits for cpu."
        )
    return load_float(run, parent_of(run, artifact).checkpoint), ranges


def names_in_file(model: tf_keras.Model, rounded: Iterable[str]) -> dict[str, str]:
    """What tensors of the file call each layer's output: its own name, or for a batch norm that of its convolution."""
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
    """For each layer the tensor that is its output, and for those without one why there is none.

    Tensors keep the names of their layers. So do those that a rewrite put between (see ``rewrite.name_for``), which
    are something else: a tensor whose name goes on from that of another is no layer's output, nor is one of another
    shape than the layer's (``shapes``, by layer, the batch left out).
    """
    written = {graph.tensors[index].name for op in graph.ops for index in op.outputs}
    found: dict[str, _Tally] = {}
    why: dict[str, str] = {}
    for op in graph.ops:
        for index in op.outputs:
            tensor = graph.tensors[index]
            layer = _layer_in(tensor.name, names)
            if layer is None or layer in found:
                continue
            if any(tensor.name.startswith(f"{other}/") for other in written):
                why.setdefault(layer, "only parts of it were left by a rewrite")
            elif tensor.dtype != "int8":
                why[layer] = f"it is {tensor.dtype} there"
            elif tuple(tensor.shape[1:]) != shapes[layer]:
                there, here = ("x".join(map(str, shape)) for shape in (tensor.shape[1:], shapes[layer]))
                why[layer] = f"it has shape {there} there and {here} in Keras"
            else:
                found[layer] = _Tally(layer, f"{op.index} {op.name}", index, tensor.scale[0], tensor.zero_point[0])
    return found, {layer: why.get(layer, "no tensor has its name") for layer in names.values() if layer not in found}


def _layer_in(tensor: str, names: dict[str, str]) -> str | None:
    for part in tensor.split(";"):
        layer = next((names[name] for name in part.split("/") if name in names), None)
        if layer is not None:
            return layer
    return None


def agree(run: Run, artifact: Artifact, images: int, say: Say) -> Agreement:
    """Runs both on the first ``images`` validation images; the file on LiteRT's reference kernels."""
    model, ranges = network_of(run, artifact)
    samples = dataset_of(run).splits["val"][:images]
    say(f"comparing every layer on {len(samples)} validation images, on reference kernels (slow)")

    def shown() -> Iterator[np.ndarray]:
        for i, sample in enumerate(samples):
            say(f"image {i + 1}/{len(samples)}")
            yield sample.image()

    name = str(artifact.path.relative_to(run.path))
    if artifact.recipe.approximation:
        say("note: a rewrite of this file is not equal, as it was asked for: the layer that it stands for will differ")
    data = artifact.path.read_bytes()
    return compare(model, ranges, artifact.recipe.file.per_tensor, data, name, run.preprocessing, shown())


# long: one pass over the images, whose sums all lie here
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
    quantized = quantize.quantization_aware(model, ranges, per_tensor=per_tensor)
    rounded = planning.rounded_at(model)
    shapes = {layer: tuple(model.get_layer(layer).output_shape[1:]) for layer in rounded}
    found, missing = tallies_of(read(data, name), names_in_file(model, rounded), shapes)
    ops = {layer: tally.op.rpartition(" ")[2] for layer, tally in found.items()}
    in_integers = Imitation(quantized, model, ranges, per_tensor, ops)
    tallies = [found[layer] for layer in rounded if layer in found]
    outputs = [quantized.get_layer(quantize.PREFIX + tally.layer).output for tally in tallies]
    taps = tf_keras.Model(quantized.input, outputs)
    interpreter = Interpreter(
        model_content=data,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    (image_in,) = interpreter.get_input_details()
    io = np.dtype(image_in["dtype"]).name
    last = found.get(list(rounded)[-1])
    if last is None:
        raise BadSpec(
            f"{name} gives the logits in another form than Keras ({missing[list(rounded)[-1]]}): nothing can be"
            " compared. Convert with --no-rewrite."
        )
    in_training = dataclasses.replace(last)
    same = same_in_training = pixels = count = 0
    codes: set[int] = set()
    classes: set[int] = set()
    for i, image in enumerate(images):
        interpreter.set_tensor(image_in["index"], preprocessing.tensor(image, io))  # type: ignore[arg-type]
        interpreter.invoke()
        given = preprocessing.tensor(image, "float32")
        rounded_in_float = quantized(given, training=False)
        with in_integers:
            in_keras = taps(given, training=False)
        for tally, values in zip(tallies, in_keras, strict=True):
            tally.add(i, tally.codes(values), interpreter.get_tensor(tally.tensor))
        file = interpreter.get_tensor(last.tensor)
        in_training.add(i, last.codes(rounded_in_float), file)
        mask = file[0].argmax(-1)
        same += int((last.codes(in_keras[-1])[0].argmax(-1) == mask).sum())
        same_in_training += int((last.codes(rounded_in_float)[0].argmax(-1) == mask).sum())
        pixels += mask.size
        codes |= set(np.unique(file).tolist())
        classes |= set(np.unique(mask).tolist())
        count = i + 1
    layers = tuple(tally.done() for tally in tallies)
    diverges_at = next((layer.layer for layer in layers if layer.close_percent < DIVERGED_BELOW_PERCENT), None)
    return Agreement(
        file=name,
        images=count,
        kernels="LiteRT reference kernels",
        same_class_percent=100 * same / pixels,
        close_percent=layers[-1].close_percent,
        in_training_same_class_percent=100 * same_in_training / pixels,
        in_training_close_percent=in_training.done().close_percent,
        codes=len(codes),
        classes=len(classes),
        diverges_at=diverges_at,
        layers=layers,
        not_compared=tuple(sorted(missing.items(), key=lambda item: list(rounded).index(item[0]))),
    )
