"""What an artifact is made from: the QAT network of a run, or its float one and calibrated ranges."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tf_keras

import models
from pipeline.core.calibration import Calibration, Quantization
from pipeline.core.errors import BadSpec, RunError
from pipeline.core.ranges import Ranges
from pipeline.core.run import Run
from pipeline.core.target import Target
from pipeline.quantize.calibrate import calibrate, candidates_of, samples_for
from pipeline.weights import checkpoint as checkpoints

Say = Callable[[str], None]


def load_float(run: Run, checkpoint: Path) -> tf_keras.Model:
    """The run's network with the weights of ``checkpoint``; raises RunError for a broken file."""
    model = models.build(run.config.model)
    checkpoints.load(model, checkpoint)
    return model


@dataclasses.dataclass(frozen=True)
class Parent:
    """What an artifact is made from: float weights, and for an int8 one the ranges that go with them."""

    method: str
    checkpoint: Path
    ranges: Ranges | None = None
    calibration: dict[str, Any] | None = None
    per_tensor: bool = False


def choose_parent(run: Run, target: Target, asked: Quantization, say: Say) -> Parent:
    """The QAT network where there is one, else the float network, which is then quantized after training."""
    best = run.float_dir / "best.weights.h5"
    if not (run.float_dir / "result.json").is_file():
        raise RunError(f"{run.path} has no trained network yet: run `python cli.py qat --run {run.path}` first.")
    if target.weights != "int8":
        return Parent("float", best)
    trained = (run.qat_dir / "result.json").is_file()
    if asked.method == "qat" and not trained:
        raise RunError(f"{run.path} has no QAT network: run `python cli.py qat --run {run.path}`, or --method ptq.")
    if trained and asked.method != "ptq":
        return _qat_parent(run, asked, say)
    if asked.method is None:
        say("there is no QAT network in this run: post-training quantization (`python cli.py qat` trains one)")
    model = load_float(run, best)
    asked_calibration = asked.calibration or Calibration()
    candidates = candidates_of(model, run, samples_for(run, asked_calibration.folder, say), say)
    ranges, calibration = calibrate(model, run, candidates, asked_calibration, say)
    return Parent("ptq", best, ranges, calibration, asked.per_tensor)


def _qat_parent(run: Run, asked: Quantization, say: Say) -> Parent:
    checkpoint = run.qat_dir / "best.weights.h5"
    try:
        settings = json.loads((run.qat_dir / "settings.json").read_text())
        calibration = json.loads((run.qat_dir / "ranges.json").read_text())["calibration"]
        per_tensor = bool(settings["per_tensor"])
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(f"{run.qat_dir} is broken: repeat `qat --force`, or `qat` in a new run.") from None
    if asked.calibration is not None:
        say("note: the QAT network brings its ranges; calibration options are for --method ptq")
    if asked.per_tensor and not per_tensor:
        raise BadSpec(
            "--per-tensor: the QAT network of this run was trained for per-channel weights; train with `qat"
            " --per-tensor` in a new run, or convert with --method ptq."
        )
    return Parent("qat", checkpoint, checkpoints.ranges_in(checkpoint), calibration, per_tensor)
