"""How an artifact stands: what was measured of it and what its target's rules say, as a gate needs it.

It is read from a run, from the JSON that `bench` writes, or from a baseline that `gate --save` wrote.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.artifact import Artifact
from pipeline.core.errors import RunError
from pipeline.core.files import sha256
from pipeline.core.from_json import from_json
from pipeline.core.json_file import BadJson, load_as
from pipeline.core.measurement import Measurement
from pipeline.core.run import Run
from pipeline.core.score import check_percents
from pipeline.measure.inspect import inspect
from pipeline.targets import targets

SCHEMA = 1
MACHINE = ("device", "cpu", "cores", "runtime", "threads")
"""What must be equal before two latencies are compared."""
LEAST, MOST = 1e-6, 1e18
"""Of milliseconds, ratios and counts: a nanosecond, and far more than there is. So a quotient of two is finite."""


@dataclasses.dataclass(frozen=True)
class Standing:
    """One artifact, measured.

    Attributes:
      where: the file that says so.
      miou_percent, iou_percent: of the artifact, overall and by class, on the first ``images`` images of ``split`` of
        ``data``.
      drop_points: from its float parent, in percentage points.
      median_ms: latency on ``machine``; None where it was not timed.
      against: sha256 of another file that was timed in the same turns, and its time over the artifact's; None: none.
      coverage_percent: share of the multiply-accumulates that the target's rules accelerate; None where not known.
      of_images: how many images the split has; None where not known.
      images_sha256: of the names and files of the images; '' where not known.
      labelled_pixels: of each class, in ascending order; () where not known.
      skipped: images of the split that were left out because they cannot be used.
      one_class: the class of every pixel of the masks, where the labels hold others too: then accuracies say nothing.
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
    of_images: int | None = None
    images_sha256: str = ""
    labelled_pixels: tuple[int, ...] = ()
    skipped: int = 0
    one_class: str | None = None

    @property
    def scored(self) -> str:
        """'98 of 101 val images of camvid:DIR'."""
        total = (self.of_images or self.images) + self.skipped
        count = str(self.images) if self.images == total else f"{self.images} of {total}"
        return f"{count} {self.split} images of {self.data}"

    def __post_init__(self) -> None:
        """Raises ValueError for what no measurement is and no ratio can be taken of."""
        positive = {"size_bytes": self.size_bytes, "images": self.images, "median_ms": self.median_ms}
        positive["against's ratio"] = None if self.against is None else self.against[1]
        for name, value in positive.items():
            if value is not None and not LEAST <= value <= MOST:
                raise ValueError(f"{name} is {value:g}, not from {LEAST:g} to {MOST:g}")
        if not self.iou_percent:
            raise ValueError("no class was scored, so no accuracy is known: its images have no labels")
        check_percents(self.miou_percent, *self.iou_percent.values())

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "kind": "baseline", **dataclasses.asdict(self)}


def of_run(run: Run, artifact: Artifact, split: str = "val", images: int | None = None) -> Standing:
    """From the newest measurement of the artifact as it is now on that split; raises RunError where there is none.

    ``images``: the first so many that were scored, None: all of the split. A device that runs compiled files was given
    the compiled twin.
    """
    target = artifact.recipe.target
    files = {artifact.sha256, *([sha256(artifact.compiled)] if artifact.compiled else [])}
    others, broken = [], ""
    saved = (path for path in run.measurements.glob(f"bench-{target}-*.json") if path.is_file())
    for path in sorted(saved, key=lambda path: path.stem, reverse=True):  # a copy has another time, its name the same
        try:
            standing = of_file(path)
        except RunError as error:  # one file does not hide the others
            broken = broken or f" ({error.message.partition(':')[0]})"
            continue
        if standing.sha256 in files and standing.split == split:
            if standing.images == (standing.of_images if images is None else images):
                return dataclasses.replace(standing, coverage_percent=_coverage(artifact))
            others.append(standing)
    on_split, options = ("", "") if split == "val" else (f" on {split}", f" --split {split}")
    on_images = "" if images is None else f" on the first {images} images"
    options += "" if images is None else f" --images {images}"
    remedy = f"run `python cli.py bench --run {run.path} --target {target}{options}` first"
    why = f"has not been measured as it is now{on_split}{on_images}"
    if others and images is None:
        some = others[0]
        if some.of_images is None:
            why = f"was measured on {some.images} {split} images by an earlier version, which does not say of how many"
        else:
            why = f"was measured on {some.images} of {some.of_images} {split} images alone"
            remedy += f", or let those count (--images {some.images})"
    raise RunError(f"{artifact.path} {why}{broken}: {remedy}.")


def _coverage(artifact: Artifact) -> float | None:
    target = targets().get(artifact.recipe.target)
    if target is None or target.rules is None:
        return None
    return inspect(artifact.path, target, compiler=False).coverage.macs_accelerated_percent


def of_measurement(measurement: Measurement, where: str = "") -> Standing:
    """``where``: the file that it was read from; '' for one that `bench` has just made."""
    artifact, latency = measurement.artifact, measurement.artifact.latency
    if artifact.score is None:
        raise ValueError("it has no score of the artifact")
    against = None
    if measurement.against is not None and measurement.against_ratio is not None:
        against = measurement.against.sha256, measurement.against_ratio.ratio
    return Standing(
        where or artifact.file,
        measurement.target,
        artifact.sha256,
        artifact.size_bytes,
        measurement.data,
        measurement.split,
        measurement.images,
        artifact.score.miou_percent,
        artifact.score.iou_percent,
        measurement.drop_points,
        None if latency is None else latency.median_ms,
        {key: measurement.machine.get(key) for key in MACHINE},
        against,
        None,
        measurement.of_images,
        measurement.images_sha256,
        tuple(sorted(map(sum, artifact.confusion or ()))),
        len(measurement.skipped),
        artifact.score.one_class,
    )


def of_file(path: Path) -> Standing:
    """From the JSON of `bench` or `gate --save`; raises RunError for any other file."""
    try:
        return load_as(path, lambda data: _of_json(data, path))
    except BadJson as error:
        raise RunError(
            f"{path} is no measurement that can be compared ({error}): name a run, the JSON of one `bench`, or what"
            " `gate --save` wrote."
        ) from None


def _of_json(data: Any, path: Path) -> Standing:
    if not isinstance(data, dict):
        raise TypeError("it is no JSON object")
    if data.get("kind") != "baseline":
        return of_measurement(from_json(Measurement, data), str(path))
    if data["schema"] != SCHEMA:
        raise ValueError(f"it has schema {data['schema']}, and this version reads {SCHEMA}")
    return from_json(Standing, {**data, "where": str(path)})
