"""How the networks were trained: loss and accuracy as they came."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from pipeline.report.page.blocks import Block, Chart, Missing, Paragraphs, Section, Table, columns, words
from pipeline.report.page.charts import Curve, curves
from pipeline.report.page.evidence import Evidence, Trained
from pipeline.report.page.numbers import fixed, integer


def training(runs: Sequence[Evidence]) -> Section:
    return Section("training", "Training", tuple(block for run in runs for block in _of_run(run)))


def _of_run(run: Evidence) -> Iterator[Block]:
    if not run.trainings:
        yield Missing(f"{run.label} has not been trained", run.command("train"))
    for trained in run.trainings:
        if sentences := tuple(_sentences(run, trained)):
            yield Paragraphs(sentences)
        if trained.history:
            yield from _charts(run, trained)
    if not any(trained.title.startswith("quantization") for trained in run.trainings) and run.trainings:
        yield Missing(f"{run.label} has no quantization-aware training", run.command("qat"))


def _sentences(run: Evidence, trained: Trained) -> Iterator[str]:
    result, what = trained.result, f"{run.label}, {trained.title}"
    if not result:
        yield f"{what}: it is not finished."
        return
    if parent := result.get("parent"):
        yield (
            f"{what}: the weights were taken over from {parent} (sha256 {result.get('parent_sha256')}), so there are no"
            f" curves; {_percent(result.get('best_val_miou_percent'))} mIoU on the validation images."
        )
    elif "best_val_miou_percent" in result:
        yield f"{what}: best {_percent(result['best_val_miou_percent'])} mIoU on the validation images{_took(result)}."
    elif "val_miou_percent" in result:
        yield (
            f"{what}: {_percent(result['val_miou_percent'])} mIoU of its file on the validation images{_took(result)}."
        )
    if result.get("kept_step") == 0:
        why = result.get("gain_not_judged") or "no checkpoint is better than the start beyond luck"
        yield f"{what}: the start was kept ({why})."
    elif isinstance(result.get("kept_step"), int):
        yield f"{what}: step {result['kept_step']} was kept."


def _percent(value: object) -> str:
    return f"{fixed(float(value))} %" if isinstance(value, int | float) else "an unknown"


def _took(result: dict[str, object]) -> str:
    seconds = result.get("seconds")
    return f", in {seconds:.0f} s" if isinstance(seconds, int | float) else ""


def _charts(run: Evidence, trained: Trained) -> Iterator[Block]:
    what = f"{run.label}, {trained.title}"
    rows = tuple(
        words(integer(entry.step), fixed(entry.loss, 4), fixed(entry.miou_percent), fixed(entry.seconds, 0))
        for entry in trained.history
    )
    heads = columns(("step", "counted"), ("loss", "measured"), ("mIoU %", "measured"), ("seconds", "measured"))
    source = f"Measured while training on {run.run.config.data}."
    table = Table(f"{what}: every scoring", heads, rows, source, folded=True)
    scored = tuple((float(e.step), e.miou_percent) for e in trained.history if e.miou_percent is not None)
    losses = tuple((float(e.step), e.loss) for e in trained.history if e.loss is not None)
    first = True
    for title, unit, points in (("mIoU on the way", "mIoU, %", scored), ("loss on the way", "loss", losses)):
        if len(points) < 2:
            continue
        draw = functools.partial(curves, [Curve(trained.title, points)], unit, "step")
        shown = table if first else Table(f"{what}: {title}, see the table above", (), ())
        yield Chart(
            f"{what}: {title}",
            f"From {fixed(points[0][1])} at step {points[0][0]:.0f} to {fixed(points[-1][1])} at step"
            f" {points[-1][0]:.0f}.",
            draw,
            shown,
        )
        first = False
    if first:
        yield table
