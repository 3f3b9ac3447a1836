"""The images of a measurement one by one: what each scored, and the few that are kept as pictures.

Which image is the median is known at the end only, so the masks of all stay in memory, small and compressed.
"""

from __future__ import annotations

import dataclasses
import io
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from pipeline.core.files import sha256, write_atomically
from pipeline.core.measurement import ImageScore, ShownImage
from pipeline.core.run import Run
from pipeline.core.score import iou_percent, mean_iou_percent
from pipeline.data.images import palette
from pipeline.measure.evaluation import EvaluationSet
from pipeline.report.pictures import indexed

LONGEST_SIDE = 640
"""Pixels of a kept picture: sharp on a phone and in half a page."""
JPEG_QUALITY = 85
FOLDER = "pictures"
"""In the run's measurements/. A picture is called after its content, so that repeated measurements share it."""


@dataclasses.dataclass(frozen=True)
class _Seen:
    """An image that was scored.

    Attributes:
      labelled: pixels of each class in the label, int64 [classes].
      parent_percent, percent: mIoU; None where nothing is labelled.
      iou: of the artifact, float64 [classes], in percent; NaN for a class that the label does not have.
      masks: the parent's and the artifact's, packed.
    """

    labelled: np.ndarray
    parent_percent: float | None
    percent: float | None
    agreement_percent: float
    iou: np.ndarray
    masks: tuple[_Packed, _Packed]


@dataclasses.dataclass(frozen=True)
class _Packed:
    """A mask at the size in which it is shown."""

    size: tuple[int, int]
    data: bytes

    @classmethod
    def of(cls, mask: np.ndarray) -> _Packed:
        small = smaller(mask)
        return cls(small.shape[:2], zlib.compress(small.tobytes(), 1))

    @property
    def mask(self) -> np.ndarray:
        return np.frombuffer(zlib.decompress(self.data), np.uint8).reshape(self.size)


def smaller(mask: np.ndarray) -> np.ndarray:
    """A mask or label, uint8 [h, w], with a longest side of LONGEST_SIDE at most: the nearest samples."""
    height, width = mask.shape
    shown = _shown_size(height, width)
    if shown == (height, width):
        return np.ascontiguousarray(mask)
    rows, columns = (((np.arange(n) + 0.5) * of / n).astype(int) for n, of in zip(shown, mask.shape, strict=True))
    return np.ascontiguousarray(mask[np.ix_(rows, columns)])


def _shown_size(height: int, width: int) -> tuple[int, int]:
    factor = min(1.0, LONGEST_SIDE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


class Album:
    """The images that were scored, in order."""

    def __init__(self) -> None:
        self._seen: list[_Seen] = []

    def add(
        self, parent_mask: np.ndarray, mask: np.ndarray, parent_confusion: np.ndarray, confusion: np.ndarray
    ) -> None:
        """Masks uint8 [h, w] of one size, confusions int64 [classes, classes]."""
        labelled = confusion.sum(1)
        scored = bool(labelled.any())
        self._seen.append(
            _Seen(
                labelled=labelled,
                parent_percent=float(mean_iou_percent(parent_confusion)) if scored else None,
                percent=float(mean_iou_percent(confusion)) if scored else None,
                agreement_percent=100 * float((parent_mask == mask).mean()),
                iou=np.where(labelled > 0, iou_percent(confusion), np.nan),
                masks=(_Packed.of(parent_mask), _Packed.of(mask)),
            )
        )

    def scores(self, names: Sequence[str]) -> tuple[ImageScore, ...]:
        return tuple(
            ImageScore(name, seen.parent_percent, seen.percent, seen.agreement_percent)
            for name, seen in zip(names, self._seen, strict=True)
        )

    def chosen(self, classes: Sequence[str]) -> dict[int, list[str]]:
        """Index of each image that is kept, and the reasons; empty where nothing is labelled."""
        scored = [i for i, seen in enumerate(self._seen) if seen.percent is not None]
        if not scored:
            return {}
        by_score = sorted(scored, key=lambda i: self._seen[i].percent or 0.0)
        drop = max(scored, key=lambda i: (self._seen[i].parent_percent or 0.0) - (self._seen[i].percent or 0.0))
        reasons = [("best", by_score[-1]), ("median", by_score[len(by_score) // 2]), ("worst", by_score[0])]
        reasons.append(("largest drop", drop))
        for index, name in enumerate(classes):
            having = [i for i in scored if self._seen[i].labelled[index]]
            if having:  # of those with the lowest IoU, the one with the most pixels of the class
                worst = min(having, key=lambda i: (self._seen[i].iou[index], -self._seen[i].labelled[index]))
                reasons.append((f"worst {name}", worst))
        chosen: dict[int, list[str]] = {}
        for reason, i in reasons:
            chosen.setdefault(i, []).append(reason)
        return chosen

    def keep(self, evaluation: EvaluationSet, run: Run) -> tuple[ShownImage, ...]:
        """Writes the pictures into the run; raises DataError for an image that cannot be read again."""
        names, colours = evaluation.names, run.config.colours or palette(len(evaluation.classes))

        def masked(mask: np.ndarray) -> str:
            file = io.BytesIO()
            indexed(mask, colours).save(file, "PNG", optimize=True)
            return _kept(run, file.getvalue(), ".png")

        kept = []
        for i, reasons in self.chosen(evaluation.classes).items():
            image, label = evaluation.decoded[i]
            height, width = _shown_size(*label.shape)
            file = io.BytesIO()
            Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR).save(
                file, "JPEG", quality=JPEG_QUALITY, optimize=True
            )
            parent, ours = self._seen[i].masks
            kept.append(
                ShownImage(
                    reasons=tuple(reasons),
                    score=self.scores(names)[i],
                    image=_kept(run, file.getvalue(), ".jpg"),
                    label=masked(smaller(label)),
                    parent_mask=masked(parent.mask),
                    mask=masked(ours.mask),
                )
            )
        return tuple(kept)


def _kept(run: Run, data: bytes, suffix: str) -> str:
    path = run.measurements / FOLDER / f"{sha256(data)[:16]}{suffix}"
    if not path.is_file() or path.read_bytes() != data:  # one that a crash of the machine cut off
        write_atomically(path, data, sync=False)
    return path.relative_to(run.path).as_posix()
