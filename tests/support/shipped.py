"""A run with one file that could ship: drawn weights, and all that travels inside."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import tf_keras

from calib.ranges import measure
from pipeline.core.artifact import Artifact
from pipeline.core.file_spec import FileSpec
from pipeline.core.recipe import Checkpoint, Method, Origin, Recipe
from pipeline.core.run import Run
from pipeline.quantize.plan import plan
from pipeline.quantize.to_tflite import to_tflite
from pipeline.tflite import artifact as artifacts
from tests.conftest import noise_images, scrambled
from tests.support.small_run import empty_run

COLOURS = ((128, 64, 128), (70, 70, 70), (0, 0, 142), (107, 142, 35), (220, 20, 60))


@functools.lru_cache
def turning_network() -> tf_keras.Model:
    """Its classes take turns on noise: drawn weights, but for the mean and spread of each logit."""
    network = scrambled("fast-scnn")
    images = noise_images(network)
    last = [layer for layer in network.layers if isinstance(layer, tf_keras.layers.Conv2D)][-1]
    kernel, bias = last.get_weights()
    logits = network.predict(images, verbose=0).reshape(-1, len(bias))
    spread = logits.std(0)
    last.set_weights([kernel / spread, (bias - logits.mean(0)) / spread])
    return network


@functools.lru_cache
def file_of(spec: FileSpec) -> bytes:
    """That network as a .tflite file."""
    network = turning_network()
    planned = plan(network)
    ranges = planned.share(measure(network, planned.points, lambda: (x[None] for x in noise_images(network))))
    return to_tflite(network, ranges if spec.weights == "int8" else None, spec)


def int8_file() -> bytes:
    return file_of(FileSpec())


def shipped(home: Path, target: str = "cpu", spec: FileSpec = FileSpec()) -> tuple[Run, Artifact]:
    """A run in ``home``/run of a small Fast-SCNN with five classes, on five images, and its file for a target."""
    run = empty_run(home)
    return run, shipped_into(run, target, spec)


def shipped_into(
    run: Run, target: str, spec: FileSpec, *, recipe_spec: FileSpec | None = None, **more: Any
) -> Artifact:
    """Another file of that network in such a run; ``recipe_spec``: what its recipe claims; ``more``: of its origin."""
    config = run.config
    parent = Checkpoint("float/best.weights.h5", "0" * 64)
    method: Method = "ptq" if spec.weights == "int8" else "float"
    origin = Origin(config.model, config.classes, COLOURS, "folder", method, parent, **more)
    path = run.artifacts(target) / (recipe_spec or spec).file_name("fast-scnn", method)
    return artifacts.write(path, file_of(spec), Recipe(target, recipe_spec or spec, origin=origin))
