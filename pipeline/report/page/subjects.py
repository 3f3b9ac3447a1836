"""What a report compares: each measured file of each run on each device, under a short name of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from pipeline.core.measurement import FileMeasurement, Measurement, MeasurementContext
from pipeline.report.page.evidence import Evidence


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A measurement, and what it is called in charts and tables.

    Attributes:
      label: 'cpu', with the run's name before it where there are several, the split behind it where it is not val, and
        the file and device where a target has several.
    """

    label: str
    evidence: Evidence
    bench: Measurement

    @property
    def artifact(self) -> FileMeasurement:
        return self.bench.artifact

    @property
    def source(self) -> str:
        return source_of(self.bench)


def subjects_of(runs: Sequence[Evidence]) -> tuple[Subject, ...]:
    pairs = [(run, bench) for run in runs for bench in run.benches]
    parts = [_label_parts(run, bench, len(runs) > 1) for run, bench in pairs]
    labels = []
    for of_bench in parts:
        labels.append(
            next(
                label
                for n in range(1, len(of_bench) + 1)
                if [" · ".join(other[:n]) for other in parts].count(label := " · ".join(of_bench[:n])) == 1
                or n == len(of_bench)
            )
        )
    return tuple(Subject(label, run, bench) for label, (run, bench) in zip(labels, pairs, strict=True))


def _label_parts(run: Evidence, bench: Measurement, several: bool) -> list[str]:
    """From what always distinguishes to what may be needed."""
    first = f"{run.label} · {bench.target}" if several else bench.target
    if bench.split != "val":
        first = f"{first} · {bench.split}"
    return [first, PurePosixPath(bench.artifact.file).stem, str(bench.machine.get("device"))]


def machine_of(machine: dict[str, Any]) -> str:
    """'host, Intel Xeon, 1 of 2 cores, ai-edge-litert 2.3.0': what a figure was measured on."""
    cores, threads = machine.get("cores"), machine.get("threads")
    used = f"{threads} of {cores} cores" if threads and cores else ""
    parts = (machine.get("device"), machine.get("cpu") or "unknown CPU", used, machine.get("runtime"))
    return ", ".join(str(part) for part in parts if part)


def data_of(bench: MeasurementContext) -> str:
    return f"{bench.images} {bench.split} images of {bench.data}"


def source_of(bench: MeasurementContext) -> str:
    """Machine, runtime, data and day of a measurement."""
    return f"Measured {bench.when[:16].replace('T', ' ')} UTC on {data_of(bench)}; {machine_of(bench.machine)}."
