"""What bench found out. docs/measurement.md describes the JSON form, field by field."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from pipeline.core.score import Score

SCHEMA = 4


@dataclasses.dataclass(frozen=True)
class Latency:
    """Milliseconds per inference as measured, over all blocks.

    Attributes:
      p90_ms, p99_ms: None where the device's tool tells no single inferences.
      rounds: how many blocks; artifacts that are compared are timed in turns, a block of each per round.
      starts: how many processes they come from.
      stable: whether the first warm-up ended because times had settled, and not because it had lasted long enough.
      init_ms, first_ms: loading, and the first inference after it, apart from the timed ones; None where not told.
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
      ratio: geometric mean over starts, a tenth left out at either end, of the median over rounds of the quotient of
        both blocks' times.
      low, high: interval of that trimmed mean, of ``confidence_percent``; None where too few starts say how much
        starts differ.
    """

    ratio: float
    low: float | None
    high: float | None
    confidence_percent: float

    @property
    def is_significant(self) -> bool:
        return self.low is not None and self.high is not None and (self.low > 1 or self.high < 1)


@dataclasses.dataclass(frozen=True)
class FileMeasurement:
    """One artifact, measured on one device.

    Attributes:
      runs_on: what ran it, in the runtime's words.
      score: None for a file that is only timed.
      latency: None where the device went away before it was measured.
    """

    file: str
    sha256: str
    size_bytes: int
    runs_on: str
    score: Score | None
    latency: Latency | None
    peak_memory_bytes: int | None


@dataclasses.dataclass(frozen=True)
class Head:
    """One way to the full-size mask of a network, measured.

    Attributes:
      output, stride: of the file.
      outside: what makes the mask of full size of that output; None where the file gives it, or where none is made.
      measured: its ``file`` is this head in words, its ``latency`` includes what is ``outside``, where
        ``mask_included``.
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
    """What every measurement says of itself.

    Attributes:
      when: end of it, UTC.
      target: what the artifact was made for.
      protocol: how time was measured.
      machine: the device before, ``machine_after``: what changes while it works, afterwards.
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
      artifact, artifact_sha256: the file whose weights and ranges all of them have.
      notes: what a reader must know to read the numbers rightly.
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
    """Both artifacts with another number of threads."""

    threads: int
    parent: Latency
    artifact: Latency
    speedup: Ratio


@dataclasses.dataclass(frozen=True)
class Measurement(MeasurementContext):
    """An artifact beside its float parent, on one device.

    Attributes:
      speedup: the parent's time over the artifact's.
      against: another file that was timed in the same turns, and ``against_ratio``: its time over the artifact's.
      sweep: the same with other numbers of threads.
      drop_points: mIoU of the parent minus mIoU of the artifact, percentage points.
      agreement_percent: share of all pixels where both masks have the same class.
      on_host: the artifact there and here; None on this machine's CPU itself.
      notes: what a reader must know to read the numbers rightly.
      unfinished: why something is missing; empty where nothing is.
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

    def to_json(self) -> dict[str, Any]:
        return dict(json.loads(json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)})))
