"""From the facts of every image to what a user should know before a night is spent on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from pipeline.check.facts import EDGE_SIDE, REACH, Facts
from pipeline.core.dataset import IGNORE
from pipeline.core.errors import DataError
from pipeline.data.census import check_labels

Level = Literal["error", "warning", "note"]

SHOWN = 5
"""Names given of many."""
FEW_IMAGES = 35
"""`qat` holds out a fifth of the training images, and needs seven to tell whether the best of its four checkpoints is
better than the start; see train/judge."""
RARE_IMAGES = 3
"""A class that occurs in fewer training images is learnt by heart, if at all."""
ALIKE_BITS = 8
"""Of 256: two frames of one scene differ by less, two scenes by about a hundred."""
COMPARED = 50_000_000
"""Pairs of images that are compared at most."""
MOVED_STEPS = 2.0
"""People draw boundaries this far off; a shift is more."""
BETTER_FIT, LEAST_FIT = 1.25, 0.15
"""Masks are taken for shifted where their boundaries fit so many times better elsewhere, and fit there at all."""
TURNED_FIT = 1.5
BACKGROUND = ("background", "bg", "back", "none", "other", "others", "void", "rest", "no", "negative")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing to know.

    Attributes:
      level: 'error': cannot be trained or scored like this; 'warning': look at it first; 'note': good to know.
      names: of files or images that show it, all of them.
    """

    level: Level
    text: str
    names: tuple[str, ...] = ()

    def sentence(self) -> str:
        if not self.names:
            return self.text
        more = f" and {len(self.names) - SHOWN} more" if len(self.names) > SHOWN else ""
        return f"{self.text}: {', '.join(self.names[:SHOWN])}{more}"


def findings(
    splits: Mapping[str, Sequence[Facts]], classes: Sequence[str], fits: np.ndarray, data: str
) -> list[Finding]:
    """``splits``: facts of 'train' and 'val'; ``fits``: the mean of ``edge_fits`` over some images."""
    return [
        *labels(splits, classes, data),
        *amounts(splits, classes),
        *sizes(splits),
        *turned(splits),
        *duplicates(splits),
        *shifted(fits),
        *inverted(splits, classes),
    ]


def labels(splits: Mapping[str, Sequence[Facts]], classes: Sequence[str], data: str) -> Iterator[Finding]:
    """What `train` says, or refuses, as well."""
    counts = {split: pixels_of(facts, len(classes)) for split, facts in splits.items()}
    try:
        for text in check_labels(counts["train"], counts["val"], classes, data):
            yield Finding("warning", text)
    except DataError as error:
        yield Finding("error", error.message)
    for split, facts in splits.items():
        empty = tuple(f.name for f in facts if f.pixels[IGNORE] == f.pixels.sum())
        if empty and len(empty) < len(facts):
            yield Finding("warning", f"{len(empty)} {split} label(s) hold no labelled pixel", empty)


def pixels_of(facts: Sequence[Facts], num_classes: int) -> np.ndarray:
    """int64 [images, classes]."""
    return np.stack([f.pixels[:num_classes] for f in facts]) if facts else np.zeros((0, num_classes), np.int64)


def amounts(splits: Mapping[str, Sequence[Facts]], classes: Sequence[str]) -> Iterator[Finding]:
    train = splits["train"]
    if len(train) < FEW_IMAGES:
        yield Finding(
            "warning",
            f"there are {len(train)} training images: give {FEW_IMAGES} or more; with fewer `qat` cannot tell whether a"
            " checkpoint is better than its start, and keeps that",
        )
    if train:
        images = (pixels_of(train, len(classes)) > 0).sum(0)
        rare = tuple(f"{classes[i]!r} ({n})" for i, n in enumerate(images) if 0 < n < min(RARE_IMAGES, len(train)))
        if rare:
            yield Finding("warning", f"in fewer than {RARE_IMAGES} training images, so hardly learnt", rare)


def sizes(splits: Mapping[str, Sequence[Facts]]) -> Iterator[Finding]:
    images = [f for facts in splits.values() for f in facts]
    upright, lying = (tuple(f.name for f in images if (f.width >= f.height) is wide) for wide in (False, True))
    if upright and lying:
        form, few = ("upright", upright) if len(upright) <= len(lying) else ("lying", lying)
        yield Finding(
            "note", f"{len(few)} of {len(images)} images are {form}, the others not: all become one size", few
        )


def turned(splits: Mapping[str, Sequence[Facts]]) -> Iterator[Finding]:
    images = [f for facts in splits.values() for f in facts]
    if names := tuple(f.name for f in images if f.turned):
        yield Finding(
            "note",
            f"{len(names)} of {len(images)} images are turned upright by the camera's EXIF orientation, as everywhere"
            " here; an app must turn them, too",
            names,
        )


def duplicates(splits: Mapping[str, Sequence[Facts]]) -> Iterator[Finding]:
    for split, facts in splits.items():
        first: dict[bytes, str] = {}
        twice = tuple(f"{f.name} = {first[f.digest]}" for f in facts if first.setdefault(f.digest, f.name) != f.name)
        if twice:
            yield Finding("warning", f"{len(twice)} {split} image(s) are there more than once", twice)
    train = {f.digest: f.name for f in splits["train"]}
    both = tuple(f"{f.name} = {train[f.digest]}" for f in splits["val"] if f.digest in train)
    if both:
        yield Finding("error", f"{len(both)} val image(s) are in train as well, so their score says nothing", both)
    if len(splits["val"]) * len(splits["train"]) > COMPARED:
        yield Finding(
            "note",
            f"{len(splits['val'])} val images were compared with {len(splits['train'])} training images for equal files"
            f" only, not for similar pictures: more than {COMPARED:,} pairs take too long",
        )
        return
    alike = tuple(_alike(splits["val"], splits["train"], {f.digest for f in splits["train"]}))
    if alike:
        yield Finding(
            "warning",
            f"{len(alike)} val image(s) look like a training image (frames of one scene?), so the score flatters",
            alike,
        )


def _alike(val: Sequence[Facts], train: Sequence[Facts], known: set[bytes]) -> Iterator[str]:
    if not train:
        return
    hashes = np.stack([f.hash256 for f in train])
    for facts in val:
        bits = np.bitwise_count(hashes ^ facts.hash256).sum(-1)
        nearest = int(bits.argmin())
        if facts.digest not in known and bits[nearest] <= ALIKE_BITS:
            yield f"{facts.name} ~ {train[nearest].name}"


def shifted(fits: np.ndarray) -> Iterator[Finding]:
    """``fits``: the mean of ``edge_fits``."""
    here = fits[0, REACH, REACH]
    for turned, words in zip(fits[1:, REACH, REACH], ("mirrored", "upside down"), strict=True):
        if turned > 2 * LEAST_FIT and turned > TURNED_FIT * max(here, 0):
            yield Finding(
                "warning",
                f"the masks look {words}: turned back, their boundaries fit the images' edges {_times(turned, here)};"
                " look at the contact sheet",
            )
            return
    fits = fits[0]
    row, column = (int(at) - REACH for at in np.unravel_index(fits.argmax(), fits.shape))
    best = fits.max()
    if np.hypot(row, column) > MOVED_STEPS and best > LEAST_FIT and best > BETTER_FIT * max(here, 0):
        yield Finding(
            "warning",
            f"the masks look shifted: their boundaries fit the images' edges {_times(best, here)} when every mask is"
            f" moved by {row:+d} rows and {column:+d} columns (in images made smaller, to at most {EDGE_SIDE} pixels);"
            " look at the contact sheet",
        )


def _times(best: float, here: float) -> str:
    return f"{best / here:.1f} times as well" if here > 0.05 * best else "far better"


def inverted(splits: Mapping[str, Sequence[Facts]], classes: Sequence[str]) -> Iterator[Finding]:
    """Of two classes the background reaches the images' borders more than the object does."""
    everything = [f for facts in splits.values() for f in facts]
    if len(classes) != 2 or not everything:
        return
    shares = np.array([f.border[0] / max(1, f.border[:2].sum()) for f in everything])
    total = np.sum([f.pixels[:2] for f in everything], 0)
    names = [name.strip().lower() for name in classes]
    if shares.mean() < 0.25 and total[0] < total[1] and names[0] in BACKGROUND:
        yield Finding(
            "warning",
            f"the masks look inverted: {classes[0]!r} (0) fills {100 * total[0] / total.sum():.0f} % of the pixels and"
            f" hardly touches the borders, and {classes[1]!r} surrounds it",
        )
        return
    minority = shares < 0.2 if shares.mean() > 0.5 else shares > 0.8
    odd = tuple(f.name for f, yes in zip(everything, minority, strict=True) if yes)
    clear = (np.abs(shares - 0.5) > 0.3).mean() > 0.9
    if odd and clear and len(odd) <= 0.2 * len(everything):
        yield Finding("warning", f"{len(odd)} mask(s) look inverted compared with the others", odd)
