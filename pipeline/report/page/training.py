"""How the networks were trained: loss and accuracy as they came."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from pipeline.core.ranges import LARGEST
from pipeline.core.training import FloatResult, HistoryEntry
from pipeline.report.page.blocks import Block, Chart, Missing, Paragraphs, Section, Table, columns, words
from pipeline.report.page.charts import Curve, curves
from pipeline.report.page.evidence import QAT, Evidence, Trained
from pipeline.report.page.numbers import fixed, integer

MOST_SCORINGS = 1000


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
    if not any(trained.title == QAT for trained in run.trainings) and run.trainings:
        yield Missing(f"{run.label} has no quantization-aware training", run.command("qat"))


def _sentences(run: Evidence, trained: Trained) -> Iterator[str]:
    result, what = trained.result, f"{run.label}, {trained.title}"
    if result is None:
        yield f"{what}: it is not finished."
        return
    took = "" if result.seconds is None else f", in {result.seconds:.0f} s"
    if isinstance(result, FloatResult):
        percent = fixed(result.best_val_miou_percent)
        if result.parent:
            yield (
                f"{what}: the weights were taken over from {result.parent} (sha256 {result.parent_sha256}), so there"
                f" are no curves; {percent} % mIoU on the validation images."
            )
        else:
            yield f"{what}: best {percent} % mIoU on the validation images{took}."
        return
    yield f"{what}: {fixed(result.val_miou_percent)} % mIoU of its file on the validation images{took}."
    if result.kept_step == 0:
        why = result.gain_not_judged or "no checkpoint is better than the start beyond luck"
        yield f"{what}: the start was kept ({why})."
    elif result.kept_step is not None:
        yield f"{what}: step {result.kept_step} was kept."


def _thinned(history: Sequence[HistoryEntry]) -> Sequence[HistoryEntry]:
    """The scorings, or of many so many that a page can hold: evenly spread, with the last."""
    step = -(-len(history) // MOST_SCORINGS)
    return history if step <= 1 else history[::-1][::step][::-1]


def _charts(run: Evidence, trained: Trained) -> Iterator[Block]:
    what, history = f"{run.label}, {trained.title}", _thinned(trained.history)
    rows = tuple(
        words(integer(entry.step), fixed(entry.loss, 4), fixed(entry.miou_percent), fixed(entry.seconds, 0))
        for entry in history
    )
    heads = columns(("step", "counted"), ("loss", "measured"), ("mIoU %", "measured"), ("seconds", "measured"))
    source = f"Measured while training on {run.run.config.data}."
    shown = "every scoring" if len(history) == len(trained.history) else f"{len(history)} of all scorings"
    table = Table(f"{what}: {shown}", heads, rows, source, folded=True)
    scored = tuple((float(e.step), e.miou_percent) for e in history if e.miou_percent is not None)
    losses = tuple((float(e.step), e.loss) for e in history if e.loss is not None and abs(e.loss) < LARGEST)
    first = True
    for title, unit, points in (("mIoU on the way", "mIoU, %", scored), ("loss on the way", "loss", losses)):
        if len(points) < 2:
            continue
        draw = functools.partial(curves, [Curve(trained.title, points)], unit, "step")
        below = table if first else Table(f"{what}: {title}, see the table above", (), ())
        yield Chart(
            f"{what}: {title}",
            f"From {fixed(points[0][1])} at step {points[0][0]:.0f} to {fixed(points[-1][1])} at step"
            f" {points[-1][0]:.0f}.",
            draw,
            below,
        )
        first = False
    if first:
        yield table
