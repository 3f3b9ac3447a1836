"""Shows a score, class by class."""

from __future__ import annotations

from rich.table import Table

from pipeline.core.score import Score, says_nothing
from pipeline.report.console import absent, console


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
    out.print(what, soft_wrap=True)  # a path that is broken over lines cannot be copied
    out.print(table)
    out.print(f"{score.images} images" + absent(score))
    if score.one_class is not None:
        out.print(f"note: {says_nothing(score.one_class)}")
