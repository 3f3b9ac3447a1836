"""A file that an artifact is compared with."""

from __future__ import annotations

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class ComparedFile:
    """A .tflite file to compare with, from `convert` or from another program.

    Attributes:
      takes: shape of its image, as the file has it.
    """

    path: Path
    sha256: str
    target: str
    takes: tuple[int, ...] = ()
