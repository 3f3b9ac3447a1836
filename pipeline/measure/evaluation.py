"""The images that a measurement scores, and the masks that a file on a device predicts of them."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.core.device import Runner
from pipeline.core.files import open_regular, write_atomically
from pipeline.core.mask import Grid
from pipeline.core.preprocessing import Preprocessing
from pipeline.core.progress import progress
from pipeline.core.run import Run
from pipeline.core.say import Say, quiet
from pipeline.data import dataset_to_score
from pipeline.data.decoded import Decoded
from pipeline.data.record import contents, read_record
from pipeline.heads.full_size import mask_of

CHUNK = 32
"""Images whose masks are in memory at once, at most."""
CHUNK_SECONDS = 2.0
"""Progress is seen this often."""
HEADER_BYTES = 4096
"""A kept prediction has fewer besides its mask."""

Labelled = tuple[np.ndarray, np.ndarray]
"""An image uint8 [h, w, 3] and its label uint8 [h, w]."""


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
    """The labelled images that a measurement scores, and how a network of the run sees them.

    Attributes:
      count: the first so many of ``decoded`` are scored.
      grid: the pixels that an output stands for, whatever its size.
      skipped: images of the split that the run leaves out because they cannot be used.
      sha256: of the names and files of the images that are scored.
    """

    decoded: Decoded
    count: int
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    grid: Grid
    skipped: tuple[str, ...] = ()
    sha256: str = ""

    @classmethod
    def of(cls, run: Run, split: str, images: int | None) -> EvaluationSet:
        """The first ``images`` of the split; None: all. Raises DataError."""
        dataset = dataset_to_score(run, split)
        decoded = Decoded(dataset.splits[split])
        count = len(decoded) if images is None else min(images, len(decoded))
        grid = Grid(run.preprocessing.height, run.preprocessing.width, run.config.model.resize)
        skipped = tuple(dataset.skipped.get(split, ()))
        digest = contents(decoded.samples[:count], read_record(run).splits.get(split, {}))
        return cls(decoded, count, dataset.classes, run.preprocessing, grid, skipped, digest)

    @property
    def counted(self) -> str:
        """'98 of 100' images of the split; '100' if all are scored."""
        total = len(self.decoded) + len(self.skipped)
        return str(self.count) if self.count == total else f"{self.count} of {total}"

    @property
    def names(self) -> list[str]:
        """Of the images that are scored, in order."""
        return [sample.name for sample in self.decoded.samples[: self.count]]

    def chunks(self, say: Say = quiet) -> Iterator[list[Labelled]]:
        """All images in order, some at a time: one at first, so that the time left is soon known."""
        start, size = 0, 1
        with progress(say, "scoring", self.count) as advance:
            while start < self.count:
                began, end = time.monotonic(), min(start + size, self.count)
                yield [self.decoded[i] for i in range(start, end)]
                advance(end - start)
                each = (time.monotonic() - began) / (end - start)
                size = max(1, min(CHUNK, 2 * size, int(CHUNK_SECONDS / max(each, 1e-6))))
                start = end

    def tensor(self, image: np.ndarray, runner: Runner) -> np.ndarray:
        """What the runner's file takes for an image uint8 [h, w, 3]."""
        return self.preprocessing.tensor(image, runner.facts.input_dtype)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A file's answer to one image.

    Attributes:
      mask: uint8, at the image's size.
      output_sha256: of the output's bytes, to tell whether two devices gave the same.
    """

    mask: np.ndarray
    output_sha256: str


def predict(
    runner: Runner, samples: Sequence[Labelled], evaluation: EvaluationSet, cache: Path | None = None
) -> list[Prediction]:
    """The predictions of the samples' images, in order; those that the folder ``cache`` holds are not run again.

    A file there that is broken, or is of another image, is made again.
    """
    images = [image for image, _ in samples]
    files = [cache and cache / f"{hashlib.sha256(image.tobytes()).hexdigest()[:16]}.npz" for image in images]
    kept = {i: _read(file, images[i].shape[:2], len(evaluation.classes)) for i, file in enumerate(files) if file}
    predictions = {i: prediction for i, prediction in kept.items() if prediction is not None}
    missing = [i for i in range(len(images)) if i not in predictions]
    outputs = runner.infer_many(evaluation.tensor(images[i], runner) for i in missing)
    for i, output in zip(missing, outputs, strict=True):
        predictions[i] = _prediction(output, images[i], evaluation.grid)
        if file := files[i]:
            _write(file, predictions[i])
    return [predictions[i] for i in range(len(images))]


def _prediction(output: np.ndarray, image: np.ndarray, grid: Grid) -> Prediction:
    height, width = image.shape[:2]
    return Prediction(mask_of(output, height, width, grid), hashlib.sha256(output.tobytes()).hexdigest())


def _read(file: Path, size: tuple[int, ...], num_classes: int) -> Prediction | None:
    """What ``_write`` wrote, of an image of that size; None where there is no such file, or it holds anything else."""
    most_bytes = math.prod(size) + HEADER_BYTES
    try:
        with open_regular(file, 2 * most_bytes) as opened:
            with zipfile.ZipFile(opened) as archive:
                if any(member.file_size > most_bytes for member in archive.infolist()):
                    return None
            opened.seek(0)
            with np.load(opened, allow_pickle=False) as arrays:
                mask, output = arrays["mask"], str(arrays["output"])
    except Exception:  # of the file system, of zip and zlib, of NumPy: what is broken raises any of a dozen
        return None
    if mask.dtype != np.uint8 or mask.shape != size or mask.max(initial=0) >= num_classes:
        return None
    return Prediction(mask, output)


def _write(file: Path, prediction: Prediction) -> None:
    packed = io.BytesIO()
    np.savez_compressed(packed, mask=prediction.mask, output=prediction.output_sha256)
    write_atomically(file, packed.getvalue())
