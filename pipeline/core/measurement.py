"""What `bench` measured. docs/measurement.md describes the JSON form, field by field."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from pipeline.core.score import Score, check_percents

SCHEMA = 5


@dataclasses.dataclass(frozen=True)
class Latency:
    """Milliseconds per inference as measured, over all blocks.

    Attributes:
      p90_ms, p99_ms: None where the device's tool does not report single inferences.
      rounds: how many blocks; artifacts that are compared are timed in turns, a block of each per round.
      starts: how many processes the blocks ran in.
      stable: whether the first warm-up ended because times had settled, not because its time was over.
      init_ms, first_ms: loading, and the first inference after it, which is not timed; None where not reported.
      drift_percent: how much slower (positive) the last third was than the first, where times have a trend, else 0.
      samples_ms: every timed inference in order; () where there are only ``summaries_ms``, one per block.
    """

    median_ms: float
    mean_ms: float
    min_ms: float
    max_ms: float
    p90_ms: float | None
    p99_ms: float | None
    runs: int
    rounds: int
    starts: int
    warmup_runs: int
    stable: bool
    threads: int
    init_ms: float | None
    first_ms: float | None
    drift_percent: float
    samples_ms: tuple[float, ...]
    summaries_ms: tuple[Mapping[str, float], ...] = ()


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How many times as long the first of two artifacts takes as the second.

    Attributes:
      ratio: the quotient of both blocks' times: median over rounds, then geometric mean over starts without a tenth of
        them at either end.
      low, high: confidence interval of that trimmed mean, at ``confidence_percent``; None where there are too few
        starts to estimate it.
    """

    ratio: float
    low: float | None
    high: float | None
    confidence_percent: float

    def __post_init__(self) -> None:
        """Raises ValueError for what is no quotient of times."""
        for value in (self.ratio, self.low, self.high):
            if value is not None and not value > 0:
                raise ValueError(f"a ratio of times is {value}, not above 0")

    @property
    def is_significant(self) -> bool:
        return self.low is not None and self.high is not None and (self.low > 1 or self.high < 1)


@dataclasses.dataclass(frozen=True)
class FileMeasurement:
    """One file, measured on one device.

    Attributes:
      runs_on: what ran it, in the runtime's words.
      score: None for a file that is only timed.
      latency: None where the device went away before it was measured.
      confusion: pixels, row = label, column = predicted, in the order of the run's classes; None without a score.
    """

    file: str
    sha256: str
    size_bytes: int
    runs_on: str
    score: Score | None
    latency: Latency | None
    peak_memory_bytes: int | None
    confusion: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for what no file is."""
        if not self.size_bytes > 0:
            raise ValueError(f"the size of {self.file[:40]} is {self.size_bytes} bytes")


@dataclasses.dataclass(frozen=True)
class Head:
    """One way to the full-size mask of a network, measured.

    Attributes:
      output, stride: of the file.
      outside: what makes the full-size mask from that output; None where the file gives it, or where there is no mask.
      mask_included: whether the latency includes what runs ``outside``.
      measured: its ``file`` is this head in words.
      times_first: its time over that of the first head.
    """

    output: str
    stride: int
    outside: str | None
    mask_included: bool
    measured: FileMeasurement
    times_first: Ratio


@dataclasses.dataclass(frozen=True)
class MeasurementContext:
    """What every measurement records about itself.

    Attributes:
      when: its end, UTC.
      target: what the artifact was made for.
      protocol: how time was measured.
      machine: the device, before the measurement.
      machine_after: its load, temperature and clock, after the measurement.
      data, split, images: what was scored.
    """

    when: str
    target: str
    protocol: dict[str, Any]
    machine: dict[str, Any]
    machine_after: dict[str, Any]
    data: str
    split: str
    images: int


@dataclasses.dataclass(frozen=True)
class HeadsMeasurement(MeasurementContext):
    """Every way to the mask of one network, on one device.

    Attributes:
      artifact, artifact_sha256: the file whose weights and ranges all heads have.
      notes: what a reader must know to understand the numbers.
    """

    artifact: str
    artifact_sha256: str
    heads: tuple[Head, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return dict(json.loads(json.dumps({"schema": SCHEMA, "kind": "heads", **dataclasses.asdict(self)})))


@dataclasses.dataclass(frozen=True)
class HostComparison:
    """The same artifact on this machine's CPU.

    Attributes:
      agreement_percent: share of all pixels where both masks have the same class.
      identical_outputs: images whose outputs are the same bytes on both.
    """

    agreement_percent: float
    identical_outputs: int


@dataclasses.dataclass(frozen=True)
class SweepPoint:
    """The parent and the artifact, timed with another number of threads."""

    threads: int
    parent: Latency
    artifact: Latency
    speedup: Ratio


@dataclasses.dataclass(frozen=True)
class ImageScore:
    """One image of those that were scored.

    Attributes:
      name: in its dataset.
      parent_miou_percent, miou_percent: of the classes that occur in its label or in the mask; None without a label.
      agreement_percent: share of its pixels where both masks have the same class.
    """

    name: str
    parent_miou_percent: float | None
    miou_percent: float | None
    agreement_percent: float

    def __post_init__(self) -> None:
        """Raises ValueError for what is no percentage."""
        check_percents(self.parent_miou_percent, self.miou_percent, self.agreement_percent)


@dataclasses.dataclass(frozen=True)
class ShownImage:
    """An image that is kept with its label and both masks, so that a report needs no dataset.

    Attributes:
      reasons: why it is kept: 'best', 'median', 'worst' by the artifact's mIoU, 'largest drop' from the parent's,
        'worst NAME' by the artifact's IoU of a class.
      score: its own.
      image, label, parent_mask, mask: files, from the run's folder on; masks are palette images of class ids.
    """

    reasons: tuple[str, ...]
    score: ImageScore
    image: str
    label: str
    parent_mask: str
    mask: str


@dataclasses.dataclass(frozen=True)
class Gate:
    """A limit that the artifact had to keep, in the unit of ``name``."""

    name: str
    value: float
    limit: float
    passed: bool


@dataclasses.dataclass(frozen=True)
class Measurement(MeasurementContext):
    """An artifact beside its float parent, on one device.

    Attributes:
      speedup: the parent's time over the artifact's.
      against: another file, timed in the same turns (`--vs`).
      against_ratio: its time over the artifact's.
      sweep: times with other numbers of threads.
      drop_points: mIoU of the parent minus mIoU of the artifact, percentage points.
      agreement_percent: share of all pixels where both masks have the same class.
      on_host: the artifact on the device compared with this machine's CPU; None where that is the device.
      notes: what a reader must know to understand the numbers.
      unfinished: why part of the measurement is missing; empty where it is complete.
      per_image: in the order of the split.
      shown: a few of them.
      gates: the limits that were asked for.
      skipped: images of the split that the run leaves out because they cannot be used.
      of_images: how many images the split has, without ``skipped``; None in files of earlier versions.
      images_sha256: of the names and files of the images that were scored; '' in files of earlier versions.
    """

    parent: FileMeasurement
    artifact: FileMeasurement
    speedup: Ratio | None
    against: FileMeasurement | None
    against_ratio: Ratio | None
    sweep: tuple[SweepPoint, ...]
    drop_points: float
    agreement_percent: float
    on_host: HostComparison | None
    notes: tuple[str, ...]
    unfinished: str = ""
    per_image: tuple[ImageScore, ...] = ()
    shown: tuple[ShownImage, ...] = ()
    gates: tuple[Gate, ...] = ()
    skipped: tuple[str, ...] = ()
    of_images: int | None = None
    images_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        return dict(json.loads(json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)})))
