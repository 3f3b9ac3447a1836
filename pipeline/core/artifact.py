"""A file that can be shipped, with the recipe it was made by."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A .tflite file in a run, and its recipe: inside it as metadata and beside it as JSON.

    Attributes:
      compiled: the vendor compiler's result made from it, if there is one.
    """

    path: Path
    recipe: dict[str, Any]
    sha256: str
    compiled: Path | None = None


def output_of(recipe: dict[str, Any]) -> tuple[Any, Any]:
    """'logits', 'scores' or 'mask', and how many pixels along each axis there are for one of its samples."""
    return recipe["output"], recipe.get("output_stride", 1)
