"""Tables for people."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline import data, devices, targets
from pipeline.nouns.agreement import FEWEST_CLASSES, FEWEST_CODES, Agreement
from pipeline.nouns.printable import printable
from pipeline.nouns.score import Score

if TYPE_CHECKING:
    from pipeline.sweep import Sweep

MIB = 1 << 20


def plain(text: str) -> Text:
    """``text`` as it is, for a console of any kind."""
    return Text(printable(text))


class Plain(Console):
    """Shows every text as it is: no markup, no emoji codes, nothing that a terminal would obey."""

    def render_str(self, text: str, **how: Any) -> Text:
        """Rich makes all its texts here: cells, titles and what is printed."""
        return super().render_str(printable(text), **{**how, "markup": False, "emoji": False})


def console() -> Console:
    # A pipe gets a fixed width, so that logs do not wrap at 80 columns.
    return Plain(file=sys.stdout, width=None if sys.stdout.isatty() else 120, highlight=False)


def show_registries() -> None:
    import models  # brings TensorFlow, which a measurement's table does not need
    from calib.estimators import ESTIMATORS
    from calib.images import SELECTIONS

    for title, rows in (
        ("models", [(n.name, n.title, n.source) for n in models.networks().values()]),
        ("datasets", [(s.name + (":DIR" if s.layout else ""), s.title, s.layout) for s in data.sources().values()]),
        (
            "targets",
            [(t.name, t.title, f"{t.weights} weights; --io {', '.join(t.io)}") for t in targets.targets().values()],
        ),
        ("calibrations", [(e.name, e.title) for e in ESTIMATORS.values()]),
        ("selections", [(e.name, e.title) for e in SELECTIONS.values()]),
        ("devices", [(d.name + d.selector, d.title, d.find() or "not attached") for d in devices.devices().values()]),
    ):
        table = Table(
            title=title, title_justify="left", title_style="bold", show_header=False, box=None, padding=(0, 2)
        )
        for row in rows:
            table.add_row(*row)
        console().print(table)
        console().print()


def show_readiness() -> None:
    """Each target and device: ready on this machine, or the one command that makes it so."""
    table = Table()
    for name in ("", "name", "what", "ready"):
        table.add_column(name, overflow="fold")
    for target in targets.targets().values():
        needed = target.missing() if target.missing else None
        compiled = "its compiler too" if target.missing else "nothing to compile"
        table.add_row("target", target.name, target.title, f"no: {needed}" if needed else f"yes, {compiled}")
    for device in devices.devices().values():
        there = device.find()
        ready = f"yes, {there}" if there else f"no: {device.missing()}"
        table.add_row("device", device.name + device.selector, device.title, ready)
    console().print(table)
    console().print("A target whose compiler is missing converts and inspects all the same; it is not compiled.")


def show_score(score: Score, what: str) -> None:
    table = Table()
    table.add_column("class")
    table.add_column("IoU %", justify="right")
    for name, iou in score.iou_percent.items():
        table.add_row(name, f"{iou:.2f}")
    table.add_section()
    table.add_row("mIoU", f"{score.miou_percent:.2f}")
    table.add_row("pixel accuracy", f"{score.pixel_accuracy_percent:.2f}")
    out = console()
    out.print(what, soft_wrap=True)  # a path that is broken cannot be copied
    out.print(table)
    out.print(f"{score.images} images" + absent(score))


def absent(score: Score) -> str:
    return f"; absent from labels and masks, left out: {', '.join(score.absent)}" if score.absent else ""


def show_sweep(s: Sweep) -> None:
    table = Table()
    methods = list(dict.fromkeys(row.method for row in s.rows))
    for name in ("images", "selection"):
        table.add_column(name)
    for name in methods:
        table.add_column(name, justify="right")
    best = max(s.rows, key=lambda row: row.miou_percent)
    for images, how in dict.fromkeys((row.images, row.selection) for row in s.rows):
        of_row = {row.method: row for row in s.rows if (row.images, row.selection) == (images, how)}
        table.add_row(str(images), how, *(f"{of_row[name].miou_percent:.2f}" for name in methods))
    out = console()
    out.print(
        f"mIoU % of post-training quantization (float {s.float_miou_percent:.2f}), {s.images_scored} validation images"
        f" of {s.data}", soft_wrap=True,
    )  # fmt: skip
    out.print(table)
    out.print(
        f"best: {best.method} on {best.images} images ({best.selection}), drop {best.drop_points:+.2f} points; chosen"
        " on these very images, so expect a little less on others"
    )


def show_agreement(a: Agreement) -> None:
    out = console()
    out.print(f"{a.file}: Keras against {a.kernels}, {a.images} images", soft_wrap=True)
    table = Table()
    for name, justify in (
        ("layer", "left"), ("op", "left"), ("same code %", "right"), ("within 2 steps %", "right"),
        ("worst, steps", "right"), ("at image, row, column, channel", "right"),
    ):  # fmt: skip
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for layer in a.layers:
        where = ", ".join(map(str, layer.worst_at)) if layer.worst_steps else ""
        table.add_row(
            layer.layer, layer.op, f"{layer.same_percent:.2f}", f"{layer.close_percent:.2f}", str(layer.worst_steps),
            where, style="bold" if layer.layer == a.parts else None,
        )  # fmt: skip
    out.print(table)
    for layer_name, why in a.not_compared:
        out.print(f"not compared: {layer_name}, {why}")
    out.print(
        f"same class on {a.same_class_percent:.3f} % of pixels, logits within 2 steps {a.close_percent:.3f} %, in the"
        " integer arithmetic of those kernels"
    )
    out.print(
        f"same class on {a.in_training_same_class_percent:.3f} %, within 2 steps {a.in_training_close_percent:.3f} %,"
        " where Keras rounds in floating point, as in training"
    )
    first = next((layer for layer in a.layers if layer.worst_steps), None)
    if first is None:
        out.print("no layer parts")
    else:
        out.print(
            f"the first layer that differs at all: {first.layer}, on {100 - first.same_percent:.3f} % of its values, by"
            f" {first.worst_steps} at image {first.worst_at[0]}, row {first.worst_at[1]}, column {first.worst_at[2]},"
            f" channel {first.worst_at[3]}"
        )
        out.print(f"the first layer that parts (under 99 % within 2 steps): {a.parts or 'none'}")
    if not a.means_something:
        out.print(
            f"this says little: {a.codes} distinct codes and {a.classes} classes in the output; at least"
            f" {FEWEST_CODES} and {FEWEST_CLASSES} are needed"
        )
