"""Compares ways to calibrate: quantizes after training in each way and scores the int8 file."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calib.estimators import estimator
from calib.images import selection
from pipeline.convert.parent import load_float
from pipeline.core.calibration import Calibration
from pipeline.core.file_spec import FileSpec
from pipeline.core.files import sha256, write_atomically
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.core.target import FLOAT
from pipeline.data import dataset_of
from pipeline.data.decoded import Decoded
from pipeline.devices import connect
from pipeline.measure.score import deployed, score_masks
from pipeline.quantize.calibrate import calibrate, candidates_of, samples_for
from pipeline.quantize.quantize import quantize
from pipeline.targets import target


@dataclasses.dataclass(frozen=True)
class Row:
    """One way to calibrate and what its int8 file scores on the validation images.

    Attributes:
      seconds: for choosing the images and calibrating, on this machine.
    """

    method: str
    selection: str
    images: int
    miou_percent: float
    drop_points: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Sweep:
    """All rows of one parent, and the float file's score.

    Attributes:
      machine: where the files were scored.
    """

    parent_sha256: str
    data: str
    images_scored: int
    float_miou_percent: float
    per_tensor: bool
    machine: dict[str, Any]
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, **dataclasses.asdict(self)}


def sweep(
    run: Run,
    methods: Sequence[str],
    selections: Sequence[str],
    counts: Sequence[int],
    per_tensor: bool,
    folder: str | None,
    say: Say,
) -> Sweep:
    """Scores every combination; reuses the scores of an earlier, interrupted sweep of the same parent.

    Raises UnknownName before anything is computed.
    """
    for name in methods:
        estimator(name)
    for name in selections:
        selection(name)
    checkpoint = run.float_training.best
    model = load_float(run, checkpoint)
    dataset = dataset_of(run)
    validation = Decoded(dataset.splits["val"])
    cpu, spec = target("cpu"), FileSpec(per_tensor=per_tensor)

    def miou(data: bytes) -> float:
        with deployed(data, run.preprocessing) as infer:
            return score_masks(validation, infer, dataset.classes).miou_percent

    key = sha256(f"{sha256(checkpoint)} {run.config.data} {folder} {per_tensor}".encode())
    file = run.measurements / f"calibration-{key[:12]}.json"
    known = _known(file)
    if "float" not in known:
        known["float"] = miou(quantize(model, None, FLOAT).data)
    candidates = candidates_of(model, run, samples_for(run, folder, say), say)
    rows = []
    combinations = list(itertools.product(counts, selections, methods))
    for i, (images, how, method) in enumerate(combinations):
        name = f"{method} {how} {images}"
        if name not in known:
            began = time.monotonic()
            ranges, _ = calibrate(model, run, candidates, Calibration(method, how, images, folder), lambda _: None)
            seconds = time.monotonic() - began
            known[name] = [miou(quantize(model, ranges, cpu, spec).data), seconds]
            write_atomically(file, json.dumps(known).encode())
        percent, seconds = known[name]
        rows.append(Row(method, how, images, percent, known["float"] - percent, seconds))
        say(f"{i + 1}/{len(combinations)}  {name}: {percent:.2f} %, drop {rows[-1].drop_points:+.2f} points")
    return Sweep(
        sha256(checkpoint),
        run.config.data,
        len(validation),
        known["float"],
        per_tensor,
        connect("host").describe(),
        tuple(rows),
    )


def _known(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError):
        return {}
