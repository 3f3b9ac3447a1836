"""Divides a dataset's labelled images anew."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable

from pipeline.core.dataset import Dataset, Sample
from pipeline.core.division import UNDIVIDED, Division
from pipeline.core.errors import DataError

FRAME = re.compile(r"[_\-. ]?[a-zA-Z]?\d+$")
"""A frame's number at the end of a name, such as _f00150 or 0042."""
LISTED = 6


def divide(dataset: Dataset, division: Division) -> Dataset:
    """The dataset with 'train' and 'val' as ``division`` says; raises DataError where one of them would be empty."""
    train, val = dataset.splits["train"], dataset.splits["val"]
    everything = (*train, *val)
    trained = everything if division.train_on == "train+val" else train
    for prefix in division.hold_out:
        if not any(sample.name.startswith(prefix) for sample in everything):
            raise DataError(
                f"no image of {dataset.text} has a name that begins with {prefix!r}: names begin with"
                f" {_beginnings(everything)}."
            )
    if division.hold_out:
        trained = tuple(sample for sample in trained if not sample.name.startswith(division.hold_out))
        val = tuple(sample for sample in everything if sample.name.startswith(division.hold_out))
    if division.hold_out and not trained:
        raise DataError(f"all images of {dataset.text} are held out, and none is left to train on: hold out fewer.")
    splits = {"train": trained, "val": val}
    return dataclasses.replace(dataset, splits=splits, how_split=_words(dataset, division))


def _words(dataset: Dataset, division: Division) -> str:
    if division == UNDIVIDED:
        return dataset.how_split
    what = "val is trained on, too" if division.trains_on_val else f"trained on {division}"
    return f"{dataset.how_split}; {what}" + (", and the images held out are val" if division.hold_out else "")


def sequence_of(name: str) -> str:
    """What comes before a frame's number: '0016E5_07959' → '0016E5'; empty where the name is a number alone."""
    return FRAME.sub("", name)


def shared_sequences(dataset: Dataset) -> tuple[str, ...]:
    """Sequences whose frames are in train and in val, by their names, largest first.

    None where the names tell nothing: where there is one sequence in all, or nearly every image is one of its own.
    """
    train, val = (Counter(sequence_of(s.name) for s in dataset.splits[split]) for split in ("train", "val"))
    images, sequences = train.total() + val.total(), train.keys() | val.keys()
    if len(sequences) < 2 or len(sequences) > images / 2:
        return ()
    return tuple(name for name, _ in val.most_common() if name and name in train)


def _beginnings(samples: Iterable[Sample]) -> str:
    counts = Counter(sequence_of(sample.name) for sample in samples)
    listed = [repr(name) for name, _ in counts.most_common(LISTED) if name]
    return ", ".join(listed) + (", …" if len(counts) > LISTED else "") if listed else "numbers alone"
