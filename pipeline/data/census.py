"""Counts the labelled pixels of a split before training or scoring, and reports what cannot be learnt from them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from pipeline.core.errors import DataError
from pipeline.core.progress import progress
from pipeline.core.say import Say
from pipeline.data.decode import count_values
from pipeline.data.decoded import Decoded

THREADS = 2


def count_pixels(decoded: Decoded, num_classes: int, what: str, say: Say) -> np.ndarray:
    """int64 [images, classes]: labelled pixels of each class in each label. Opens every label; raises DataError."""
    counts = np.zeros((len(decoded), num_classes), np.int64)
    opening = progress(say, f"opening {what} labels", len(decoded), "labels")
    with opening as advance, ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(_count, decoded, i, num_classes) for i in range(len(decoded))]
        try:
            for i, future in enumerate(futures):
                counts[i] = future.result()
                advance(1)
        finally:
            pool.shutdown(cancel_futures=True)
    return counts


def _count(decoded: Decoded, index: int, num_classes: int) -> np.ndarray:
    return count_values(decoded.label(index))[:num_classes]


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
