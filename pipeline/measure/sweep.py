"""Compares ways to calibrate: quantizes after training in each way and scores the int8 file."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from calib.estimators import estimator
from calib.images import Candidates, choose, selection
from pipeline.convert.parent import load_float
from pipeline.core.calibration import Calibration
from pipeline.core.file_spec import FileSpec
from pipeline.core.files import sha256, write_atomically
from pipeline.core.from_json import from_json
from pipeline.core.json_file import BadJson, load_as
from pipeline.core.pool import HERE, Pool
from pipeline.core.progress import progress
from pipeline.core.run import Run
from pipeline.core.say import Say, quiet
from pipeline.core.target import FLOAT
from pipeline.data import absolute, dataset_of
from pipeline.data.decoded import Decoded
from pipeline.data.record import by_name, contents
from pipeline.devices import connect
from pipeline.measure.score import deployed, score_masks
from pipeline.measure.sweep_shards import sweep_spread
from pipeline.quantize.calibrate import away, calibrate, candidates_of
from pipeline.quantize.observe import samples_for
from pipeline.quantize.quantize import quantize
from pipeline.targets import target

Way = tuple[int, str, str]
"""Number of images, how they are chosen, and the estimator."""


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
    pool: Pool = HERE,
) -> Sweep:  # long: one parameter for each axis of the sweep
    """Scores every combination; reuses the scores of an earlier, interrupted sweep of the same parent.

    ``pool``: does the combinations side by side, with the same scores. Raises UnknownName before anything is computed.
    """
    for name in methods:
        estimator(name)
    for name in selections:
        selection(name)
    checkpoint, dataset = run.float_training.best, dataset_of(run, "val")
    model = load_float(run, checkpoint)
    validation = Decoded(dataset.splits["val"])
    cpu, spec = target("cpu"), FileSpec(per_tensor=per_tensor)

    def miou(data: bytes) -> float:
        with deployed(data, run.preprocessing) as infer:
            return score_masks(validation, infer, dataset.classes, say=say).miou_percent

    samples = samples_for(run, folder, say)
    of = f"{run.config.data} {contents(validation.samples)} {contents(samples)}"
    key = sha256(f"{sha256(checkpoint)} {of} {per_tensor}".encode())
    file = run.measurements / f"calibration-{key[:12]}.json"
    known = _known(file)
    if "float" not in known:
        known["float"] = miou(quantize(model, None, FLOAT).data)
    candidates = candidates_of(model, run, samples, say, away(run, checkpoint, folder, pool))

    def calibrate_and_score(way: Way) -> tuple[float, float]:
        began, calibration = time.monotonic(), Calibration(way[2], way[1], way[0], folder)
        ranges, _ = calibrate(model, run, candidates, calibration, quiet)
        seconds = time.monotonic() - began
        return miou(quantize(model, ranges, cpu, spec).data), seconds

    # Each number of images comes early, so that the time left is soon known.
    in_turn = [(count, how, method) for how in selections for method in methods for count in counts]
    todo = [way for way in in_turn if _name(*way) not in known]
    results = (
        map(calibrate_and_score, todo)
        if pool.here
        else sweep_spread(run, checkpoint, absolute(folder), per_tensor, chosen_of(run, candidates, todo), pool)
    )
    rows: dict[Way, Row] = {}
    times = CombinationTimes()
    with progress(say, "comparing calibrations", len(in_turn), "combinations", False) as advance:
        for images, how, method in in_turn:
            name, began = _name(images, how, method), time.monotonic()
            if name not in known:
                known[name] = list(next(results))
                write_atomically(file, json.dumps(known).encode())
                times.took(method, images, time.monotonic() - began)
            percent, seconds = known[name]
            rows[images, how, method] = row = Row(method, how, images, percent, known["float"] - percent, seconds)
            say(f"{len(rows)}/{len(in_turn)}  {name}: {percent:.2f} %, drop {row.drop_points:+.2f} points")
            advance(1, times.left_seconds([each for each in in_turn[len(rows) :] if _name(*each) not in known]))
    return Sweep(
        sha256(checkpoint),
        run.config.data,
        len(validation),
        known["float"],
        per_tensor,
        connect("host").describe(),
        tuple(rows[each] for each in itertools.product(counts, selections, methods)),
    )


def chosen_of(run: Run, candidates: Candidates, ways: Iterable[Way]) -> list[tuple[str, tuple[str, ...]]]:
    """(estimator, names of the images to calibrate on, as ``by_name`` has them) of each way."""
    names = {id(sample): name for name, sample in by_name(candidates.samples).items()}
    return [
        (method, tuple(names[id(sample)] for sample in choose(candidates, images, selection(how), run.config.seed)))
        for images, how, method in ways
    ]


class CombinationTimes:
    """How long combinations took so far, by the number of their images and their method."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[int, str], list[float]] = {}

    def took(self, method: str, images: int, seconds: float) -> None:
        self._seconds.setdefault((images, method), []).append(seconds)

    def left_seconds(self, rest: Iterable[tuple[int, str, str]]) -> float | None:
        """None before one was timed. An untimed method is expected to take as long as others with as many images."""
        return None if not self._seconds else sum(self._expected(images, method) for images, _, method in rest)

    def _expected(self, images: int, method: str) -> float:
        same = self._seconds.get((images, method))
        alike = [s for (count, _), each in self._seconds.items() if count == images for s in each]
        return fmean(same or alike or [s for each in self._seconds.values() for s in each])


def _name(images: int, how: str, method: str) -> str:
    return f"{method} {how} {images}"


@dataclasses.dataclass(frozen=True)
class _Scores:
    """What an interrupted sweep of the same parent left: percent of its float file; (percent, seconds) by name."""

    float_percent: tuple[float, ...]
    combinations: dict[str, tuple[float, float]]


def _known(file: Path) -> dict[str, Any]:
    """{'float': percent, name of a combination: (percent, seconds)}; {} where there is no file or a broken one."""

    def scores(data: Any) -> dict[str, Any]:
        combinations = dict(data)
        percents = [combinations.pop("float")] if "float" in combinations else []
        known = from_json(_Scores, {"float_percent": percents, "combinations": combinations})
        return {**dict(zip(("float",), known.float_percent, strict=False)), **known.combinations}

    try:
        return load_as(file, scores)
    except BadJson:
        return {}
