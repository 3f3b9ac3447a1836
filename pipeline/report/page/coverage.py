"""What each target makes of its file, operator by operator, with reasons."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from pipeline.core.command import as_called
from pipeline.core.errors import SegquantError
from pipeline.core.inspection import Coverage, Inspection
from pipeline.core.printable import LONGEST_NAME, printable
from pipeline.core.rules import Verdict
from pipeline.core.target import Target
from pipeline.measure.inspect import inspect
from pipeline.report.page.blocks import Block, Cell, Column, Missing, Paragraphs, Section, Table, joined, words
from pipeline.report.page.evidence import Evidence, Shipped
from pipeline.report.page.numbers import NONE, fixed, integer
from pipeline.targets import target as find_target

COLUMNS = (
    Column("target"),
    Column("file"),
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
    """A file and what its target makes of it.

    Attributes:
      label: the target, with the run's name before it where there are several.
      asked: whether the answer was saved, by a command that asked the target's compiler or runtime.
    """

    label: str
    run: Evidence
    shipped: Shipped
    target: Target
    inspection: Inspection
    asked: bool


def coverage(runs: Sequence[Evidence]) -> Section:
    inspected: list[_Inspected] = []
    notes: list[str] = []
    for run in runs:
        for shipped in run.artifacts:
            try:
                inspected.append(_inspected(run, shipped, several=len(runs) > 1))
            except SegquantError as error:
                notes.append(f"{run.label}: {shipped.name}: {error.message}")
    blocks: list[Block] = []
    if inspected:
        rows = tuple(row for each in inspected for row in _rows(each))
        source = (
            "By rule: the target's rules, applied to the file; no device took part. By a compiler or runtime: what it"
            " said when it was asked. Nothing of this is a time."
        )
        blocks.append(Table("How much of each file its target accelerates", COLUMNS, rows, source))
        if reasons := tuple(row for each in inspected for row in _reasons(each)):
            blocks.append(Table("What is not accelerated, and why", REASONS, reasons[:MOST_REASONS]))
        if len(reasons) > MOST_REASONS:
            notes.append(f"{len(reasons) - MOST_REASONS} more reasons are not shown; `inspect` shows them")
        blocks += _estimates(inspected)
    notes += _by_rule_alone(inspected)
    if notes:
        blocks.append(Paragraphs(tuple(notes), "notes"))
    for run in runs:
        blocks += _unasked(run, [each for each in inspected if each.run is run])
    return Section("coverage", "Operators on each target", tuple(blocks))


def _inspected(run: Evidence, shipped: Shipped, several: bool) -> _Inspected:
    """By what was saved of this very file, else by rule. Raises UnknownName, and BadSpec for a target without rules."""
    target = find_target(shipped.target, level=shipped.artifact.recipe.level)
    saved = run.inspections.get((shipped.artifact.sha256, target.text))
    inspection = saved or inspect(shipped.artifact.path, target, compiler=False)
    label = f"{run.label} · {target.text}" if several else target.text
    return _Inspected(label, run, shipped, target, inspection, saved is not None)


def _by_rule_alone(inspected: Sequence[_Inspected]) -> Iterator[str]:
    """Why no compiler or runtime told of a file when it was asked: each reason once."""
    whose: dict[str, list[str]] = {}
    for each in inspected:
        if each.inspection.real is None and each.asked:
            whose.setdefault(each.inspection.real_note, []).append(each.label)
    for note, labels in whose.items():
        yield f"{joined(list(dict.fromkeys(labels)))}: by rule alone: {note}"


def _unasked(run: Evidence, inspected: Sequence[_Inspected]) -> Iterator[Missing]:
    if not run.artifacts:
        yield Missing(f"{run.label} has no artifact", run.command("convert", "--target", "all"))
    unasked = [each for each in inspected if not each.asked and each.target.ask is not None]
    if unasked:
        names = joined(list(dict.fromkeys(each.target.text for each in unasked)))
        file, target = str(unasked[0].shipped.artifact.path), unasked[0].target.text
        yield Missing(
            f"What the compiler or runtime of {names} makes of it has not been asked",
            as_called(shlex.join(["python", "cli.py", "inspect", file, "--target", target])),
        )


def _rows(each: _Inspected) -> Iterator[tuple[Cell, ...]]:
    inspection = each.inspection
    coverages = [("rule", inspection.coverage)]
    if inspection.real_coverage is not None:
        coverages.append((inspection.real_coverage.by, inspection.real_coverage))
    for by, of_file in coverages:
        yield words(each.label, PurePosixPath(each.shipped.name).stem, by, *_figures(of_file))


def _figures(c: Coverage) -> tuple[str, ...]:
    percent = c.macs_accelerated_percent
    return (
        integer(c.ops_accelerated),
        integer(c.ops),
        NONE if percent is None else fixed(percent),
        integer(c.partitions),
        integer(c.crossing_bytes),
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
        group = (printable(name, LONGEST_NAME), verdict.outcome, _why(verdict, rule), rule.remedy)
        groups[group] = groups.get(group, 0) + 1
    for (name, outcome, why, remedy), count in sorted(groups.items(), key=lambda item: -item[1]):
        yield words(each.label, name, integer(count), outcome, why, remedy)


def _why(verdict: Verdict, rule: Verdict) -> str:
    reason = verdict.reason or rule.reason
    return f"{reason} [{verdict.source}]" if verdict.by == "rule" and verdict.source else reason


def _estimates(inspected: Sequence[_Inspected]) -> Iterator[Block]:
    rows = tuple(
        words(
            each.inspection.target,
            printable(str(name), LONGEST_NAME),
            f"{value:,.6g}" if isinstance(value, float) else str(value),
        )
        for each in inspected
        for name, value in each.inspection.estimates.items()
    )
    if rows:
        heads = (Column("target"), Column("what"), Column("value", "estimated", True))
        yield Table("What the targets' compilers estimate; nothing of it was measured", heads, rows, folded=True)
