"""Where an inference spends its time, of every file that was profiled."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from pipeline.core.profile import UNATTRIBUTED, OpTime, Profile
from pipeline.report.page.blocks import Block, Cell, Chart, Column, Missing, Section, Table
from pipeline.report.page.charts import Bar, bars
from pipeline.report.page.evidence import Evidence
from pipeline.report.page.numbers import fixed, integer, millions
from pipeline.report.page.subjects import machine_of

FIGURES = (
    Column("ms", "measured", True),
    Column("share, %", "measured", True),
    Column("million MACs", "counted", True),
    Column("kB moved", "counted", True),
    Column("attainable ms", "estimated", True),
)
MOST_ROWS = 200
"""Stages and operators, the longest first: more than a network here has, and a chart of more cannot be read."""


def timing(runs: Sequence[Evidence]) -> Section:
    blocks: list[Block] = []
    for run in runs:
        profiled = [shipped for shipped in run.artifacts if shipped.artifact.sha256 in run.profiles]
        for shipped in profiled:
            name = shipped.name if len(runs) == 1 else f"{run.label}: {shipped.name}"
            blocks += _of_file(name, run.profiles[shipped.artifact.sha256])
        if not profiled:
            blocks.append(Missing(f"{run.label} has not been profiled", run.command("profile")))
    return Section("time", "Where the time goes", tuple(blocks))


def _of_file(name: str, profile: Profile) -> Iterator[Block]:
    machine = machine_of({**profile.machine, "threads": profile.threads})
    source = (
        f"Measured on {machine}, {profile.runs} inferences of noise, lower quartiles{_load(profile)}; a whole inference"
        f" without the profiler takes {fixed(profile.plain_ms)} ms."
        " Attainable is estimated from this machine's peaks, measured at the same time."
    )
    groups = profile.by("stage")[:MOST_ROWS]
    shown = [Bar(title or UNATTRIBUTED, 0.0, sum(op.measured_ms for op in ops)) for title, ops in groups]
    rows = tuple((Cell(title or UNATTRIBUTED), *_figures(ops, profile)) for title, ops in groups)
    between = (Cell("between ops"), Cell(fixed(profile.between_ms, 3)), Cell(_share(profile.between_ms, profile)))
    draw = functools.partial(bars, shown, "ms per inference, measured")
    table = Table(
        f"{name}: time by stage",
        (Column("stage"), *FIGURES),
        (*rows, (*between, Cell(""), Cell(""), Cell(""))),
        source,
    )
    slowest = shown[0] if shown else Bar("nothing", 0, 0)
    yield Chart(
        f"{name}: time by stage",
        f"{len(shown)} stages; the longest is {slowest.title} with {fixed(slowest.high)} of"
        f" {fixed(profile.total_ms)} ms.",
        draw,
        table,
    )
    kinds = tuple((Cell(title), *_figures(ops, profile)) for title, ops in profile.by("op")[:MOST_ROWS])
    yield Table(f"{name}: time by operator", (Column("operator"), *FIGURES), kinds, source, folded=True)


def _figures(ops: Sequence[OpTime], profile: Profile) -> Iterator[Cell]:
    ms = sum(op.measured_ms for op in ops)
    yield Cell(fixed(ms, 3))
    yield Cell(_share(ms, profile))
    yield Cell(millions(sum(op.macs for op in ops)))
    yield Cell(integer(sum(op.moved_bytes for op in ops) // 1000))
    yield Cell(fixed(sum(op.attainable_ms for op in ops), 3))


def _load(profile: Profile) -> str:
    load = profile.machine.get("load_average_1min")
    return f", load average before {load:.1f}" if isinstance(load, float) else ""


def _share(ms: float, profile: Profile) -> str:
    return fixed(100 * ms / profile.total_ms, 1) if profile.total_ms else fixed(None)
