"""A run with one file that could ship: drawn weights, and all that travels inside."""

from __future__ import annotations

import functools
from pathlib import Path

import tf_keras

from calib.ranges import measure
from pipeline.core.artifact import Artifact
from pipeline.core.file_spec import FileSpec
from pipeline.core.recipe import Checkpoint, Origin, Recipe
from pipeline.core.run import Run
from pipeline.quantize.plan import plan
from pipeline.quantize.to_tflite import to_tflite
from pipeline.tflite import artifact as artifacts
from tests.conftest import noise_images, scrambled
from tests.support.small_run import empty_run

COLOURS = ((128, 64, 128), (70, 70, 70), (0, 0, 142), (107, 142, 35), (220, 20, 60))


@functools.lru_cache
def int8_file() -> bytes:
    """Of a network whose classes take turns on noise: drawn weights, but for the mean and spread of each logit."""
    network = scrambled("fast-scnn")
    images = noise_images(network)
    last = [layer for layer in network.layers if isinstance(layer, tf_keras.layers.Conv2D)][-1]
    kernel, bias = last.get_weights()
    logits = network.predict(images, verbose=0).reshape(-1, len(bias))
    spread = logits.std(0)
    last.set_weights([kernel / spread, (bias - logits.mean(0)) / spread])
    planned = plan(network)
    ranges = planned.share(measure(network, planned.points, lambda: (x[None] for x in images)))
    return to_tflite(network, ranges, FileSpec())


def shipped(home: Path) -> tuple[Run, Artifact]:
    """A run in ``home``/run of a small Fast-SCNN with five classes, on five images, and its int8 file for cpu."""
    run = empty_run(home)
    config = run.config
    parent = Checkpoint("float/best.weights.h5", "0" * 64)
    origin = Origin(config.model, config.classes, COLOURS, "folder", "ptq", parent)
    path = run.artifacts("cpu") / "fast-scnn-ptq-logits.tflite"
    return run, artifacts.write(path, int8_file(), Recipe("cpu", FileSpec(), origin=origin))
