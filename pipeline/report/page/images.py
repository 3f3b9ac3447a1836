"""The pictures that `bench` kept: image, label, both masks, and where they differ."""

from __future__ import annotations

import base64
import io
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.core.dataset import IGNORE
from pipeline.core.errors import SegquantError
from pipeline.core.files import read_regular
from pipeline.core.measurement import ShownImage
from pipeline.data.decode import open_image, open_verified
from pipeline.data.images import palette
from pipeline.report.page.blocks import (
    Block,
    Cell,
    Layer,
    Missing,
    Paragraphs,
    Pictures,
    Section,
    ShownPicture,
    Table,
    words,
)
from pipeline.report.page.blocks import columns as columns_of
from pipeline.report.page.evidence import Evidence
from pipeline.report.page.numbers import fixed, points
from pipeline.report.page.subjects import Subject
from pipeline.report.pictures import colour_of_ignored, indexed

MOST_BYTES = 4_000_000
"""Of all pictures in a page, before base64 adds a third. Those of single classes are left out first."""
UNREADABLE = (OSError, SegquantError, ValueError)
TYPES = {".jpg": "image/jpeg", ".png": "image/png"}
DIFFERENCES = (
    ("both right", (232, 232, 232)),
    ("both wrong, the same class", (150, 150, 150)),
    ("the artifact alone is right", (0, 114, 178)),
    ("float alone is right", (213, 94, 0)),
    ("both wrong, different classes", (240, 228, 66)),
    ("without a label", (0, 0, 0)),
)
"""Colours of Okabe and Ito's palette (Color Universal Design, 2002) on greys."""
FIRST = ("best", "median", "worst", "largest drop")


def pictures(runs: Sequence[Evidence], subjects: Sequence[Subject]) -> Section:
    blocks: list[Block] = []
    free = MOST_BYTES
    for run in runs:
        of_run = [subject for subject in subjects if subject.evidence is run]
        kept, left_out, problems = [], 0, []
        for name, shown in _by_image(of_run).items():
            try:
                picture = _picture(run, name, shown)
            except UNREADABLE as error:
                problems.append(f"{name} is not shown: {error}")
                continue
            size = sum(len(layer.data_url) for layer in picture.layers) * 3 // 4
            if size > free:
                left_out += 1
                continue
            free -= size
            kept.append(picture)
        if kept:
            blocks.append(_block(run, of_run, kept))
            blocks.append(_scores(run, of_run))
        if left_out:
            where = run.run.measurements / "pictures"
            problems.append(f"{left_out} more images are in {where}: they would make the page too large")
        if problems:
            blocks.append(Paragraphs(tuple(f"{run.label}: {problem}" for problem in problems), "notes"))
        if not kept:
            blocks.append(Missing(f"{run.label} has no pictures yet", run.command("bench")))
        if run.artifacts:
            blocks.append(Paragraphs((_live(run),), "plain"))
    return Section("pictures", "Pictures", tuple(blocks))


def _live(run: Evidence) -> str:
    """How to try the file on other pictures."""
    pages = sorted(run.run.path.glob("bundles/*/browser/serve.py"))
    target = run.artifacts[0].target
    page = pages[0] if pages else run.run.path / "bundles" / target / "browser" / "serve.py"
    bundle = "" if pages else f"{run.command('bundle', '--target', target)} writes that page, "
    fetch = f"{shlex.join(['npm', 'ci', '--prefix', str(page.parent)])} fetches LiteRT.js, and "
    if (page.parent / "node_modules").is_dir():
        fetch = ""
    serve = shlex.join(["python", str(page)])
    return (
        "A page beside this report runs the file on your own picture or the camera:"
        f" {bundle}{fetch}{serve} serves it to your browser."
    )


def _by_image(subjects: Sequence[Subject]) -> dict[str, list[tuple[Subject, ShownImage]]]:
    """By the image's file, those for all of it first, then those for a class."""
    by_image: dict[str, list[tuple[Subject, ShownImage]]] = {}
    for subject in subjects:
        for shown in subject.bench.shown:
            by_image.setdefault(shown.image, []).append((subject, shown))
    order = sorted(by_image, key=lambda image: min(map(_rank, (shown for _, shown in by_image[image]))))
    return {image: by_image[image] for image in order}


def _rank(shown: ShownImage) -> int:
    return min(FIRST.index(reason) if reason in FIRST else len(FIRST) for reason in shown.reasons)


def _picture(run: Evidence, image: str, shown: Sequence[tuple[Subject, ShownImage]]) -> ShownPicture:
    """Raises OSError for a picture that cannot be read."""
    several = len(shown) > 1
    name, home = shown[0][1].score.name, run.run.path
    layers = [_layer(home, image, "image", "image", f"{name}: the image")]
    layers.append(_label(run, shown[0][1].label, f"{name}: the label"))
    floats: dict[str, str] = {}
    for subject, sample in shown:
        if sample.parent_mask not in floats:
            floats[sample.parent_mask] = "float" if not floats else f"float beside {subject.label}"
            title = floats[sample.parent_mask]
            layers.append(_layer(home, sample.parent_mask, title, "mask", f"{name}: the mask of the {title} network"))
    for subject, sample in shown:
        title = subject.label if several else "artifact"
        layers.append(_layer(home, sample.mask, title, "mask", f"{name}: the mask of {subject.label}"))
        layers.append(_differences(home, sample, f"float and {title}"))
    captions = [
        f"{subject.label}: {fixed(sample.score.miou_percent)} % mIoU,"
        f" {fixed(sample.score.parent_miou_percent)} % in float,"
        f" the same class on {fixed(sample.score.agreement_percent)} % of pixels"
        for subject, sample in shown
    ]
    with open_image(_inside(home, image), "picture") as opened:
        width, height = opened.size
    first = any(_rank(sample) < len(FIRST) for _, sample in shown)
    return ShownPicture(name, _reasons(shown), "; ".join(captions), tuple(layers), width, height, first)


def _reasons(shown: Sequence[tuple[Subject, ShownImage]]) -> tuple[str, ...]:
    """Each reason once, with whose it is where it is not everybody's."""
    whose: dict[str, list[str]] = {}
    for subject, sample in shown:
        for reason in sample.reasons:
            whose.setdefault(reason, []).append(subject.label)
    return tuple(
        reason if len(labels) == len(shown) else f"{reason} ({', '.join(labels)})" for reason, labels in whose.items()
    )


def _inside(home: Path, name: str) -> Path:
    """A picture's file; raises OSError for one that is not in the run, whatever a measurement says."""
    path = Path(os.path.realpath(home / name))
    if not path.is_relative_to(os.path.realpath(home)) or path.suffix not in TYPES:
        raise OSError(f"{name} is no picture of this run")
    if not path.exists():
        raise OSError(f"{name} is not there any more; `bench` makes it again")
    return path


def _layer(home: Path, name: str, title: str, kind: str, alternative: str) -> Layer:
    path = _inside(home, name)
    with open_verified(path, "picture") as opened:
        opened.load()
    data = read_regular(path, MOST_BYTES)
    return Layer(title, _data_url(data, TYPES[path.suffix]), kind, alternative)  # type: ignore[arg-type]


def _label(run: Evidence, name: str, alternative: str) -> Layer:
    """Painted anew: earlier versions kept it with black for what is not labelled, which may be a class's colour."""
    file = io.BytesIO()
    indexed(_ids(_inside(run.run.path, name)), _colours(run)).save(file, "PNG", optimize=True)
    return Layer("label", _data_url(file.getvalue(), "image/png"), "mask", alternative)


def _colours(run: Evidence) -> Sequence[tuple[int, int, int]]:
    return run.run.config.colours or palette(len(run.run.config.classes))


def _data_url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _differences(home: Path, shown: ShownImage, title: str) -> Layer:
    label, parent, mask = (_ids(_inside(home, name)) for name in (shown.label, shown.parent_mask, shown.mask))
    if not label.shape == parent.shape == mask.shape:
        raise ValueError(f"{shown.label}, {shown.parent_mask} and {shown.mask} are not of one size")
    places = differences(label, parent, mask)
    file = io.BytesIO()
    indexed(places, [colour for _, colour in DIFFERENCES]).save(file, "PNG", optimize=True)
    shares = ", ".join(
        f"{fixed(100 * float((places == i).mean()), 1)} % {what}" for i, (what, _) in enumerate(DIFFERENCES)
    )
    return Layer(title, _data_url(file.getvalue(), "image/png"), "differences", f"{shown.score.name}: {shares}")


def _ids(path: Path) -> np.ndarray:
    """uint8 [h, w]: the class ids of a palette image; raises DataError, and ValueError for another kind of picture."""
    with open_image(path, "picture") as opened:
        if opened.mode != "P":
            raise ValueError(f"{path} has mode {opened.mode}: a mask is a palette image of class ids")
        return np.asarray(opened)


def differences(label: np.ndarray, parent: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """uint8 [h, w]: for each pixel the place in DIFFERENCES of what it is."""
    right_before, right = parent == label, mask == label
    codes = np.where(parent == mask, 1, 4).astype(np.uint8)
    codes[right & right_before] = 0
    codes[right & ~right_before] = 2
    codes[~right & right_before] = 3
    codes[label == IGNORE] = 5
    return codes


def _block(run: Evidence, subjects: Sequence[Subject], kept: Sequence[ShownPicture]) -> Pictures:
    colours = _colours(run)
    legend = tuple((name, hexadecimal(colour)) for name, colour in zip(run.run.config.classes, colours, strict=True))
    source = " ".join(dict.fromkeys(subject.source for subject in subjects if subject.bench.shown))
    return Pictures(
        title=f"Images of {run.label}",
        legend=(*legend, ("without a label", hexadecimal(colour_of_ignored(colours)))),
        differences=tuple((what, hexadecimal(colour)) for what, colour in DIFFERENCES),
        pictures=tuple(kept),
        source=source,
    )


def hexadecimal(colour: Sequence[int]) -> str:
    return "#" + "".join(f"{value:02x}" for value in colour)


def _scores(run: Evidence, subjects: Sequence[Subject]) -> Table:
    """The images that are shown, as figures."""
    heads = columns_of("image", "shown as", "artifact", *((f"{what}", "measured") for what in _FIGURES))
    return Table(f"The shown images of {run.label} in figures", heads, tuple(_rows(subjects)), folded=True)


_FIGURES = ("float mIoU %", "mIoU %", "change, points", "same class, % of pixels")


def _rows(subjects: Sequence[Subject]) -> Iterator[tuple[Cell, ...]]:
    for subject in subjects:
        for shown in subject.bench.shown:
            score = shown.score
            before, after = score.parent_miou_percent, score.miou_percent
            change = None if before is None or after is None else after - before
            yield words(
                score.name,
                ", ".join(shown.reasons),
                subject.label,
                fixed(before),
                fixed(after),
                points(change),
                fixed(score.agreement_percent),
            )
