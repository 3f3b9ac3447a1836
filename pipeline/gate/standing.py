"""How an artifact stands: what was measured of it and what its target's rules say, as a gate needs it.

It is read from a run, from the JSON that `bench` writes, or from a baseline that `gate --save` wrote.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.artifact import Artifact
from pipeline.core.errors import RunError
from pipeline.core.measurement import Measurement
from pipeline.core.run import Run
from pipeline.measure.inspect import inspect
from pipeline.targets import targets

SCHEMA = 1
MACHINE = ("device", "cpu", "cores", "runtime", "threads")
"""What must be equal before two latencies are compared."""
MOST_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class Standing:
    """One artifact, measured.

    Attributes:
      where: the file that says so.
      miou_percent, iou_percent: of the artifact, overall and by class, on ``images`` images of ``split`` of ``data``.
      drop_points: from its float parent, in percentage points.
      median_ms: latency on ``machine``; None where it was not timed.
      against: sha256 of another file that was timed in the same turns, and its time over the artifact's; None: none.
      coverage_percent: share of the multiply-accumulates that the target's rules accelerate; None where not known.
    """

    where: str
    target: str
    sha256: str
    size_bytes: int
    data: str
    split: str
    images: int
    miou_percent: float
    iou_percent: Mapping[str, float]
    drop_points: float
    median_ms: float | None
    machine: Mapping[str, Any]
    against: tuple[str, float] | None = None
    coverage_percent: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "kind": "baseline", **dataclasses.asdict(self)}


def of_run(run: Run, artifact: Artifact) -> Standing:
    """From the newest measurement of the artifact as it is now; raises RunError where there is none."""
    target = artifact.recipe.target
    paths = run.measurements.glob(f"bench-{target}-*.json")
    for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        standing = of_file(path)
        if standing.sha256 == artifact.sha256:
            return dataclasses.replace(standing, coverage_percent=_coverage(artifact))
    raise RunError(
        f"{artifact.path} has not been measured as it is now: run `python cli.py bench --run {run.path} --target"
        f" {target}` first."
    )


def _coverage(artifact: Artifact) -> float | None:
    target = targets()[artifact.recipe.target]
    return inspect(artifact.path, target, compiler=False).coverage.macs_accelerated_percent if target.rules else None


def of_measurement(measurement: Measurement) -> Standing:
    """Of what ``measure`` returned."""
    return _measured(Path(measurement.artifact.file), measurement.to_json())


def of_file(path: Path) -> Standing:
    """From the JSON of `bench` or `gate --save`; raises RunError for any other file."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("it is too large")
        data = json.loads(path.read_text("utf-8"))
        if not isinstance(data, dict):
            raise TypeError("it is no JSON object")
        return _baseline(path, data) if data.get("kind") == "baseline" else _measured(path, data)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        words = f"it has no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise RunError(
            f"{path} is no measurement that can be compared ({words}): name a run, the JSON of one `bench`, or what"
            " `gate --save` wrote."
        ) from None


def _baseline(path: Path, data: dict[str, Any]) -> Standing:
    if data["schema"] != SCHEMA:
        raise ValueError(f"it has schema {data['schema']}, and this version reads {SCHEMA}")
    against = data["against"]
    return Standing(
        str(path),
        _text(data["target"]),
        _text(data["sha256"]),
        int(_number(data["size_bytes"])),
        _text(data["data"]),
        _text(data["split"]),
        int(_number(data["images"])),
        _number(data["miou_percent"]),
        {_text(name): _number(iou) for name, iou in data["iou_percent"].items()},
        _number(data["drop_points"]),
        _number_or_none(data["median_ms"]),
        {key: data["machine"].get(key) for key in MACHINE},
        None if against is None else (_text(against[0]), _number(against[1])),
        _number_or_none(data["coverage_percent"]),
    )


def _measured(path: Path, data: dict[str, Any]) -> Standing:
    artifact, latency = data["artifact"], data["artifact"]["latency"]
    score, other = artifact["score"], data.get("against")
    return Standing(
        str(path),
        _text(data["target"]),
        _text(artifact["sha256"]),
        int(_number(artifact["size_bytes"])),
        _text(data["data"]),
        _text(data["split"]),
        int(_number(data["images"])),
        _number(score["miou_percent"]),
        {_text(name): _number(iou) for name, iou in score["iou_percent"].items()},
        _number(data["drop_points"]),
        None if latency is None else _number(latency["median_ms"]),
        {key: data["machine"].get(key) for key in MACHINE},
        None if other is None else (_text(other["sha256"]), _number(data["against_ratio"]["ratio"])),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]!r} stands where text must")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{str(value)[:40]!r} stands where a number must")
    return value


def _number_or_none(value: object) -> float | None:
    return None if value is None else _number(value)
