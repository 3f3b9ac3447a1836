"""Tables of how a target runs a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

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


def _show_ops(i: Inspection, every_op: bool) -> None:
    """A table; long lists as lines, which rich prints in a tenth of the time."""
    out, disagreeing = console(), frozenset(i.disagreements)
    rows: list[tuple[tuple[str, ...], str | None]] = []
    more = 0
    for n, (name, tensor) in enumerate(i.ops):
        verdicts = [i.verdicts[n], *([i.real[n]] if i.real is not None else [])]
        if not every_op and all(v.outcome == "accelerated" for v in verdicts):
            continue
        if len(rows) == MOST_ROWS and not every_op:
            more += 1
            continue
        why = next((v for v in reversed(verdicts) if v.reason and v.outcome != "accelerated"), None)
        row = (str(n), _name(name), _name(tensor), *(v.outcome for v in verdicts), _why(why, verdicts[0]))
        rows.append((row, "bold" if n in disagreeing else None))
    real = [f"by {i.real[0].by}"] if i.real else []
    headings = ("op", "name", "writes", "by rule", *real, "why")
    if len(rows) > MOST_ROWS:
        for row, style in [(headings, None), *rows]:
            out.print(plain("  ".join(cell for cell in row if cell)), style=style, soft_wrap=True)
    elif rows:
        table = Table()
        for heading in headings:
            justify, most = ("right" if heading == "op" else "left"), (36 if heading == "writes" else None)
            table.add_column(heading, justify=justify, overflow="fold" if most else "ellipsis", max_width=most)  # type: ignore[arg-type]
        for row, style in rows:
            table.add_row(*map(plain, row), style=style)
        out.print(table)
    if more:
        out.print(plain(f"{more} more are not accelerated (--all shows them, --json writes them)"))
    hidden = len(i.ops) - len(rows) - more
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
    for row in rows:
        console().print(f"{row.target}: {'FAILED: ' if row.failed else ''}{row.note}")


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
