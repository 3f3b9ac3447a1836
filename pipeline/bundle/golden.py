"""What a right program gives: an image, the file's output for it, and the mask."""

from __future__ import annotations

import contextlib
import dataclasses
import io

import numpy as np
from PIL import Image

from pipeline.core.artifact import Artifact
from pipeline.core.device import RunnerOptions
from pipeline.core.mask import Grid
from pipeline.core.preprocessing import Preprocessing
from pipeline.devices import connect
from pipeline.heads.full_size import mask_of
from pipeline.report.pictures import indexed

TOLERANCE = 1e-3
"""Of a float output, relative to its largest value: what runtimes may differ by in the order of their sums."""
LEAST_EQUAL_PIXELS = 0.999
"""Of the mask of a float file."""


@dataclasses.dataclass(frozen=True)
class Golden:
    """Made with LiteRT on this machine.

    Attributes:
      image: uint8 [h, w, 3] RGB of any size.
      output: of the file, as it gives it.
      mask: uint8 [h, w] of class ids, as `predict` makes it.
    """

    image: np.ndarray
    output: np.ndarray
    mask: np.ndarray

    @property
    def tolerance(self) -> float:
        """Largest difference that a float output may have; 0 for integers."""
        return TOLERANCE * float(np.abs(self.output).max()) if self.output.dtype == np.float32 else 0.0

    def files(self, colours: tuple[tuple[int, int, int], ...]) -> dict[str, bytes]:
        """By their names; PPM and PGM are what C reads without a library."""
        height, width = self.mask.shape
        size = f"{width} {height}\n255\n".encode()
        return {
            "image.png": _png(Image.fromarray(self.image)),
            "image.ppm": b"P6\n" + size + self.image.tobytes(),
            "output.bin": self.output.tobytes(),
            "mask.png": _png(indexed(self.mask, colours)),
            "mask.pgm": b"P5\n" + size + self.mask.tobytes(),
        }


def golden(artifact: Artifact, image: np.ndarray) -> Golden:
    """Runs the file on this machine's CPU; raises ArtifactError and DeviceError."""
    model = artifact.recipe.known_origin.model
    preprocessing = Preprocessing(model.height, model.width)
    with contextlib.closing(connect("host").open(artifact.path, RunnerOptions())) as runner:
        output = runner.infer(preprocessing.tensor(image, artifact.recipe.file.io))
    height, width = image.shape[:2]
    return Golden(image, output, mask_of(output, height, width, Grid(model.height, model.width, model.resize)))


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
