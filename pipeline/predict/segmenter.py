"""A .tflite file of ours as something that makes masks: all it takes travels inside the file."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pipeline.core.artifact import Artifact
from pipeline.core.errors import ArtifactError
from pipeline.core.preprocessing import Preprocessing
from pipeline.data.images import palette
from pipeline.measure.score import Infer, on_this_machine
from pipeline.predict.mediapipe import MediaPipePreprocessing, mediapipe_mask
from pipeline.tflite.metadata import refusal
from pipeline.tflite.read import read_file

Like = Literal["mediapipe"]
"""Another program, whose masks are made in its way."""


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
def segmenter(artifact: Artifact, like: Like | None = None) -> Iterator[Segmenter]:
    """The file, loaded once for each core; ``like``: as another program makes masks of it.

    Raises ArtifactError for a file without an origin, or one that the other program does not read; DeviceError.
    """
    origin = artifact.recipe.known_origin
    height, width = origin.model.height, origin.model.width
    preprocessing, to_mask = Preprocessing(height, width), None
    _, graph = read_file(artifact.path)
    shape = graph.output_tensor.shape
    if artifact.recipe.file.output != "mask" and shape[3:] != (len(origin.classes),):
        raise ArtifactError(
            f"{artifact.path} gives {list(shape)}, and its recipe has {len(origin.classes)} classes: convert the"
            " network again."
        )
    if like == "mediapipe":
        if why := refusal(graph, artifact.recipe):
            raise ArtifactError(f"MediaPipe's ImageSegmenter cannot use {artifact.path}: {why}.")
        preprocessing, to_mask = MediaPipePreprocessing(height, width), mediapipe_mask(graph.output_tensor)
    colours = origin.colours or palette(len(origin.classes))
    with on_this_machine(artifact.path, preprocessing, origin.model.resize, to_mask) as infer:
        yield Segmenter(artifact.path, infer, origin.classes, colours)
