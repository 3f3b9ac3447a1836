"""Quantization-aware training: from the float parent's weights and from ranges measured on training images."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tf_keras

import models
from pipeline import quantize
from pipeline.convert import CALIBRATION_IMAGES, calibrate, load_float, tflite_bytes
from pipeline.data import open_dataset
from pipeline.data.decoded import Decoded
from pipeline.devices import device
from pipeline.evaluate import runner_infer, score_masks
from pipeline.feed import Augmentation, class_frequencies, class_weights
from pipeline.fit import Schedule, fit
from pipeline.fold import fold
from pipeline.nouns.files import sha256, write_atomically
from pipeline.nouns.ranges import Ranges, ranges_from_json, ranges_to_json
from pipeline.nouns.run import Run
from pipeline.train import finish, plain, read_json, settle

Say = Callable[[str], None]


def qat(
    run: Run, schedule: Schedule, augmentation: Augmentation, say: Say, *, images: int = CALIBRATION_IMAGES,
    force: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Trains the run's quantized network, or reuses or resumes the training that is there; returns its result.

    What is scored is the int8 file that the weights convert to, not the Keras network.
    """
    folder = run.qat_dir
    parent = run.float_dir / "best.weights.h5"
    settings = {
        "schedule": plain(schedule), "augmentation": plain(augmentation),
        "calibration_images": images, "parent_sha256": sha256(parent),
    }  # fmt: skip
    settle(folder, settings, force)
    if (folder / "result.json").is_file():
        result = read_json(folder / "result.json")
        say(f"QAT network: trained already, val mIoU of its int8 file {result['best_val_miou_percent']:.2f} %: reused")
        return result
    dataset = open_dataset(run.config.data)
    training, validation = Decoded(dataset.splits["train"]), Decoded(dataset.splits["val"])
    spec = run.config.model
    tf_keras.utils.set_random_seed(run.config.seed)
    model = load_float(run, parent)
    ranges_file = folder / "ranges.json"
    if ranges_file.is_file():
        ranges: Ranges = ranges_from_json(read_json(ranges_file)["ranges"])
    else:
        ranges, how = calibrate(model, run, dataset, images, say)
        data = {"ranges": ranges_to_json(ranges), "calibration": how}
        write_atomically(ranges_file, (json.dumps(data, indent=2) + "\n").encode())
    quantized = quantize.quantization_aware(model, ranges)
    family = models.network(spec.network)
    say(f"quantization-aware training of {family.title} {spec.size}: {schedule.steps} steps")
    weights = class_weights(class_frequencies(training, spec.num_classes))

    def portable(trained: tf_keras.Model) -> tf_keras.Model:
        quantize.copy_weights(model, trained)
        return model

    def score(candidate: tf_keras.Model) -> float:
        data = tflite_bytes(fold(candidate, ranges), "int8", "uint8")
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "candidate.tflite"
            file.write_bytes(data)
            host = device("host")
            runner = host.open(file, 2)
            try:
                return score_masks(validation, runner_infer(runner, run.preprocessing), dataset.classes).miou_percent
            finally:
                runner.close()

    fitted = fit(
        quantized, (), spec.resize, training, weights, augmentation, schedule, score, folder, run.config.seed + 1, say,
        portable,
    )  # fmt: skip
    return finish(folder, fitted)
