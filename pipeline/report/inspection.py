"""Tables of how a target runs a file."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from pipeline.core.inspection import Change, Coverage, Inspection
from pipeline.core.printable import LONGEST_NAME, printable
from pipeline.core.rules import Verdict
from pipeline.report.console import MIB, console, plain

if TYPE_CHECKING:
    from pipeline.convert.convert_all import TargetOutcome

MILLION = 1_000_000
MOST_ROWS = 200
"""The most rows of ops that are not accelerated, unless all ops are asked for."""
MOST_NUMBERS = 8
"""The most numbers of ops in a row that stands for several."""


def show_inspection(i: Inspection, file: str, every_op: bool) -> None:
    """The ops that are not accelerated (with ``every_op``: all), their sums, and what would help most."""
    out = console()
    out.print(plain(f"{file} on {i.target}"), style="bold")
    _show_ops(i, every_op)
    for note in i.notes:
        out.print(plain(f"note: {note}"))
    if i.subgraphs > 1:
        out.print(
            plain(
                f"the file has {i.subgraphs} subgraphs and only the first is counted, without the bodies of its IF and"
                " WHILE ops or other signatures"
            )
        )
    out.print(_sums(i))
    for sentence in _sentences(i):
        out.print(plain(sentence))
    out.print()


def _sums(i: Inspection) -> Table:
    """The coverage by rule and, where it was asked, by the compiler."""
    table = Table()
    table.add_column("")
    table.add_column("by rule", justify="right")
    columns = [i.coverage]
    if i.real_coverage is not None:
        columns.append(i.real_coverage)
        table.add_column(f"by {i.real_coverage.by}", justify="right")
    table.add_row("ops accelerated", *(f"{c.ops_accelerated} of {c.ops}" for c in columns))
    table.add_row("multiply-accumulates accelerated", *map(_macs, columns))
    table.add_row("partitions", *(str(c.partitions) for c in columns))
    table.add_row("bytes that cross a partition", *(f"{c.crossing_bytes:,}" for c in columns))
    return table


def _sentences(i: Inspection) -> Iterator[str]:
    yield f"parameters of accelerated ops: {i.parameter_bytes / MIB:.2f} MiB{_streamed(i.streamed_bytes)}"
    largest = _name(i.largest_activation.split(";")[0])
    yield f"largest activation: {i.largest_activation_bytes:,} bytes ({largest})"
    yield f"changes of range inside the graph: {i.requantizations}"
    if i.estimates:
        yield "the compiler's estimates: " + ", ".join(f"{k} {_number(v)}" for k, v in i.estimates.items())
    if i.change is not None:
        yield _what_would_help(i.change)
    if i.disagreements:
        which = ", ".join(map(str, i.disagreements[:MOST_ROWS]))
        rest = f" and {len(i.disagreements) - MOST_ROWS} more" if len(i.disagreements) > MOST_ROWS else ""
        yield f"the rules and {i.real_note} disagree on ops {which}{rest}"
    yield f"asked: {i.real_note}" if i.real is not None else f"by rules alone: {i.real_note}"


def _streamed(streamed_bytes: int | None) -> str:
    if streamed_bytes is None:
        return ""
    if streamed_bytes == 0:
        return "; they fit into the chip's cache (estimate)"
    return f"; {streamed_bytes / MIB:.2f} MiB of them stream in each inference (estimate)"


def _what_would_help(change: Change) -> str:
    which = f"op {change.ops[0]}" if len(change.ops) == 1 else f"{len(change.ops)} ops"
    macs = f" and {change.macs_gained / MILLION:+.1f} million MACs" if change.macs_gained else ""
    remedy = f". Try: {change.remedy}" if change.remedy else ""
    return (
        f"what would help most: {_name(change.op_name)} ({which}; {change.reason}), by the rules"
        f" {change.ops_gained:+d} ops{macs}{remedy}"
    )


@dataclasses.dataclass(frozen=True)
class OpRow:
    """The ops that have the same verdicts for the same reason; with --all a single op.

    Attributes:
      ops: (index, name, tensor that it writes) of each.
      outcomes: by rule and, where it was asked, by the compiler.
    """

    ops: tuple[tuple[int, str, str], ...]
    outcomes: tuple[str, ...]
    why: str
    disagreeing: bool

    @property
    def cells(self) -> tuple[str, ...]:
        numbers, names, tensors = zip(*self.ops, strict=True)
        if len(self.ops) == 1:
            return (str(numbers[0]), names[0], tensors[0], *self.outcomes, self.why)
        counts = Counter(names).most_common()
        kinds = counts[0][0] if len(counts) == 1 else ", ".join(f"{count} {name}" for name, count in counts)
        return (f"{len(numbers)} ops", kinds, _some(numbers), *self.outcomes, self.why)


def _some(ops: tuple[int, ...]) -> str:
    """'ops 0, 2, 4, 6, … 112'."""
    if len(ops) <= MOST_NUMBERS:
        return f"ops {', '.join(map(str, ops))}"
    return f"ops {', '.join(map(str, ops[: MOST_NUMBERS - 1]))}, … {ops[-1]}"


def _rows(i: Inspection, every_op: bool) -> list[OpRow]:
    """The ops that are not accelerated, those alike as one row; with ``every_op`` all, each reason in full once."""
    disagreeing, first = frozenset(i.disagreements), dict[str, int]()
    alike: dict[tuple[Any, ...], list[tuple[int, str, str]]] = {}
    for n, (name, tensor) in enumerate(i.ops):
        verdicts = [i.verdicts[n], *([i.real[n]] if i.real is not None else [])]
        if not every_op and all(v.outcome == "accelerated" for v in verdicts):
            continue
        reasoned = next((v for v in reversed(verdicts) if v.reason and v.outcome != "accelerated"), None)
        why = _why(reasoned, verdicts[0])
        if every_op and why and (before := first.setdefault(why, n)) != n:
            why = f"as op {before}"
        key = (tuple(v.outcome for v in verdicts), why, n in disagreeing, *([n] if every_op else []))
        alike.setdefault(key, []).append((n, _name(name), _name(tensor)))
    return [OpRow(tuple(ops), *key[:3]) for key, ops in alike.items()]


def _show_ops(i: Inspection, every_op: bool) -> None:
    """A table; long lists as lines, which rich prints in a tenth of the time."""
    out, rows = console(), _rows(i, every_op)
    shown = rows if every_op else rows[:MOST_ROWS]
    real = [f"by {i.real[0].by}"] if i.real else []
    headings = ("op", "name", "which", "by rule", *real, "why")
    if len(shown) > MOST_ROWS:
        out.print(plain("  ".join(headings)), soft_wrap=True)
        for row in shown:
            style = "bold" if row.disagreeing else None
            out.print(plain("  ".join(cell for cell in row.cells if cell)), style=style, soft_wrap=True)
    elif shown:
        table = Table()
        for heading in headings:
            justify, most = ("right" if heading == "op" else "left"), (36 if heading == "which" else None)
            table.add_column(heading, justify=justify, overflow="fold" if most else "ellipsis", max_width=most)  # type: ignore[arg-type]
        for row in shown:
            table.add_row(*map(plain, row.cells), style="bold" if row.disagreeing else None)
        out.print(table)
    listed = sum(len(row.ops) for row in rows)
    if more := listed - sum(len(row.ops) for row in shown):
        out.print(plain(f"{more} more are not accelerated (--all shows them, --json writes them)"))
    hidden = len(i.ops) - listed
    if hidden:
        out.print(
            plain(f"{hidden} ops are accelerated and not shown (--all shows them)" if rows else "all ops accelerated")
        )


def show_outcomes(rows: Sequence[TargetOutcome]) -> None:
    """One row per target; a compiler's estimates have a column of their own."""
    table = Table()
    for name in ("target", "ops accelerated", "MACs", "partitions", "reported by", "size KiB", "compiler's estimate"):
        table.add_column(name, justify="left" if name in ("target", "reported by") else "right")
    for row in rows:
        c = row.coverage
        estimate = row.estimates.get("inference_seconds")
        table.add_row(
            row.target,
            f"{c.ops_accelerated} of {c.ops}" if c else "",
            _share(c) if c else "",
            str(c.partitions) if c else "",
            c.by if c else "failed" if row.failed else "",
            f"{row.size_bytes / 1024:,.0f}" if row.size_bytes else "",
            f"{estimate * 1000:.2f} ms" if isinstance(estimate, float) else "",
        )
    console().print(table)
    notes: dict[str, list[str]] = {}
    for row in rows:
        notes.setdefault(("FAILED: " if row.failed else "") + row.note, []).append(row.target)
    for note, names in notes.items():
        console().print(f"{', '.join(names)}: {note}")


def _number(value: object) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def _macs(c: Coverage) -> str:
    if not c.macs:
        return "none in the graph"
    return f"{_share(c)} of " + (f"{c.macs / MILLION:,.1f} million" if c.macs >= MILLION / 10 else f"{c.macs:,}")


def _share(c: Coverage) -> str:
    percent = c.macs_accelerated_percent
    return "" if percent is None else f"{percent:.2f} %"


def _name(text: str) -> str:
    return printable(text, LONGEST_NAME)


def _why(verdict: Verdict | None, rule: Verdict) -> str:
    if verdict is None:
        return ""
    remedy = f" Try: {rule.remedy}." if rule.remedy else ""
    source = f" [{verdict.source}]" if verdict.by == "rule" else ""
    return f"{verdict.reason}{source}.{remedy}"
