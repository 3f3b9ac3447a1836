"""Counts the labels of a split before anything is trained or judged on it, and says what cannot be learnt from them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pipeline.core.errors import DataError
from pipeline.core.say import Say
from pipeline.data.decoded import Decoded

SAY_SECONDS = 5
THREADS = 2


def count_pixels(decoded: Decoded, num_classes: int, what: str, say: Say) -> np.ndarray:
    """int64 [images, classes]: labelled pixels of each class in each label. Opens every label; raises DataError."""
    counts = np.zeros((len(decoded), num_classes), np.int64)
    told = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = [pool.submit(_count, decoded, i, num_classes) for i in range(len(decoded))]
        try:
            for i, each in enumerate(waiting):
                counts[i] = each.result()
                if time.monotonic() - told > SAY_SECONDS:
                    told = time.monotonic()
                    say(f"opened {i + 1} of {len(decoded)} {what} labels")
        finally:
            pool.shutdown(cancel_futures=True)
    return counts


def _count(decoded: Decoded, index: int, num_classes: int) -> np.ndarray:
    return np.bincount(decoded.label(index).ravel(), minlength=256)[:num_classes]


def check_labels(train: np.ndarray, val: np.ndarray, classes: Sequence[str], data: str) -> list[str]:
    """What a user must know before training, in sentences; counts as ``count_pixels`` gives them.

    Raises DataError where nothing can be learnt, or nothing scored: no labelled pixel in a split, one class in all.
    """
    for split, counts in (("training", train), ("val", val)):
        check_labelled(counts, split, data)
    learnt, judged = train.sum(0) > 0, val.sum(0) > 0
    if learnt.sum() < 2:
        only = classes[int(learnt.argmax())]
        raise DataError(
            f"the training labels of {data} hold one class only, {only!r}, so there is nothing to tell apart:"
            f" {_named(classes, ~learnt)} {_never(~learnt)}. Check the labels' values (255 is ignored) and the class"
            " list."
        )
    notes = []
    missing = ~learnt & ~judged
    if missing.any():
        notes.append(f"{_named(classes, missing)} {_never(missing)}, in train or val: it cannot be learnt or scored")
    if (unlearnt := judged & ~learnt).any():
        notes.append(
            f"{_named(classes, unlearnt)} {_never(unlearnt)} in train, but in val: it cannot be learnt, and an IoU of 0"
            " counts in the mIoU"
        )
    if (unjudged := learnt & ~judged).any():
        notes.append(f"{_named(classes, unjudged)} {_never(unjudged)} in val: how well it is learnt is not measured")
    if judged.sum() < 2:
        notes.append(f"the val labels hold one class only, {_named(classes, judged)}: their mIoU says little")
    return notes


def check_labelled(counts: np.ndarray, split: str, data: str) -> None:
    """Raises DataError where no pixel is labelled."""
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
