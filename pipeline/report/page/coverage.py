"""What each target makes of its file, operator by operator, with reasons."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from pipeline.core.errors import SegquantError
from pipeline.core.inspection import Coverage, Inspection
from pipeline.core.printable import LONGEST_NAME, printable
from pipeline.core.rules import Verdict
from pipeline.measure.inspect import inspect
from pipeline.report.page.blocks import Block, Cell, Column, Missing, Paragraphs, Section, Table, words
from pipeline.report.page.evidence import Evidence, Shipped
from pipeline.report.page.numbers import NONE, fixed, whole
from pipeline.targets import target as find_target

COLUMNS = (
    Column("file"),
    Column("target"),
    Column("told by"),
    Column("ops accelerated", "counted", True),
    Column("ops", "counted", True),
    Column("MACs accelerated, %", "counted", True),
    Column("partitions", "counted", True),
    Column("bytes that cross", "counted", True),
)
REASONS = (
    Column("target"),
    Column("op"),
    Column("how many", "counted", True),
    Column("what happens"),
    Column("why"),
    Column("remedy"),
)
MOST_REASONS = 60


@dataclasses.dataclass(frozen=True)
class _Inspected:
    label: str
    shipped: Shipped
    inspection: Inspection


def coverage(runs: Sequence[Evidence]) -> Section:
    found: list[_Inspected] = []
    problems: list[str] = []
    blocks: list[Block] = []
    for run in runs:
        for shipped in run.artifacts:
            label = shipped.name if len(runs) == 1 else f"{run.label}: {shipped.name}"
            try:
                found.append(_Inspected(label, shipped, _inspection(run, shipped)))
            except SegquantError as error:
                problems.append(f"{label}: {error.message}")
    if found:
        rows = tuple(row for each in found for row in _rows(each))
        source = (
            "By rule: the target's rules of this version, applied to the file for this report; no device took part."
            " By a compiler or runtime: what it said when it was asked."
        )
        blocks.append(Table("How much of each file its target accelerates", COLUMNS, rows, source))
        if reasons := tuple(row for each in found for row in _reasons(each)):
            shown = reasons[:MOST_REASONS]
            blocks.append(Table("What is not accelerated, and why", REASONS, shown))
        blocks += _estimates(found)
    if problems:
        blocks.append(Paragraphs(tuple(problems), "notes"))
    for run in runs:
        if not run.artifacts:
            blocks.append(Missing(f"{run.label} has no artifact", run.command("convert", "--target", "all")))
        for shipped in run.artifacts:
            target = find_target(shipped.target)
            if target.ask is not None and not any(e.shipped is shipped and e.inspection.real for e in found):
                command = f"python cli.py inspect {shipped.artifact.path} --target {target.name}"
                blocks.append(Missing(f"{shipped.name}: its compiler or runtime has not been asked", command))
    return Section("coverage", "Operators on each target", tuple(blocks))


def _inspection(run: Evidence, shipped: Shipped) -> Inspection:
    """What was saved of this very file, else by rule alone. Raises BadSpec for a target without rules."""
    target = find_target(shipped.target, level=shipped.artifact.recipe.level)
    saved = run.inspections.get((shipped.artifact.sha256, target.text))
    return saved if saved is not None else inspect(shipped.artifact.path, target, compiler=False)


def _rows(each: _Inspected) -> Iterator[tuple[Cell, ...]]:
    inspection = each.inspection
    told = [("rule", inspection.coverage)]
    if inspection.real_coverage is not None:
        told.append((inspection.real_coverage.by, inspection.real_coverage))
    for by, of_file in told:
        yield words(each.label, inspection.target, by, *_figures(of_file))


def _figures(c: Coverage) -> tuple[str, ...]:
    percent = c.macs_accelerated_percent
    return (
        whole(c.ops_accelerated),
        whole(c.ops),
        NONE if percent is None else fixed(percent),
        whole(c.partitions),
        whole(c.crossing_bytes),
    )


def _reasons(each: _Inspected) -> Iterator[tuple[Cell, ...]]:
    """Each reason once, with how many ops it is of."""
    inspection = each.inspection
    groups: dict[tuple[str, str, str, str], int] = {}
    for n, (name, _) in enumerate(inspection.ops):
        rule = inspection.verdicts[n]
        verdict = inspection.real[n] if inspection.real is not None else rule
        if verdict.outcome == "accelerated":
            continue
        groups_key = (printable(name, LONGEST_NAME), verdict.outcome, _why(verdict, rule), rule.remedy)
        groups[groups_key] = groups.get(groups_key, 0) + 1
    for (name, outcome, why, remedy), count in sorted(groups.items(), key=lambda item: -item[1]):
        yield words(
            each.label if not inspection.target else inspection.target, name, whole(count), outcome, why, remedy
        )


def _why(verdict: Verdict, rule: Verdict) -> str:
    reason = verdict.reason or rule.reason
    return f"{reason} [{verdict.source}]" if verdict.by == "rule" and verdict.source else reason


def _estimates(found: Sequence[_Inspected]) -> Iterator[Block]:
    rows = tuple(
        words(
            each.inspection.target,
            printable(str(name), LONGEST_NAME),
            f"{value:,.6g}" if isinstance(value, float) else str(value),
        )
        for each in found
        for name, value in each.inspection.estimates.items()
    )
    if rows:
        heads = (Column("target"), Column("what"), Column("value", "estimated", True))
        yield Table("What the targets' compilers estimate; nothing of it was measured", heads, rows, folded=True)
