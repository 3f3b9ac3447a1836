"""Shows where a network and its file diverge."""

from __future__ import annotations

from rich.table import Table

from pipeline.core.agreement import FEWEST_CLASSES, FEWEST_CODES, Agreement
from pipeline.report.console import console


def show_agreement(a: Agreement) -> None:
    out = console()
    out.print(f"{a.file}: Keras against {a.kernels}, {a.images} images", soft_wrap=True)
    table = Table()
    for name, justify in (
        ("layer", "left"),
        ("op", "left"),
        ("same code %", "right"),
        ("within 2 steps %", "right"),
        ("worst, steps", "right"),
        ("at image, row, column, channel", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for layer in a.layers:
        where = ", ".join(map(str, layer.worst_at)) if layer.worst_steps else ""
        table.add_row(
            layer.layer,
            layer.op,
            f"{layer.same_percent:.2f}",
            f"{layer.close_percent:.2f}",
            str(layer.worst_steps),
            where,
            style="bold" if layer.layer == a.diverges_at else None,
        )
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
        out.print("no layer diverges")
    else:
        out.print(
            f"the first layer that differs at all: {first.layer}, on {100 - first.same_percent:.3f} % of its values, by"
            f" {first.worst_steps} at image {first.worst_at[0]}, row {first.worst_at[1]}, column {first.worst_at[2]},"
            f" channel {first.worst_at[3]}"
        )
        out.print(f"the first layer that diverges (under 99 % within 2 steps): {a.diverges_at or 'none'}")
    if not a.is_meaningful:
        out.print(
            f"this comparison says little: the output has {a.codes} distinct codes and {a.classes} classes; at least"
            f" {FEWEST_CODES} and {FEWEST_CLASSES} are needed"
        )
