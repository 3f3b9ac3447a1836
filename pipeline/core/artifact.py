"""A file that can be shipped, with the recipe that it was made by."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pipeline.core.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A .tflite file in a run, and its recipe: inside it as metadata and beside it as JSON.

    Attributes:
      compiled: what the vendor's compiler made from it; None where it was not compiled.
    """

    path: Path
    recipe: Recipe
    sha256: str
    compiled: Path | None = None
