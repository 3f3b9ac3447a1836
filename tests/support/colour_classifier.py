"""How far colour alone goes: the Bayes classifier of a pixel's RGB histogram bin, from its definition."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

IGNORED = 255


def colour_classifier_miou(
    train_pairs: Iterable[tuple[np.ndarray, np.ndarray]],
    val_pairs: Iterable[tuple[np.ndarray, np.ndarray]],
    num_classes: int,
    bins: tuple[int, ...] = (16, 32),
) -> float:
    """Mean IoU in percent over the classes that occur in ``val_pairs``: the best that colour tables reached.

    Pairs are uint8 images [h, w, 3] and uint8 labels [h, w] with 255 ignored. For each number of bins per channel two
    tables are tried: argmax over c of P(c | bin), and the class-balanced argmax of P(bin | c).
    """
    train, val = list(train_pairs), list(val_pairs)
    best = 0.0
    for per_channel in bins:
        counts = sum(
            np.bincount(
                _bins(image, per_channel)[label != IGNORED] * num_classes + label[label != IGNORED],
                minlength=per_channel**3 * num_classes,
            )
            for image, label in train
        )
        counts = np.asarray(counts).reshape(per_channel**3, num_classes)
        totals = np.maximum(1, counts.sum(0))
        for table in (counts, counts / totals):
            guesses = table.argmax(1)
            best = max(best, _miou_percent(val, guesses, per_channel, num_classes))
    return best


def _bins(image: np.ndarray, per_channel: int) -> np.ndarray:
    """uint8 [h, w, 3] → int64 [h, w], the number of each pixel's bin."""
    part = image.astype(np.int64) * per_channel // 256
    return (part[..., 0] * per_channel + part[..., 1]) * per_channel + part[..., 2]


def _miou_percent(
    pairs: list[tuple[np.ndarray, np.ndarray]], guesses: np.ndarray, per_channel: int, num_classes: int
) -> float:
    confusion = np.zeros((num_classes, num_classes), np.int64)
    for image, label in pairs:
        guess = guesses[_bins(image, per_channel)]
        counted = label != IGNORED
        np.add.at(confusion, (label[counted], guess[counted]), 1)
    both, truth, guessed = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    occurs = truth > 0
    return float(100 * np.mean(both[occurs] / (truth + guessed - both)[occurs]))
