"""Tables and sentences of a measurement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from pipeline.core.measurement import FileMeasurement, HeadsMeasurement, Latency, Measurement, Ratio
from pipeline.measure.timing import FEWEST_STARTS
from pipeline.report.console import MIB, absent, console


def faster(ratio: Ratio) -> str:
    """How much faster the second of the two is: '1.37× faster (99 % interval 1.33 to 1.42)', or '1.12× slower (…)'.

    Where the interval contains 1, or there is none, neither can be claimed: 'in 1.010 of its time (…)'.
    """
    if not ratio.is_significant or ratio.low is None or ratio.high is None:
        return f"in {1 / ratio.ratio:.3f} of its time ({_interval(ratio, inverted=True)})"
    if ratio.ratio > 1:
        return (
            f"{ratio.ratio:.2f}× faster ({ratio.confidence_percent:g} % interval {ratio.low:.2f} to {ratio.high:.2f})"
        )
    low, high = 1 / ratio.high, 1 / ratio.low
    return f"{1 / ratio.ratio:.2f}× slower ({ratio.confidence_percent:g} % interval {low:.2f} to {high:.2f})"


def smaller(before: int, after: int, times: str = "x") -> str:
    """'3.05x smaller' or '1.02x larger'."""
    return f"{before / after:.2f}{times} smaller" if after <= before else f"{after / before:.2f}{times} larger"


def _interval(ratio: Ratio, inverted: bool = False) -> str:
    if ratio.low is None or ratio.high is None:
        return f"no interval: that needs {FEWEST_STARTS} starts"
    if inverted:
        return f"{ratio.confidence_percent:g} % interval {1 / ratio.high:.3f} to {1 / ratio.low:.3f}"
    return f"{ratio.low:.3f} to {ratio.high:.3f}"


def show_measurement(m: Measurement) -> None:
    parent, artifact = m.parent, m.artifact
    table = Table()
    for name, justify in (("measured", "left"), ("float", "right"), (m.target, "right"), ("difference", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    _accuracy(table, m)
    table.add_section()
    if parent.latency and artifact.latency:
        for row in _latency(parent.latency, artifact.latency):
            table.add_row(*row)
    a, b = parent.size_bytes, artifact.size_bytes
    table.add_row("file MiB", f"{a / MIB:.2f}", f"{b / MIB:.2f}", smaller(a, b))
    if parent.peak_memory_bytes and artifact.peak_memory_bytes:
        a, b = parent.peak_memory_bytes, artifact.peak_memory_bytes
        table.add_row("peak memory MiB, process", f"{a / MIB:.0f}", f"{b / MIB:.0f}", "")
    out = console()
    out.print(f"{artifact.file} beside its float parent")
    out.print(table)
    for line in _sentences(m):
        out.print(line)


def _accuracy(table: Table, m: Measurement) -> None:
    parent, artifact = m.parent.score, m.artifact.score
    assert parent and artifact

    def points(name: str, a: float, b: float) -> None:
        table.add_row(name, f"{a:.2f}", f"{b:.2f}", f"{b - a:+.2f} points")

    points("mIoU %", parent.miou_percent, artifact.miou_percent)
    points("pixel accuracy %", parent.pixel_accuracy_percent, artifact.pixel_accuracy_percent)
    table.add_row("same class, % of pixels", "", f"{m.agreement_percent:.2f}", "")
    table.add_section()
    for name in parent.iou_percent:
        if name in artifact.iou_percent:
            points(f"IoU {name} %", parent.iou_percent[name], artifact.iou_percent[name])


def _latency(parent: Latency, artifact: Latency) -> Iterator[tuple[str, str, str, str]]:
    for name, field in (
        ("latency median ms", "median_ms"),
        ("latency p90 ms", "p90_ms"),
        ("latency p99 ms", "p99_ms"),
        ("latency mean ms", "mean_ms"),
        ("latency min ms", "min_ms"),
        ("loading ms", "init_ms"),
        ("first inference ms", "first_ms"),
    ):
        a, b = getattr(parent, field), getattr(artifact, field)
        if a is not None and b is not None:
            yield name, f"{a:.2f}", f"{b:.2f}", f"{a / b:.2f}x" if b else ""
    yield "runs timed", str(parent.runs), str(artifact.runs), ""


def _sentences(m: Measurement) -> Iterator[str]:
    machine, artifact = m.machine, m.artifact
    assert artifact.score
    if m.speedup:
        yield f"the artifact runs {faster(m.speedup)}, compared with its float parent"
    if m.against and m.against_ratio and m.against.latency:
        yield _verdict(m.against, m.against_ratio)
    for swept in m.sweep:
        yield (
            f"{swept.threads} threads: float {swept.parent.median_ms:.2f} ms, {m.target}"
            f" {swept.artifact.median_ms:.2f} ms; {faster(swept.speedup)}"
        )
    yield f"accuracy: {m.images} {m.split} images of {m.data}{absent(artifact.score)}"
    if m.on_host:
        yield (
            f"this machine's CPU gives the same class on {m.on_host.agreement_percent:.3f} % of pixels, and the same"
            f" bytes on {m.on_host.identical_outputs} of {m.images} images"
        )
    yield _where(machine, artifact)
    for note in m.notes:
        yield f"note: {note}"
    if m.unfinished:
        yield f"unfinished: {m.unfinished}"


def _where(machine: dict[str, Any], timed: FileMeasurement) -> str:
    features = f" ({', '.join(machine['cpu_features'])})" if machine.get("cpu_features") else ""
    turns = ""
    if timed.latency:
        turns = f"; in turns, started {timed.latency.starts} times, after {timed.latency.warmup_runs} warm-up runs"
    cores = f" of {machine['cores']} cores" if machine.get("cores") else ""
    return (
        f"latency: {machine['device']}, {machine.get('cpu') or 'unknown CPU'}{features},"
        f" {machine['threads']}{cores}, {machine.get('runtime') or 'unknown runtime'}, {timed.runs_on}{turns}"
    )


def show_heads(m: HeadsMeasurement) -> None:
    """A row per head: the accuracy of its mask and its latency."""
    table = Table()
    for name, justify in (
        ("head", "left"),
        ("mIoU %", "right"),
        ("median ms", "right"),
        ("p90 ms", "right"),
        ("time / first", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for head in m.heads:
        latency, score, ratio = head.measured.latency, head.measured.score, head.times_first
        assert latency
        p90 = "" if latency.p90_ms is None else f"{latency.p90_ms:.2f}"
        first = head is m.heads[0]
        table.add_row(
            head.measured.file,
            f"{score.miou_percent:.2f}" if score else "",
            f"{latency.median_ms:.2f}",
            p90,
            "1" if first else f"{ratio.ratio:.3f} ({_interval(ratio)})",
        )
    out = console()
    out.print(f"ways to make a full-size mask, with the weights and ranges of {m.artifact}, target {m.target}")
    out.print(table)
    percent = m.heads[0].times_first.confidence_percent
    out.print(f"accuracy: {m.images} {m.split} images of {m.data}; intervals: {percent:g} %")
    out.print(_where(m.machine, m.heads[0].measured))
    for note in m.notes:
        out.print(f"note: {note}")


def _verdict(other: FileMeasurement, ratio: Ratio) -> str:
    assert other.latency
    beside = f"compared with {other.file} (median {other.latency.median_ms:.2f} ms), the artifact runs {faster(ratio)}"
    if ratio.is_significant:
        return beside
    how = "--seconds" if ratio.low is not None else f"--starts {FEWEST_STARTS} or more"
    return f"{beside}: this does not show which is faster; measure longer ({how})"
