"""Scores masks against labels, from whatever made them: a Keras network or an artifact on a device."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.data.decoded import Decoded
from pipeline.devices import connect
from pipeline.nouns.dataset import IGNORE
from pipeline.nouns.device import How, Runner
from pipeline.nouns.errors import ArtifactError
from pipeline.nouns.preprocessing import Preprocessing
from pipeline.nouns.score import Score, mean_iou_percent

Infer = Callable[[np.ndarray], np.ndarray]
"""uint8 [h, w, 3] RGB image of any size → mask uint8 at that same size."""


def confusion(label: np.ndarray, mask: np.ndarray, num_classes: int) -> np.ndarray:
    """int64 [classes, classes]: row = label, column = predicted; IGNORE in the label does not count."""
    counted = label != IGNORE
    index = label[counted].astype(np.int64) * num_classes + mask[counted]
    return np.bincount(index, minlength=num_classes**2).reshape(num_classes, num_classes)


def expected_confusion(shares: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """float64 [classes, classes] like ``confusion``: each pixel counts for every class by its probability.

    ``shares``: float [h, w, classes], summing to 1; ``mask``: uint8 [h, w].
    """
    each = shares.reshape(-1, shares.shape[-1]).astype(np.float64)
    return np.stack([np.bincount(mask.ravel(), share, len(each[0])) for share in each.T])


def believed(logits: np.ndarray, height: int, width: int, weights: Sequence[float] | None) -> np.ndarray:
    """What a network takes each pixel's class probabilities to be: float16 [height, width, classes].

    A loss that weights classes makes softmax(logits) proportional to weight · probability; dividing them out gives
    the probability itself (Elkan, The Foundations of Cost-Sensitive Learning, 2001, theorem 2, for many classes).
    """
    resized = _interpolate(_interpolate(logits[0], 0, height), 1, width)
    if weights is not None:
        resized = resized - np.log(np.asarray(weights, np.float32))
    odds = np.exp(resized - resized.max(-1, keepdims=True))
    return (odds / odds.sum(-1, keepdims=True)).astype(np.float16)


def confusions(pairs: Iterable[tuple[np.ndarray, np.ndarray]], num_classes: int) -> np.ndarray:
    """int64 [images, classes, classes]: the ``confusion`` of each (label, mask) pair."""
    return np.stack([confusion(label, mask, num_classes) for label, mask in pairs])


def masks_of(
    decoded: Decoded, infer: Infer, images: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """(label, mask of ``infer``) of the first ``images`` samples (None: all)."""
    for i in range(len(decoded) if images is None else min(images, len(decoded))):
        image, label = decoded[i]
        yield label, infer(image)


def score(pairs: Iterable[tuple[np.ndarray, np.ndarray]], classes: tuple[str, ...]) -> Score:
    """Scores (label, mask) pairs, each uint8 [h, w] of one size."""
    each = confusions(pairs, len(classes))
    return Score.from_confusion(each.sum(0), classes, len(each))


def score_masks(decoded: Decoded, infer: Infer, classes: tuple[str, ...], images: int | None = None) -> Score:
    """Runs ``infer`` over the first ``images`` samples (None: all) and scores its masks at the labels' resolution."""
    return score(masks_of(decoded, infer, images), classes)


def gain(before: np.ndarray, after: np.ndarray, resamples: int = 2000) -> tuple[float, float]:
    """(points of mIoU that ``after`` has more than ``before``, the standard error of that difference).

    Both are ``confusions`` of the same images in the same order. The error is a paired bootstrap over images (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993): each resample draws as many images, with replacement, for both.
    """
    drawn = np.random.default_rng(0).integers(0, len(before), (resamples, len(before)))
    times = np.stack([np.bincount(row, minlength=len(before)) for row in drawn])
    first, second = (mean_iou_percent(np.tensordot(times, each, 1)) for each in (before, after))
    return float(mean_iou_percent(after.sum(0)) - mean_iou_percent(before.sum(0))), float(np.std(second - first))


def mask_of(output: np.ndarray, height: int, width: int) -> np.ndarray:
    """A network's output → uint8 mask [height, width].

    Logits or scores [1, h, w, classes] of another size are interpolated bilinearly (half-pixel centres) before the
    argmax, lowest index on ties; an int32 mask [1, h, w] takes the nearest pixel.
    """
    output = output[0]
    if output.ndim == 2:
        rows, columns = (
            ((np.arange(n) + 0.5) * m / n).astype(int) for n, m in ((height, output.shape[0]), (width, output.shape[1]))
        )
        return output[rows][:, columns].astype(np.uint8)
    for axis, size in ((0, height), (1, width)):
        output = _interpolate(output, axis, size)
    return output.argmax(-1).astype(np.uint8)


def _interpolate(x: np.ndarray, axis: int, size: int) -> np.ndarray:
    old = x.shape[axis]
    if old == size:
        return x
    place = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
    low = place.astype(int)
    high = np.minimum(low + 1, old - 1)
    share = (place - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return np.take(x, low, axis).astype(np.float32) * (1 - share) + np.take(x, high, axis).astype(np.float32) * share


def runner_infer(runner: Runner, preprocessing: Preprocessing) -> Infer:
    """Masks of an artifact on a device, through the preprocessing that the artifact was made for."""

    def infer(image: np.ndarray) -> np.ndarray:
        output = runner.infer(preprocessing.tensor(image, runner.facts.input_dtype))  # type: ignore[arg-type]
        if output.ndim not in (3, 4):
            raise ArtifactError(f"the output has shape {output.shape}: expected [1, h, w] or [1, h, w, classes].")
        # Quantized logits keep their order, so the argmax needs no dequantization.
        return mask_of(output, *image.shape[:2])

    return infer


@contextlib.contextmanager
def deployed(data: bytes, preprocessing: Preprocessing, threads: int = 2) -> Iterator[Infer]:
    """The masks of a .tflite file on this machine."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "candidate.tflite"
        file.write_bytes(data)
        runner = connect("host").open(file, How(threads))
        try:
            yield runner_infer(runner, preprocessing)
        finally:
            runner.close()


def agreement_percent(pairs: Iterator[tuple[np.ndarray, np.ndarray]]) -> float:
    """Share of pixels on which two masks agree, over all pairs."""
    same = total = 0
    for a, b in pairs:
        same += int((a == b).sum())
        total += a.size
    return 100 * same / max(1, total)
