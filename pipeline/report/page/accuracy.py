"""Accuracy class by class, and which classes are taken for which."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.core.measurement import FileMeasurement
from pipeline.report.page.blocks import Block, Cell, Chart, Column, Missing, Paragraphs, Section, Table
from pipeline.report.page.charts import Series, dot_plot
from pipeline.report.page.evidence import Evidence
from pipeline.report.page.numbers import fixed, points, whole
from pipeline.report.page.subjects import Subject

MOST_CONFUSIONS = 8


def per_class(runs: Sequence[Evidence], subjects: Sequence[Subject]) -> Section:
    blocks: list[Block] = []
    for run in runs:
        of_run = [subject for subject in subjects if subject.evidence is run and subject.artifact.score]
        if of_run:
            blocks.append(_iou_chart(run, of_run))
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
    yield Paragraphs(tuple(_most_confused(subject, counts, shares, classes)))
    rows = tuple(
        (
            Cell(name),
            *(Cell(fixed(share, 1) if labelled[i, 0] else "–", share / 100) for share in shares[i]),
            Cell(whole(int(labelled[i, 0]))),
        )
        for i, name in enumerate(classes)
    )
    heads = (
        Column("label"),
        *(Column(name, numbers=True) for name in classes),
        Column("pixels", "counted", True),
    )
    yield Table(
        f"{subject.label}: of the pixels of each label (row), the percentage that got each class (column), measured",
        heads,
        rows,
        subject.source,
        folded,
    )


def _most_confused(subject: Subject, counts: np.ndarray, shares: np.ndarray, classes: Sequence[str]) -> Iterator[str]:
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    largest = np.argsort(wrong, axis=None)[::-1][:MOST_CONFUSIONS]
    texts = [
        f"{classes[i]} as {classes[j]} ({fixed(100 * wrong[i, j] / max(1, counts.sum()))} % of all pixels,"
        f" {fixed(shares[i, j], 1)} % of {classes[i]})"
        for i, j in zip(*np.unravel_index(largest, wrong.shape), strict=True)
        if wrong[i, j]
    ]
    if texts:
        yield f"What {subject.label} confuses most, by pixels, label as prediction: {'; '.join(texts)}."
    else:
        yield f"{subject.label} confuses no classes."
