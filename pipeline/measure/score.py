"""Scores masks against labels, whether a Keras network or an artifact on a device made them."""

from __future__ import annotations

import contextlib
import queue
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.core.device import Runner, RunnerOptions
from pipeline.core.errors import ArtifactError
from pipeline.core.mask import Grid
from pipeline.core.preprocessing import Preprocessing
from pipeline.core.progress import track
from pipeline.core.say import Say, quiet
from pipeline.core.score import Score
from pipeline.core.spec import Resize
from pipeline.data.decoded import Decoded
from pipeline.devices import connect
from pipeline.drivers.litert_worker import cores
from pipeline.heads.full_size import mask_of
from pipeline.measure.confusion import confusions
from pipeline.measure.threads import in_threads

Infer = Callable[[np.ndarray], np.ndarray]
"""uint8 [h, w, 3] RGB image of any size → mask uint8 at that same size; may be called in several threads at once."""
ToMask = Callable[[np.ndarray, int, int], np.ndarray]
"""(a file's output, height and width of the image) → mask uint8 [height, width]."""


def masks_of(decoded: Decoded, infer: Infer, images: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
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


def score_masks(
    decoded: Decoded, infer: Infer, classes: tuple[str, ...], images: int | None = None, say: Say = quiet
) -> Score:
    """Runs ``infer`` over the first ``images`` samples (None: all) and scores its masks at the labels' resolution."""
    count = len(decoded) if images is None else min(images, len(decoded))
    return score(track(say, masks_of(decoded, infer, images), "scoring", count), classes)


def runner_infer(
    runner: Runner,
    preprocessing: Preprocessing,
    resize: Resize | None = None,
    twins: Sequence[Runner] = (),
    to_mask: ToMask | None = None,
) -> Infer:
    """Masks of an artifact on a device, with the preprocessing that the artifact was made for.

    ``resize``: the convention of the network's resizes, which decides where the samples of an output smaller than the
    image lie. Without it, such an output raises ArtifactError.
    ``to_mask``: makes the mask in place of what this program does.
    A runner takes one image at a time; ``twins`` run the same artifact on other images meanwhile.
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
        if to_mask is not None:
            return to_mask(output, *image.shape[:2])
        if grid is None and output.ndim in (3, 4) and output.shape[1:3] != (preprocessing.height, preprocessing.width):
            raise ArtifactError(
                f"the output has {output.shape[1]}x{output.shape[2]} samples for {preprocessing.height}x"
                f"{preprocessing.width} pixels: only the network's resize convention says where they lie."
            )
        # Quantized logits keep their order, so the argmax needs no dequantization.
        height, width = image.shape[:2]
        return mask_of(output, height, width, grid)

    return infer


@contextlib.contextmanager
def on_this_machine(
    file: Path, preprocessing: Preprocessing, resize: Resize | None = None, to_mask: ToMask | None = None
) -> Iterator[Infer]:
    """Masks of a .tflite file on all cores, one runner of one thread each; the rest as ``runner_infer`` has it."""
    host = connect("host")
    with contextlib.ExitStack() as opened:
        runners = [opened.enter_context(contextlib.closing(host.open(file, RunnerOptions()))) for _ in cores()]
        yield runner_infer(runners[0], preprocessing, resize, runners[1:], to_mask)


@contextlib.contextmanager
def deployed(data: bytes, preprocessing: Preprocessing) -> Iterator[Infer]:
    """``on_this_machine`` for the bytes of a file."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "candidate.tflite"
        file.write_bytes(data)
        with on_this_machine(file, preprocessing) as infer:
            yield infer
