"""Scores masks against labels, from whatever made them: a Keras network or an artifact on a device."""

from __future__ import annotations

import collections
import contextlib
import queue
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.core.dataset import IGNORE
from pipeline.core.device import How, Runner
from pipeline.core.errors import ArtifactError
from pipeline.core.mask import Grid
from pipeline.core.preprocessing import Preprocessing
from pipeline.core.score import Score, mean_iou_percent
from pipeline.core.spec import Resize
from pipeline.data.decoded import Decoded
from pipeline.devices import connect
from pipeline.drivers.litert_worker import cores
from pipeline.heads.exact import axis as axis_of
from pipeline.heads.exact import exact_mask, nearest_mask

Infer = Callable[[np.ndarray], np.ndarray]
"""uint8 [h, w, 3] RGB image of any size → mask uint8 at that same size; may be called in several threads at once."""
Made = TypeVar("Made")


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


def in_threads(work: Callable[[int], Made], count: int) -> Iterator[Made]:
    """work(0), work(1), ... work(count − 1) in this order, worked out ahead by as many threads as there are cores.

    What ``work`` raises is raised in its place; then, or when the caller stops, what has not begun is left undone.
    """
    threads = len(cores())
    waiting: collections.deque[Future[Made]] = collections.deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for i in range(count):
                waiting.append(pool.submit(work, i))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()


def masks_of(
    decoded: Decoded, infer: Infer, images: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """(label, mask of ``infer``) of the first ``images`` samples (None: all), in order.

    Decoding, ``infer`` and what the caller does with the masks overlap: ``infer`` is called in several threads at once.
    """

    def pair(i: int) -> tuple[np.ndarray, np.ndarray]:
        image, label = decoded[i]
        return label, infer(image)

    return in_threads(pair, len(decoded) if images is None else min(images, len(decoded)))


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


def mask_of(output: np.ndarray, height: int, width: int, grid: Grid | None = None) -> np.ndarray:
    """A network's output → uint8 mask [height, width].

    An output of another size than ``grid``, the network's own pixels, is first brought to them as the network's last
    resize would: int8 logits or scores [1, h, w, classes] exactly where that is the mask's size too, others in
    floating point; an int32 mask [1, h, w] takes the nearest sample. From there to the mask, or without ``grid`` at
    once, pixels have half-pixel centres, as images have. The argmax takes the lowest index on ties.
    """
    output = output[0]
    pixels = Grid(height, width, "half_pixel")
    grids = [pixels] if grid is None or grid.size == output.shape[:2] else [grid, pixels]
    if output.ndim == 2:
        for each in grids:
            output = nearest_mask(output, each)
        return output.astype(np.uint8)
    if grids[0].size == pixels.size and output.dtype == np.int8 and output.shape[:2] != pixels.size:
        return exact_mask(output, grids[0])
    for each in grids:
        for axis, size in enumerate(each.size):
            output = _interpolate(output, axis, size, each.resize)
    return output.argmax(-1).astype(np.uint8)


def _interpolate(x: np.ndarray, axis: int, size: int, resize: Resize = "half_pixel") -> np.ndarray:
    if x.shape[axis] == size:
        return x
    place = axis_of(x.shape[axis], size, resize)
    share = (place.share / place.den).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    low, high = (np.take(x, at, axis).astype(np.float32) for at in (place.low, place.high))
    return low * (1 - share) + high * share


def runner_infer(
    runner: Runner, preprocessing: Preprocessing, resize: Resize | None = None, twins: Sequence[Runner] = ()
) -> Infer:  # fmt: skip
    """Masks of an artifact on a device, through the preprocessing that the artifact was made for.

    ``resize``: the convention of the network's resizes, which says where the samples of an output lie that is smaller
    than the image. Raises ArtifactError for such an output without it.
    A runner takes one image at a time; ``twins`` have the same artifact and take others meanwhile.
    """
    grid = Grid(preprocessing.height, preprocessing.width, resize) if resize else None
    idle: queue.SimpleQueue[Runner] = queue.SimpleQueue()
    for each in (runner, *twins):
        idle.put(each)

    def infer(image: np.ndarray) -> np.ndarray:
        tensor = preprocessing.tensor(image, runner.facts.input_dtype)  # type: ignore[arg-type]
        taken = idle.get()
        try:
            output = taken.infer(tensor)
        finally:
            idle.put(taken)
        if output.ndim not in (3, 4):
            raise ArtifactError(f"the output has shape {output.shape}: expected [1, h, w] or [1, h, w, classes].")
        if grid is None and output.shape[1:3] != (preprocessing.height, preprocessing.width):
            raise ArtifactError(
                f"the output has {output.shape[1]}x{output.shape[2]} samples for {preprocessing.height}x"
                f"{preprocessing.width} pixels: only the network's resize convention says where they lie."
            )
        # Quantized logits keep their order, so the argmax needs no dequantization.
        height, width = image.shape[:2]
        return mask_of(output, height, width, grid)

    return infer


@contextlib.contextmanager
def on_this_machine(file: Path, preprocessing: Preprocessing, resize: Resize | None = None) -> Iterator[Infer]:
    """The masks of a .tflite file on all cores: a runner of one thread for each. ``resize``: see ``runner_infer``."""
    host = connect("host")
    with contextlib.ExitStack() as opened:
        runners = [opened.enter_context(contextlib.closing(host.open(file, How()))) for _ in cores()]
        yield runner_infer(runners[0], preprocessing, resize, runners[1:])


@contextlib.contextmanager
def deployed(data: bytes, preprocessing: Preprocessing) -> Iterator[Infer]:
    """The same of a file's bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "candidate.tflite"
        file.write_bytes(data)
        with on_this_machine(file, preprocessing) as infer:
            yield infer


def agreement_percent(pairs: Iterator[tuple[np.ndarray, np.ndarray]]) -> float:
    """Share of pixels on which two masks agree, over all pairs."""
    same = total = 0
    for a, b in pairs:
        same += int((a == b).sum())
        total += a.size
    return 100 * same / max(1, total)
