"""How well masks match labels: IoU and pixel accuracy."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pipeline.core.errors import DataError


def iou_percent(confusion: np.ndarray) -> np.ndarray:
    """float64 [..., classes]: IoU of each class of each int [..., classes, classes]; 0 for one that does not occur."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    union = confusion.sum(-2) + confusion.sum(-1) - hits
    return 100 * np.divide(hits, union, out=np.zeros_like(hits), where=union > 0)


def mean_iou_percent(confusion: np.ndarray) -> np.ndarray:
    """float64 [...]: mean IoU of each int [..., classes, classes], over the classes that occur in labels or masks."""
    occurs = confusion.any(-2) | confusion.any(-1)
    return iou_percent(confusion).sum(-1) / np.maximum(1, occurs.sum(-1))


def only_class(confusion: np.ndarray) -> int | None:
    """The class of all labelled pixels of the masks, where their labels hold others too; None where masks hold several.

    ``confusion``: int [classes, classes], row = label, column = predicted.
    """
    predicted = np.flatnonzero(confusion.any(0))
    return int(predicted[0]) if len(predicted) == 1 and confusion.any(1).sum() > 1 else None


def says_nothing(class_name: str) -> str:
    """What to tell of masks of one class only."""
    return (
        f"every pixel is of one class, {class_name!r}: the network tells nothing apart, so its scores say nothing about"
        " it. Train it again, or give other weights"
    )


def check_labelled(confusion: np.ndarray | int, images: int) -> None:
    """Raises DataError where ``confusion``, of that many images, counts no pixel."""
    if not np.any(confusion):
        raise DataError(
            f"no pixel of these {images} images is labelled, so there is nothing to score: check the labels' values"
            " and the ignored one, or take more images."
        )


def check_percents(*percents: float | None) -> None:
    """Raises ValueError for a number that is not from 0 to 100; None is no number."""
    for percent in percents:
        if percent is not None and not 0 <= percent <= 100:
            raise ValueError(f"an accuracy is {percent} %")


@dataclasses.dataclass(frozen=True)
class Score:
    """Accuracy over a set of images, pooled over all their labelled pixels.

    Attributes:
      miou_percent: mean of the IoU of the classes that occur in the labels or in the masks.
      pixel_accuracy_percent: share of labelled pixels whose class is right.
      iou_percent: by class name; a class absent from both labels and masks has none.
      absent: the classes left out of the mean.
      images: how many images were scored.
      one_class: the class of every pixel of the masks, where the labels hold others too: then the score says nothing.
    """

    miou_percent: float
    pixel_accuracy_percent: float
    iou_percent: dict[str, float]
    absent: tuple[str, ...]
    images: int
    one_class: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for what is no percentage."""
        check_percents(self.miou_percent, self.pixel_accuracy_percent, *self.iou_percent.values())

    @classmethod
    def from_confusion(cls, confusion: np.ndarray, classes: tuple[str, ...], images: int) -> Score:
        """``confusion``: int64 [classes, classes], row = label, column = predicted.

        Raises DataError where no pixel is labelled: such images have no score.
        """
        check_labelled(confusion, images)
        hits = np.diag(confusion).astype(np.float64)
        union = confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
        present = union > 0
        iou = {name: 100 * hits[i] / union[i] for i, name in enumerate(classes) if present[i]}
        return cls(
            miou_percent=float(mean_iou_percent(confusion)),
            pixel_accuracy_percent=float(100 * hits.sum() / max(1, confusion.sum())),
            iou_percent={name: float(value) for name, value in iou.items()},
            absent=tuple(name for i, name in enumerate(classes) if not present[i]),
            images=images,
            one_class=None if (only := only_class(confusion)) is None else classes[only],
        )

    def to_json(self) -> dict[str, Any]:
        data = {**dataclasses.asdict(self), "absent": list(self.absent)}
        return {key: value for key, value in data.items() if key != "one_class" or value is not None}
