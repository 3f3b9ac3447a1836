"""Accuracy against latency of every artifact that was measured."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from pipeline.core.measurement import HeadsMeasurement
from pipeline.report.page.blocks import Block, Cell, Chart, Column, Missing, Section, Table, words
from pipeline.report.page.charts import Point, scatter
from pipeline.report.page.evidence import Evidence
from pipeline.report.page.numbers import fixed, interval
from pipeline.report.page.subjects import Subject, data_of, machine_of, source_of

COLUMNS = (
    Column("file"),
    Column("mIoU %", "measured", True),
    Column("ms, median", "measured", True),
    Column("ms, 90th percentile", "measured", True),
    Column("run by"),
    Column("measured at"),
)

HEADS = (
    Column("way"),
    Column("mIoU %", "measured", True),
    Column("ms, median", "measured", True),
    Column("times the first", "measured", True),
    Column("its interval", "measured", True),
)


def tradeoff(runs: Sequence[Evidence], subjects: Sequence[Subject]) -> Section:
    """A chart for each machine and data: what was measured elsewhere is not comparable."""
    groups: dict[tuple[str, str], list[Subject]] = {}
    for subject in subjects:
        if subject.artifact.score and subject.artifact.latency:
            groups.setdefault((machine_of(subject.bench.machine), data_of(subject.bench)), []).append(subject)
    blocks: list[Block] = [_chart(machine, data, group) for (machine, data), group in groups.items()]
    for run in runs:
        blocks += [_heads(run, heads) for heads in run.heads]
        if not any(run is subject.evidence for group in groups.values() for subject in group):
            blocks.append(Missing(f"{run.label} has no measurement with both", run.command("bench")))
    return Section("tradeoff", "Accuracy against latency", tuple(blocks))


def _chart(machine: str, data: str, group: Sequence[Subject]) -> Chart:
    points: list[Point] = []
    rows = []
    for kind, subject in enumerate(group):
        for name, measured, hollow in (
            (f"float beside {subject.label}", subject.bench.parent, True),
            (subject.label, subject.artifact, False),
        ):
            score, latency = measured.score, measured.latency
            if score is None or latency is None:
                continue
            points.append(Point(name, latency.median_ms, score.miou_percent, kind, hollow))
            cells = (fixed(score.miou_percent), fixed(latency.median_ms), fixed(latency.p90_ms))
            when = subject.bench.when[:16].replace("T", " ")
            rows.append((Cell(name), *map(Cell, cells), Cell(measured.runs_on), Cell(when)))
    draw = functools.partial(scatter, points, "median latency, ms", "mIoU, %")
    source = (
        f"Measured on {data}; {machine}. A float file and the artifact beside it were timed in turns; what was measured"
        " at another time met another state of the machine."
    )
    title = f"Accuracy against latency on {machine.partition(',')[0]}, {data}"
    return Chart(
        title,
        f"{len(points)} files by median latency in milliseconds and mIoU in percent; up and to the left is better.",
        draw,
        Table(title, COLUMNS, tuple(rows), source),
    )


def _heads(run: Evidence, measured: HeadsMeasurement) -> Table:
    """Every way to the full-size mask, which `bench --heads` compared."""
    rows = []
    for head in measured.heads:
        score, latency = head.measured.score, head.measured.latency
        rows.append(
            words(
                head.measured.file,
                fixed(score.miou_percent if score else None),
                fixed(latency.median_ms if latency else None),
                fixed(head.times_first.ratio, 3),
                interval(head.times_first, 3),
            )
        )
    source = f"{source_of(measured)} {' '.join(f'{note}.' for note in measured.notes)}".strip()
    return Table(f"{run.label}: ways to a mask of full size, from {measured.artifact}", HEADS, tuple(rows), source)
