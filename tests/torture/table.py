"""Shows what was done and what came of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from tests.torture.case import Case, Verdict


@dataclasses.dataclass
class Row:
    """Cases of one kind: how many were drawn, done, came too late, were repeated, and failed."""

    drawn: int = 0
    done: int = 0
    too_late: int = 0
    repeated: int = 0
    failed: int = 0


@dataclasses.dataclass(frozen=True)
class Other:
    """What was done besides: how much of it, and what it says of failures."""

    name: str
    count: int
    failed: int
    note: str = ""


def rows(cases: Iterable[Case], verdicts: Iterable[Verdict]) -> dict[str, Row]:
    table: dict[str, Row] = {}
    for case in cases:
        table.setdefault(case.row, Row()).drawn += 1
    for verdict in verdicts:
        row = table[Case.parse(verdict.case).row]
        row.done += 1
        row.too_late += not verdict.reached
        row.repeated += verdict.repeated
        row.failed += bool(verdict.problems)
    return table


def show(table: dict[str, Row], others: Sequence[Other] = ()) -> str:
    head = ("case", "drawn", "done", "too late", "repeated", "failed")
    lines = [
        (*name.split(":"), row.drawn, row.done, row.too_late, row.repeated, row.failed)
        for name, row in sorted(table.items())
    ]
    total = [sum(column) for column in zip(*(line[3:] for line in lines), strict=True)] if lines else [0] * 5
    text = [(" ".join(map(str, line[:3])), *line[3:]) for line in lines] + [("all", *total)]
    text += [(each.name, each.count, each.count, 0, 0, each.failed) for each in others]
    widths = [max(len(str(line[i])) for line in (head, *text)) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            str(cell).ljust(width) if i == 0 else str(cell).rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in (head, *text)
    )
