"""Shows ways to calibrate beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from pipeline.report.console import console

if TYPE_CHECKING:
    from pipeline.measure.sweep import Sweep


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
        f" of {s.data}",
        soft_wrap=True,
    )
    out.print(table)
    out.print(
        f"best: {best.method} on {best.images} images ({best.selection}), drop {best.drop_points:+.2f} points; chosen"
        " on these same images, so expect a little less on others"
    )
