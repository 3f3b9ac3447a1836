"""How far the quantization-aware Keras network and the file made from it agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pipeline.core.from_json import from_json

CLOSE_STEPS = 2
DIVERGED_BELOW_PERCENT = 99.0
"""A layer diverges where fewer of its values than this are within CLOSE_STEPS."""
FEWEST_CODES, FEWEST_CLASSES = 50, 4
"""Below these the network's output is too uniform for its agreement to mean anything."""


@dataclasses.dataclass(frozen=True)
class LayerAgreement:
    """One layer's output in Keras and in the file, compared in steps of its 8-bit scale.

    Attributes:
      op: index and name of the op in the file.
      values: how many were compared.
      same_percent, close_percent: equal values, and values within CLOSE_STEPS.
      worst_at: (image, row, column, channel) of the largest difference.
      saturated_percent: values of the file with the highest code, or with the lowest where that is not 0: they were cut
        off or lie exactly there; None in a file of an earlier version.
    """

    layer: str
    op: str
    values: int
    same_percent: float
    close_percent: float
    worst_steps: int
    worst_at: tuple[int, int, int, int]
    saturated_percent: float | None = None


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Keras and the file, compared on ``images`` images.

    Attributes:
      kernels: what computed the file.
      same_class_percent: pixels on which both have the same class.
      close_percent: logits within CLOSE_STEPS of each other.
      in_training_…: the same two where the Keras network rounds in floating point, as it does in training.
      codes, classes: distinct values of the file's output, and distinct classes that it predicts.
      diverges_at: the first layer that diverges, or None.
      not_compared: (layer, reason) of the layers whose output the file does not hold.
    """

    file: str
    images: int
    kernels: str
    same_class_percent: float
    close_percent: float
    in_training_same_class_percent: float
    in_training_close_percent: float
    codes: int
    classes: int
    diverges_at: str | None
    layers: tuple[LayerAgreement, ...]
    not_compared: tuple[tuple[str, str], ...] = ()

    @property
    def is_meaningful(self) -> bool:
        return self.codes >= FEWEST_CODES and self.classes >= FEWEST_CLASSES

    def to_json(self) -> dict[str, Any]:
        data = dataclasses.asdict(self)
        return {"schema": 3, "parts": data.pop("diverges_at"), **data}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Agreement:
        """Raises TypeError and KeyError for what ``to_json`` did not write."""
        return from_json(Agreement, {"diverges_at": data["parts"], **data})
