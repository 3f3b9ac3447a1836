"""Counts the labelled pixels of a split before training or scoring, and reports what cannot be learnt from them."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pipeline.core.errors import DataError
from pipeline.core.files import sha256, write_atomically
from pipeline.core.from_json import from_json
from pipeline.core.json_file import BadJson, load_as
from pipeline.core.progress import progress, track
from pipeline.core.run import LABELS, Run
from pipeline.core.say import Say
from pipeline.data.decode import check_headers, count_values
from pipeline.data.decoded import Decoded
from pipeline.data.record import read_record

THREADS = 2
MOST_PIXELS, MOST_LABELS = 1 << 28, 4000
"""A split of up to so many pixels, 128 images of 1024x2048, and labels is decoded before training. Of a larger one so
many are counted, of labels drawn with SEED, and of all files the headers are read."""
SEED = 0
MOST_KEPT = 16
MOST_COUNTED = 1 << 50
"""Pixels of one class: a million images of a thousand megapixels."""


@dataclasses.dataclass(frozen=True)
class Census:
    """Labelled pixels of each class, of all labels of a split or of some.

    Attributes:
      counted, of: how many labels were counted, of how many.
      pixels: of each class.
    """

    split: str
    counted: int
    of: int
    pixels: tuple[int, ...]

    @property
    def sampled(self) -> bool:
        return self.counted < self.of

    @property
    def classes_seen(self) -> int:
        return sum(count > 0 for count in self.pixels)

    def table(self) -> np.ndarray:
        """int64 [1, classes], for ``check_labels``."""
        return np.array([self.pixels], np.int64)


@dataclasses.dataclass(frozen=True)
class _Kept:
    """The content of labels.json."""

    known: dict[str, Census] = dataclasses.field(default_factory=dict)


def take_census(run: Run, split: str, decoded: Decoded, fewest: int, say: Say) -> Census:
    """The labelled pixels of images of a split; the run keeps them, so that each set of files is counted once.

    A split that is too large to be decoded before training begins is counted by a sample, unless that shows fewer than
    ``fewest`` classes. Raises DataError for a file that cannot be used, as far as it was opened.
    """
    file, num_classes = run.path / LABELS, run.config.model.num_classes
    marks = read_record(run).splits.get(split, {})
    listing = "\n".join(f"{sample.name} {marks.get(sample.name, '')}" for sample in decoded.samples)
    key = sha256(f"{num_classes} {run.config.data}\n{listing}".encode())
    known = _known(file)
    if marks and key in known and _fits(known[key], len(decoded), num_classes):
        return known[key]
    census = _count_some(decoded, num_classes, split, fewest, say)
    if marks:
        kept = dict([*known.items(), (key, census)][-MOST_KEPT:])
        write_atomically(file, json.dumps(dataclasses.asdict(_Kept(kept))).encode())
    return census


def _fits(census: Census, count: int, num_classes: int) -> bool:
    """Whether it can be of so many images and classes: the run may be a stranger's."""
    counts = len(census.pixels) == num_classes and all(0 <= pixels < MOST_COUNTED for pixels in census.pixels)
    return counts and 0 < census.counted <= census.of == count


def _known(file: Path) -> dict[str, Census]:
    """What was counted before; nothing where it cannot be read: it is counted again."""
    try:
        return load_as(file, functools.partial(from_json, _Kept)).known
    except BadJson:
        return {}


def _count_some(decoded: Decoded, num_classes: int, split: str, fewest: int, say: Say) -> Census:
    samples, count = decoded.samples, len(decoded)
    what = "training" if split == "train" else split
    if all(len(sample.files) == 2 for sample in samples):
        checking = track(say, samples, f"checking {what} files", count)
        pixels = np.array([check_headers(*sample.files) for sample in checking])
        if pixels.sum() > MOST_PIXELS or count > MOST_LABELS:
            some = max(1, min(count, MOST_LABELS, int(MOST_PIXELS // pixels.mean())))
            chosen = np.sort(np.random.default_rng(SEED).permutation(count)[:some])
            counts = _count_all(lambda i: samples[chosen[i]].label(), some, num_classes, what, say)
            census = Census(split, some, count, tuple(counts.sum(0).tolist()))
            if not census.sampled or census.classes_seen >= fewest:
                return census
    return Census(split, count, count, tuple(count_pixels(decoded, num_classes, what, say).sum(0).tolist()))


def count_pixels(decoded: Decoded, num_classes: int, what: str, say: Say) -> np.ndarray:
    """int64 [images, classes]: labelled pixels of each class in each label. Opens every label; raises DataError."""
    return _count_all(decoded.label, len(decoded), num_classes, what, say)


def _count_all(label: Callable[[int], np.ndarray], count: int, num_classes: int, what: str, say: Say) -> np.ndarray:
    counts = np.zeros((count, num_classes), np.int64)
    opening = progress(say, f"opening {what} labels", count, "labels")
    with opening as advance, ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(lambda i: count_values(label(i))[:num_classes], i) for i in range(count)]
        try:
            for i, future in enumerate(futures):
                counts[i] = future.result()
                advance(1)
        finally:
            pool.shutdown(cancel_futures=True)
    return counts


def check_labels(train: np.ndarray, val: np.ndarray, classes: Sequence[str], data: str) -> list[str]:
    """Notes for the user before training; ``train`` and ``val`` are counts from ``count_pixels``.

    Raises DataError if nothing can be learnt or scored: a split without a labelled pixel, or only one class.
    """
    for split, counts in (("training", train), ("val", val)):
        check_labelled(counts, split, data)
    in_train, in_val = train.sum(0) > 0, val.sum(0) > 0
    if in_train.sum() < 2:
        only = classes[int(in_train.argmax())]
        raise DataError(
            f"the training labels of {data} hold one class only, {only!r}, so there is nothing to learn:"
            f" {_named(classes, ~in_train)} {_never(~in_train)}. Check the labels' values (255 is ignored) and the"
            " class list."
        )
    notes = []
    missing = ~in_train & ~in_val
    if missing.any():
        notes.append(f"{_named(classes, missing)} {_never(missing)}, in train or val: it cannot be learnt or scored")
    if (val_only := in_val & ~in_train).any():
        notes.append(
            f"{_named(classes, val_only)} {_never(val_only)} in train, but in val: it cannot be learnt, and its IoU of"
            " 0 counts in the mIoU"
        )
    if (train_only := in_train & ~in_val).any():
        notes.append(
            f"{_named(classes, train_only)} {_never(train_only)} in val: how well it is learnt is not measured"
        )
    if in_val.sum() < 2:
        notes.append(f"the val labels hold one class only, {_named(classes, in_val)}: their mIoU says little")
    return notes


def check_labelled(counts: np.ndarray, split: str, data: str) -> None:
    """Raises DataError if no pixel is labelled."""
    if not counts.any():
        purpose = "learnt from" if split == "training" else "scored"
        raise DataError(
            f"no pixel of the {split} split of {data} is labelled, so it cannot be {purpose}: check the labels' values"
            " and the ignored one."
        )


def _named(classes: Sequence[str], chosen: np.ndarray) -> str:
    names = [repr(name) for name, yes in zip(classes, chosen, strict=True) if yes]
    return f"class{'es' if len(names) > 1 else ''} {', '.join(names)}"


def _never(chosen: np.ndarray) -> str:
    return "never occur" if chosen.sum() > 1 else "never occurs"
