"""A .tflite file of ours as something that makes masks: all it takes travels inside the file."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.artifact import Artifact
from pipeline.core.preprocessing import Preprocessing
from pipeline.data.images import palette
from pipeline.measure.score import Infer, on_this_machine


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """Makes masks on this machine.

    Attributes:
      infer: uint8 [h, w, 3] RGB of any size → mask uint8 of that size; several threads may call it at once.
      classes: names, in the order of the ids.
      colours: RGB of each class.
    """

    file: Path
    infer: Infer
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]

    @property
    def legend(self) -> tuple[tuple[str, tuple[int, int, int]], ...]:
        return tuple(zip(self.classes, self.colours, strict=True))


@contextlib.contextmanager
def segmenter(artifact: Artifact) -> Iterator[Segmenter]:
    """The file, loaded once for each core; raises ArtifactError for one without an origin, and DeviceError."""
    origin = artifact.recipe.known_origin
    preprocessing = Preprocessing(origin.model.height, origin.model.width)
    colours = origin.colours or palette(len(origin.classes))
    with on_this_machine(artifact.path, preprocessing, origin.model.resize) as infer:
        yield Segmenter(artifact.path, infer, origin.classes, colours)
