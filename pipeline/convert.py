"""Converts a trained network into a checked .tflite file for one target."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

import models
from calib.images import choose
from calib.ranges import measure
from pipeline import quantize
from pipeline.data import open_dataset
from pipeline.fold import INPUT_RANGE, Output, fold
from pipeline.nouns import artifact as artifacts
from pipeline.nouns.artifact import Artifact
from pipeline.nouns.dataset import Dataset
from pipeline.nouns.errors import BadSpec, CompilerError, ContractViolation, RunError
from pipeline.nouns.files import sha256
from pipeline.nouns.preprocessing import InputType
from pipeline.nouns.ranges import Range, Ranges, ranges_from_json, ranges_to_json
from pipeline.nouns.run import Run
from pipeline.nouns.target import Compiled, Target, Weights
from pipeline.nouns.tflite import read
from pipeline.verify import verify

Say = Callable[[str], None]

CALIBRATION_IMAGES = 100
FLOAT = Target("float32", "float reference", "float32", ("float32",), source="")
"""The float parent as a file: what every other artifact is compared with."""


def tflite_bytes(model: tf_keras.Model, weights: Weights, io: InputType = "float32") -> bytes:
    """Converts a folded network (see ``fold``) with a fixed batch of 1.

    ``io`` is the type of the input. Logits and scores of an int8 graph come out as int8, or as float32 with
    ``io='float32'``; a mask is int32. Raises ContractViolation when the converter refuses the graph.
    """
    height, width = model.input_shape[1:3]
    call = tf.function(lambda image: model(image, training=False))
    concrete = call.get_concrete_function(tf.TensorSpec([1, height, width, 3], tf.float32, name="image"))
    holder = tf.Module()  # not the model itself: the converter would trace every one of its layers again, for minutes
    holder.variables_held = model.variables
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], holder)
    if weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if weights == "int8":
        converter.inference_input_type = getattr(tf, io)
        # uint8 is for cameras: on the way out it would only cost a pass over every logit.
        keeps_type = io == "float32" or model.outputs[0].dtype == tf.int32
        converter.inference_output_type = tf.float32 if keeps_type else tf.int8
    try:
        return bytes(converter.convert())
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ContractViolation(f"TensorFlow's converter refused the network: {first}") from None


def load_float(run: Run, checkpoint: Path) -> tf_keras.Model:
    """The run's network with the weights of ``checkpoint``; raises RunError for a broken file."""
    model = models.build(run.config.model)
    try:
        model.load_weights(str(checkpoint))
    except (OSError, KeyError, ValueError) as error:
        raise RunError(
            f"checkpoint {checkpoint} is broken or of another network ({str(error).splitlines()[0]}): train again in a"
            " new run, or restore the file."
        ) from None
    return model


def calibrate(
    model: tf_keras.Model, run: Run, dataset: Dataset, count: int, say: Say
) -> tuple[dict[str, Range], dict[str, Any]]:
    """Ranges of every point of the network's plan, and how they were found."""
    chosen = choose(dataset.splits["train"], count, run.config.seed)
    say(f"calibrating on {len(chosen)} training images (min/max)")
    planned = quantize.plan(model)

    def images() -> Iterator[np.ndarray]:
        for sample in chosen:
            yield run.preprocessing.tensor(sample.image(), "float32")

    ranges = planned.share(measure(model, planned.points, images()))
    names = [sample.name for sample in chosen]
    how = {
        "method": "min/max", "selection": "random", "split": "train", "images": names,
        "images_sha256": sha256("\n".join(names).encode()),
    }  # fmt: skip
    return ranges, how


@dataclasses.dataclass(frozen=True)
class Parent:
    """What an artifact is made from: float weights, and for an int8 one the ranges that go with them."""

    method: str
    checkpoint: Path
    ranges: Ranges | None
    calibration: dict[str, Any] | None


def choose_parent(run: Run, target: Target, images: int, say: Say) -> Parent:
    """The QAT network where there is one, else the float network, which is then quantized after training."""
    best = run.float_dir / "best.weights.h5"
    if not (run.float_dir / "result.json").is_file():
        raise RunError(f"{run.path} has no trained network yet: run `python cli.py qat --run {run.path}` first.")
    if target.weights != "int8":
        return Parent("float", best, None, None)
    if (run.qat_dir / "result.json").is_file():
        try:
            data = json.loads((run.qat_dir / "ranges.json").read_text())
            ranges = ranges_from_json(data["ranges"])
        except (OSError, ValueError, KeyError, TypeError):
            raise RunError(f"{run.qat_dir / 'ranges.json'} is broken: repeat `qat` in a new run.") from None
        return Parent("qat", run.qat_dir / "best.weights.h5", ranges, data["calibration"])
    say("there is no QAT network in this run: post-training quantization (`python cli.py qat` trains one)")
    ranges, calibration = calibrate(load_float(run, best), run, open_dataset(run.config.data), images, say)
    return Parent("ptq", best, ranges, calibration)


def versions() -> dict[str, str]:
    names = ("tensorflow", "tf-keras", "tensorflow-model-optimization", "ai-edge-litert", "numpy")
    return {name: importlib.metadata.version(name) for name in names}


def recipe_of(run: Run, target: Target, parent: Parent, output: Output, io: InputType) -> dict[str, Any]:
    spec = run.config.model
    return {
        "schema": 1,
        "target": target.name,
        "model": dataclasses.asdict(spec),
        "size": spec.size,
        "classes": list(run.config.classes),
        "colours": [list(c) for c in run.config.colours],
        "data": run.config.data.partition(":")[0],
        "preprocessing": run.preprocessing.to_json(),
        "output": output,
        "io": io,
        "weights": target.weights,
        "method": parent.method,
        "calibration": parent.calibration,
        "ranges": ranges_to_json(parent.ranges) if parent.ranges else None,
        "versions": versions(),
        "parent": {
            "checkpoint": f"{parent.checkpoint.parent.name}/{parent.checkpoint.name}",
            "sha256": sha256(parent.checkpoint),
        },
    }


def convert(
    run: Run, target: Target, say: Say, *, output: Output = "logits", io: InputType | None = None,
    images: int = CALIBRATION_IMAGES, force: bool = False, replace_stale: bool = False,
) -> Artifact:  # fmt: skip
    """Makes the artifact of one target in the run, or reuses the one that is there.

    One that was made otherwise is replaced with ``force``, or with ``replace_stale`` where nobody asked for it by name.
    Raises BadSpec for an --io the target does not take, RunError, and ContractViolation naming the op.
    """
    io = io or target.io[0]
    if io not in target.io:
        raise BadSpec(f"--io {io} does not fit target {target.name}: it takes {', '.join(target.io)}.")
    parent = choose_parent(run, target, images, say)
    recipe = recipe_of(run, target, parent, output, io)
    method = parent.method if target.weights == "int8" else target.weights
    path = run.artifacts(target.name) / f"{run.config.model.network}-{method}-{output}-{io}.tflite"
    if path.exists() and not force:
        there = artifacts.open_artifact(path)
        if there.recipe == recipe:
            say(f"{path} is there and made the same way: reused")
            path.touch()  # so that it is the one converted last
            return there
        changed = sorted(k for k in recipe if there.recipe.get(k) != recipe[k])
        if not replace_stale:
            raise RunError(f"{path} exists with another {', '.join(changed)}: pass --force to replace it.")
    say(f"converting {parent.method} weights for {target.title}")
    model = fold(load_float(run, parent.checkpoint), parent.ranges, output)
    data = tflite_bytes(model, target.weights, io)
    pinned = [INPUT_RANGE, *parent.ranges.values()] if parent.ranges else []
    verify(read(data), target, pinned)
    return artifacts.write(path, data, recipe)


def compile_artifact(artifact: Artifact, target: Target, required: bool, say: Say) -> tuple[Artifact, Compiled | None]:
    """Runs the target's compiler where it has one. Raises CompilerError when it fails, or is required and missing."""
    if target.compile is None:
        if required:
            raise CompilerError(f"target {target.name} has no compiler to require: leave --require-compiled out.")
        return artifact, None
    compiled = target.compile(artifact.path)
    if compiled.path is None:
        if required:
            raise CompilerError(f"{artifact.path} is {compiled.note}")
        return artifact, compiled
    return artifacts.with_compiled(artifact, compiled.path, compiled.note), compiled


def float_reference(run: Run, output: Output, say: Say) -> Artifact:
    """The float parent as a .tflite file with the same output, for comparison."""
    return convert(run, FLOAT, say, output=output, replace_stale=True)
