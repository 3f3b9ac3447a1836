"""Tables for people."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from pipeline import data, devices, targets
from pipeline.bench import Measurement
from pipeline.nouns.score import Score

MIB = 1 << 20


def _console() -> Console:
    # A pipe gets a fixed width, so that logs do not wrap at 80 columns.
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120, highlight=False)


def show_registries() -> None:
    import models  # brings TensorFlow, which a measurement's table does not need

    for title, rows in (
        ("models", [(n.name, n.title, n.source) for n in models.networks().values()]),
        ("datasets", [(s.name + (":DIR" if s.layout else ""), s.title, s.layout) for s in data.sources().values()]),
        (
            "targets",
            [(t.name, t.title, f"{t.weights} weights; --io {', '.join(t.io)}") for t in targets.targets().values()],
        ),
        ("devices", [(d.name, d.title, d.find() or "not attached") for d in devices.devices().values()]),
    ):
        table = Table(
            title=title, title_justify="left", title_style="bold", show_header=False, box=None, padding=(0, 2)
        )
        for row in rows:
            table.add_row(*row)
        _console().print(table)
        _console().print()


def show_score(score: Score, what: str) -> None:
    table = Table(title=what, title_justify="left")
    table.add_column("class")
    table.add_column("IoU %", justify="right")
    for name, iou in score.iou_percent.items():
        table.add_row(name, f"{iou:.2f}")
    table.add_section()
    table.add_row("mIoU", f"{score.miou_percent:.2f}")
    table.add_row("pixel accuracy", f"{score.pixel_accuracy_percent:.2f}")
    console = _console()
    console.print(table)
    console.print(f"{score.images} images" + _absent(score))


def _absent(score: Score) -> str:
    return f"; absent from labels and masks, left out: {', '.join(score.absent)}" if score.absent else ""


def show_measurement(m: Measurement) -> None:
    parent, artifact = m.parent, m.artifact
    table = Table()
    for name, justify in (("measured", "left"), ("float", "right"), (m.target, "right"), ("difference", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]

    def points(name: str, a: float, b: float) -> None:
        table.add_row(name, f"{a:.2f}", f"{b:.2f}", f"{b - a:+.2f} points")

    points("mIoU %", parent.score.miou_percent, artifact.score.miou_percent)
    points("pixel accuracy %", parent.score.pixel_accuracy_percent, artifact.score.pixel_accuracy_percent)
    table.add_row("same class, % of pixels", "", f"{m.agreement_percent:.2f}", "")
    table.add_section()
    for name in m.parent.score.iou_percent:
        if name in artifact.score.iou_percent:
            points(f"IoU {name} %", parent.score.iou_percent[name], artifact.score.iou_percent[name])
    table.add_section()
    for name, field in (("median", "median_ms"), ("p90", "p90_ms"), ("min", "min_ms")):
        a, b = getattr(parent.latency, field), getattr(artifact.latency, field)
        table.add_row(f"latency {name} ms", f"{a:.2f}", f"{b:.2f}", f"{a / b:.2f}x faster")
    table.add_row("runs timed", str(parent.latency.runs), str(artifact.latency.runs), "")
    a, b = parent.size_bytes, artifact.size_bytes
    table.add_row("file MiB", f"{a / MIB:.2f}", f"{b / MIB:.2f}", f"{a / b:.2f}x smaller")
    a, b = parent.peak_memory_bytes, artifact.peak_memory_bytes
    table.add_row("peak memory MiB, process", f"{a / MIB:.0f}", f"{b / MIB:.0f}", "")
    console = _console()
    console.print(f"{artifact.file} beside its float parent")
    console.print(table)
    machine = m.machine
    features = f" ({', '.join(machine['cpu_features'])})" if machine.get("cpu_features") else ""
    console.print(f"accuracy: {m.images} {m.split} images of {m.data}{_absent(artifact.score)}")
    console.print(
        f"latency: {machine['device']}, {machine['cpu']}{features}, {machine['threads']} of {machine['cores']} cores,"
        f" {machine['runtime']}; in turns after {artifact.latency.warmup_runs} warm-up runs"
    )
    for note in m.notes:
        console.print(f"note: {note}")
