"""Masks of images as pictures: decoded, inferred, drawn and written, several at once, however many there are."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np

from pipeline.core.errors import RunError
from pipeline.core.files import write_atomically
from pipeline.core.progress import track
from pipeline.core.say import Say
from pipeline.core.score import Score
from pipeline.data.decoded import same_size
from pipeline.measure.confusion import confusion
from pipeline.measure.threads import over
from pipeline.predict.looks import SUFFIX, Kind, Looks, draw, encoded
from pipeline.predict.segmenter import Segmenter
from pipeline.predict.source import Still, Stills
from pipeline.report.pictures import legend, text_pixels_for

LEGEND = "legend.png"
LEGEND_WIDTH = 640


@dataclasses.dataclass(frozen=True)
class Predicted:
    """What was written.

    Attributes:
      folder: where it lies, a folder for each kind of picture.
      seconds: from the first image to the last, measured here.
      score: of the masks, where the images have labels; None where no pixel is labelled.
    """

    folder: Path
    kinds: tuple[Kind, ...]
    images: int
    seconds: float
    score: Score | None = None


def predict_stills(
    stills: Stills, network: Segmenter, looks: Looks, folder: Path, say: Say, *, force: bool = False
) -> Predicted:
    """Writes ``folder/KIND/NAME`` for each image and the legend.

    Raises RunError for a picture that is there already, without ``force``, and DataError; what was written stays.
    """
    labelled = stills.classes is not None
    if stills.classes is not None and stills.classes != network.classes:
        raise RunError(
            f"{network.file} knows the classes {', '.join(network.classes)}, and the labels have"
            f" {', '.join(stills.classes)}: give images without labels, or a dataset of the same classes."
        )
    kinds = looks.of(labelled)

    def predict_still(still: Still) -> np.ndarray | None:
        image = still.image()
        label = None if still.label is None else still.label()
        if label is not None:
            same_size(still.name, image, label)
        mask = network.infer(image)
        for kind in kinds:
            picture = draw(kind, image, mask, label, network, looks)
            place(folder / kind / f"{still.name}{SUFFIX[kind]}", encoded(kind, picture), force)
        return None if label is None else confusion(label, mask, len(network.classes))

    place_legend(folder, network, force)
    began, counts = time.monotonic(), np.zeros((len(network.classes),) * 2, np.int64)
    total = len(stills.images)
    for counted in track(say, over(predict_still, stills.images), "predict", total):
        if counted is not None:
            counts += counted
    seconds = time.monotonic() - began
    score = None
    if counts.any():
        score = Score.from_confusion(counts, network.classes, total)
    elif labelled:
        say("note: no pixel of these images is labelled, so there is no score")
    return Predicted(folder, kinds, total, seconds, score)


def check_free(path: Path, force: bool) -> None:
    """Raises RunError where something is at ``path`` that must not be replaced."""
    if path.exists() and not force:
        raise RunError(f"{path} is there already: name another folder with --out, or replace it with --force.")


def place(path: Path, data: bytes, force: bool) -> None:
    check_free(path, force)
    write_atomically(path, data, sync=False)


def place_legend(folder: Path, network: Segmenter, force: bool) -> None:
    """The legend of the pictures; that of the same classes may be there already."""
    file, data = folder / LEGEND, legend_png(network)
    if not file.is_file() or file.read_bytes() != data:
        place(file, data, force)


def legend_png(network: Segmenter) -> bytes:
    return encoded("mask", legend(network.legend, LEGEND_WIDTH, text_pixels_for(LEGEND_WIDTH) + 4))
