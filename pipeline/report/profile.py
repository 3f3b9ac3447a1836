"""Tables of where the time goes. What is measured, counted and estimated has columns of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipeline.core.printable import LONGEST_NAME, printable
from pipeline.core.profile import UNATTRIBUTED, OpTime, Profile
from pipeline.report.console import console

MILLION = 1_000_000
SMALL_PERCENT = 1
"""An op with a smaller share of the time has no row of its own, unless all ops are asked for."""
NUMBERS = ("measured ms", "share %", "counted MMAC", "counted kB", "estimated ms", "attained %")


def show_profile(p: Profile, every_op: bool) -> None:
    """Ops in the file's order, then groups by stage and by op, then how the numbers were measured."""
    out = console()
    out.print(f"{p.file}, op by op")
    table = _table("op", "layer", "kernel")
    shown = [op for op in p.ops if every_op or _share(op.measured_ms, p) >= SMALL_PERCENT]
    for op in shown:
        table.add_row(
            UNATTRIBUTED if op.index is None else f"{op.index} {_name(op.op)}",
            _name(op.layer),
            _kernels(op),
            *_numbers([op], p),
        )
    rest = [op for op in p.ops if op not in shown]
    if rest:
        table.add_row(f"{len(rest)} others", f"under {SMALL_PERCENT} % each", "--all shows them", *_numbers(rest, p))
    table.add_section()
    table.add_row("between ops", "", "the runtime", f"{p.between_ms:.3f}", f"{_share(p.between_ms, p):.1f}")
    table.add_row("sum", "", "", *_numbers(p.ops, p, p.between_ms))
    out.print(table)
    for attribute in ("stage", "op"):
        groups = _table(attribute, "ops")
        for name, ops in p.by(attribute):
            groups.add_row(_name(name), str(len(ops)), *_numbers(ops, p))
        out.print(groups)
    _show_method(p)


def _table(*names: str) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for name in names:
        table.add_column(name, overflow="fold", no_wrap=name == names[0])
    for name in NUMBERS:
        table.add_column(name, justify="right", width=max(map(len, name.split())))
    return table


def _kernels(op: OpTime) -> str:
    """The kernels' names without layout and types, which follow from the op."""
    return " + ".join(re.sub(r" \([^)]*\)", "", kernel) for kernel in op.kernels) or "none of its own"


def _numbers(ops: Sequence[OpTime], p: Profile, more_ms: float = 0.0) -> list[str]:
    ms, macs = sum(op.measured_ms for op in ops) + more_ms, sum(op.macs for op in ops)
    attainable_ms = sum(op.attainable_ms for op in ops)
    return [
        f"{ms:.3f}",
        f"{_share(ms, p):.1f}",
        f"{macs / MILLION:,.1f}" if macs else "",
        f"{sum(op.moved_bytes for op in ops) / 1000:,.0f}",
        f"{attainable_ms:.3f}",
        f"{100 * attainable_ms / ms:.0f}" if ms else "",
    ]


def _name(text: str) -> str:
    return printable(text, LONGEST_NAME)


def _share(ms: float, p: Profile) -> float:
    return 100 * ms / p.total_ms


def _show_method(p: Profile) -> None:
    out, machine = console(), p.machine
    features = f" ({', '.join(machine['cpu_features'])})" if machine.get("cpu_features") else ""
    rate = sum(op.macs for op in p.ops) / MILLION / p.total_ms
    out.print(
        f"measured: {machine['device']}, {machine['cpu']}{features}, {p.threads} of {machine['cores']} cores,"
        f" {machine['runtime']}; lower quartiles of {p.runs} inferences; load average before:"
        f" {machine['load_average_1min']:.1f}; an inference without the profiler: {p.plain_ms:.2f} ms; {rate:.0f}"
        " GMAC/s overall"
    )
    rates = ", ".join(f"{rate / MILLION:.1f} GB/s at {_size(size)}" for size, rate in p.peaks.bytes_per_ms.items())
    out.print(
        f"peaks, measured now, with {p.threads} thread{'s' * (p.threads > 1)}:"
        f" {p.peaks.int8_macs_per_ms / MILLION:.0f} GMAC/s in int8, {p.peaks.float_macs_per_ms / MILLION:.0f} in float,"
        f" each the best of four 1×1 convolutions in the same runtime; NumPy copies, read and written bytes: {rates}"
    )
    out.print(
        "counted: from the file; kB: constants, inputs and outputs of the op, each once. estimated: the longer of the"
        " times of the MACs at the peak and of the bytes at the rate of a copy of that size. attained: estimated /"
        " measured; above 100, the data were still in a faster cache"
    )
    silent = [str(op.index) for op in p.ops if op.index is not None and not op.kernels]
    if silent:
        which = ", ".join(silent) if len(silent) < 20 else f"{len(silent)} (--json names them)"
        out.print(f"ops without a kernel of their own, fused into others or left out: {which}")
    for note in p.notes:
        out.print(f"note: {note}")
    unattributed = sum(op.index is None for op in p.ops)
    if unattributed:
        out.print(f"{unattributed} kernels could belong to more than one op: {UNATTRIBUTED}")


def _size(size: int) -> str:
    return f"{size >> 20} MiB" if size >> 20 else f"{size >> 10} KiB"
