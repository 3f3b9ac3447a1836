"""What a check found in a dataset, as tables and sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from pipeline.check.check import Checked, SplitFacts
from pipeline.core.progress import clock
from pipeline.report.console import console

if TYPE_CHECKING:
    from pipeline.train.estimate import TrainingTime

SIZES = 4
"""Sizes that are listed; of more, how many there are."""


def show_checked(checked: Checked) -> None:
    out = console()
    for split, facts in checked.splits.items():
        out.print(f"{split}: {facts.images} images, {_sizes(facts)}", soft_wrap=True)
    out.print(f"split: {checked.how_split}", soft_wrap=True)
    out.print(_classes(checked))
    for finding in checked.findings:
        out.print(f"{finding.level}: {finding.sentence()}", soft_wrap=True)
    counts = {level: sum(f.level == level for f in checked.findings) for level in ("error", "warning")}
    if not any(counts.values()):
        out.print("nothing to object to: every image and label can be used")
    else:
        out.print(", ".join(f"{n} {level}{'s' if n > 1 else ''}" for level, n in counts.items() if n))


def show_training_time(time: TrainingTime) -> None:
    out = console()
    out.print(
        f"training {time.network} at {time.size} on this machine would take about {clock(time.seconds)} (estimated):"
        f" {time.steps} steps of {time.batch} images at {time.step_seconds:.2f} s, and {time.evaluations} evaluations"
        f" of {time.val_images} images at {time.image_seconds:.3f} s, as measured over a few",
        soft_wrap=True,
    )
    if time.tuning_steps != time.steps:
        out.print(
            f"from trained weights (--init) it takes {time.tuning_steps} steps: about {clock(time.tuning_seconds)}"
            " (estimated). Quantization-aware training (`qat`) comes on top of either",
            soft_wrap=True,
        )


def _sizes(facts: SplitFacts) -> str:
    if not facts.sizes:
        return "none of which can be used"
    listed = [f"{height}x{width} ({n})" for (height, width), n in list(facts.sizes.items())[:SIZES]]
    more = f" and {len(facts.sizes) - SIZES} other sizes" if len(facts.sizes) > SIZES else ""
    return f"HEIGHTxWIDTH {', '.join(listed)}{more}"


def _classes(checked: Checked) -> Table:
    table = Table()
    table.add_column("id", justify="right")
    table.add_column("class")
    for split in checked.splits:
        table.add_column(f"{split} pixels %", justify="right")
        table.add_column(f"{split} images", justify="right")
    totals = {s: max(1, sum(f.pixels) + f.unlabelled_pixels) for s, f in checked.splits.items()}
    for i, name in enumerate(checked.classes):
        row = [str(i), name]
        for split, facts in checked.splits.items():
            row += [_percent(facts.pixels[i], totals[split]), str(facts.images_with[i])]
        table.add_row(*row)
    table.add_section()
    row = ["255", "(ignored)"]
    for split, facts in checked.splits.items():
        row += [_percent(facts.unlabelled_pixels, totals[split]), ""]
    table.add_row(*row)
    return table


def _percent(pixels: int, of: int) -> str:
    return "none" if not pixels else f"{100 * pixels / of:.2f}" if pixels >= of / 20000 else "< 0.01"
