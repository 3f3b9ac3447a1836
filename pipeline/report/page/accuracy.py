"""Accuracy class by class, and which classes are taken for which."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.core.measurement import FileMeasurement
from pipeline.report.page.blocks import Block, Cell, Chart, Column, Missing, Section, Table, words
from pipeline.report.page.charts import Series, dot_plot
from pipeline.report.page.evidence import Evidence
from pipeline.report.page.numbers import NONE, fixed, integer, points
from pipeline.report.page.subjects import Subject

MOST_CONFUSIONS = 8
MOST_CLASSES = 40
"""In a matrix: a larger one cannot be read, and makes the page large."""
CONFUSED = (
    Column("label"),
    Column("taken for"),
    Column("% of all pixels", "measured", True),
    Column("% of the label's", "measured", True),
)


def per_class(runs: Sequence[Evidence], subjects: Sequence[Subject]) -> Section:
    blocks: list[Block] = []
    for run in runs:
        of_run = [subject for subject in subjects if subject.evidence is run and subject.artifact.score]
        if of_run:
            blocks += [_iou_chart(run, of_run), _change_chart(run, of_run)]
        else:
            blocks.append(Missing(f"{run.label} has not been scored", run.command("bench")))
    return Section("classes", "IoU of each class", tuple(blocks))


def _iou_chart(run: Evidence, subjects: Sequence[Subject]) -> Chart:
    classes = run.run.config.classes
    series: list[Series] = []
    for subject in subjects:
        title = "float" if len(subjects) == 1 else f"float beside {subject.label}"
        before, after = _iou(subject.bench.parent), _iou(subject.artifact)
        if not any(each.values == tuple(map(before.get, classes)) for each in series):
            series.append(Series(title, tuple(map(before.get, classes)), hollow=True))
        series.append(Series(subject.label, tuple(map(after.get, classes))))
    heads = [Column("class")]
    for subject in subjects:
        name = f"{subject.label}: " if len(subjects) > 1 else ""
        heads += [Column(f"{name}{what}", "measured", True) for what in ("float IoU %", "IoU %", "change, points")]
    rows = tuple((Cell(name), *_iou_cells(subjects, name)) for name in classes)
    source = " ".join(dict.fromkeys(subject.source for subject in subjects))
    draw = functools.partial(dot_plot, classes, series, "IoU, %")
    return Chart(
        f"IoU of each class, {run.label}",
        f"For each of {len(classes)} classes the IoU in percent, of the float network and of the artifact. The table"
        " has the figures.",
        draw,
        Table(f"IoU of each class, {run.label}", tuple(heads), rows, source),
    )


def _change_chart(run: Evidence, subjects: Sequence[Subject]) -> Chart:
    """Small next to the IoU itself, so with an axis of its own; the figures are in the table of the other chart."""
    classes = run.run.config.classes
    series = []
    for subject in subjects:
        before, after = _iou(subject.bench.parent), _iou(subject.artifact)
        changes = (after[name] - before[name] if name in before and name in after else None for name in classes)
        series.append(Series(subject.label, tuple(changes)))
    title = f"Change of each class's IoU from float, {run.label}"
    return Chart(
        title,
        "For each class the IoU of the artifact minus that of the float network, in points; right of 0 is better."
        " The table above has the figures.",
        functools.partial(dot_plot, classes, series, "change of IoU, points", from_zero=True),
        Table(title, (), ()),
    )


def _iou(measured: FileMeasurement) -> dict[str, float]:
    return measured.score.iou_percent if measured.score else {}


def _iou_cells(subjects: Sequence[Subject], name: str) -> Iterator[Cell]:
    for subject in subjects:
        before, after = _iou(subject.bench.parent).get(name), _iou(subject.artifact).get(name)
        change = None if before is None or after is None else after - before
        yield from (Cell(fixed(before)), Cell(fixed(after)), Cell(points(change)))


def confusions(runs: Sequence[Evidence], subjects: Sequence[Subject]) -> Section:
    blocks: list[Block] = []
    for run in runs:
        counted = [subject for subject in subjects if subject.evidence is run and subject.artifact.confusion]
        for subject in counted:
            blocks += _matrix(run, subject, folded=subject is not counted[0])
        if not counted:
            blocks.append(Missing(f"{run.label} has no confusion matrix yet", run.command("bench")))
    return Section("confusion", "Confusion matrix", tuple(blocks))


def _matrix(run: Evidence, subject: Subject, folded: bool) -> Iterator[Block]:
    classes = run.run.config.classes
    counts = np.asarray(subject.artifact.confusion, np.int64)
    labelled = counts.sum(1, keepdims=True)
    shares = np.divide(100 * counts, labelled, out=np.zeros(counts.shape), where=labelled > 0)
    frequent = tuple(_most_confused(counts, shares, classes))
    yield Table(f"{subject.label}: what is confused most", CONFUSED, frequent, subject.source, folded)
    shown = sorted(np.argsort(labelled[:, 0])[::-1][:MOST_CLASSES].tolist())
    rows = tuple(
        (
            Cell(classes[i]),
            *(Cell(fixed(shares[i, j], 1) if labelled[i, 0] else NONE, shares[i, j] / 100) for j in shown),
            Cell(integer(int(labelled[i, 0]))),
        )
        for i in shown
    )
    some = "" if len(shown) == len(classes) else f", the {len(shown)} classes with the most pixels"
    yield Table(
        f"{subject.label}: of the pixels of each label (row), the percentage that got each class (column),"
        f" measured{some}",
        (Column("label"), *(Column(classes[j], numbers=True) for j in shown), Column("pixels", "counted", True)),
        rows,
        subject.source,
        folded,
    )


def _most_confused(counts: np.ndarray, shares: np.ndarray, classes: Sequence[str]) -> Iterator[tuple[Cell, ...]]:
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    for place in np.argsort(wrong, axis=None)[::-1][:MOST_CONFUSIONS]:
        i, j = divmod(int(place), len(classes))
        if wrong[i, j]:
            of_all = 100 * wrong[i, j] / counts.sum()
            yield words(classes[i], classes[j], fixed(of_all), fixed(shares[i, j], 1))
