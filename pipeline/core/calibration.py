"""How activation ranges are found: what a user asked for, and what was done."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipeline.core.errors import BadSpec
from pipeline.core.from_json import from_json
from pipeline.core.number import whole
from pipeline.core.pool import HERE, Pool


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How the user wants ranges to be found.

    Attributes:
      method: name of an estimator, see calib.estimators.
      selection: name of a way to choose images, see calib.images.
      images: how many to calibrate on.
      folder: images without labels to choose from; None for the training split.
    """

    method: str = "min-max"
    selection: str = "random"
    images: int = 100
    folder: str | None = None

    def __post_init__(self) -> None:
        whole("the number of images to calibrate on", self.images, 1)


METHODS = ("qat", "ptq", None)


@dataclasses.dataclass(frozen=True)
class Quantization:
    """How the user wants a float network to become an 8-bit file.

    Attributes:
      method: 'qat', 'ptq', or None for the run's QAT network where there is one.
      calibration: for post-training quantization; None for the default.
      per_tensor: one scale for each kernel instead of one per output channel.
      pool: where the images are calibrated on; the ranges are the same anywhere.
    """

    method: str | None = None
    calibration: Calibration | None = None
    per_tensor: bool = False
    pool: Pool = HERE

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise BadSpec(f"method is {self.method!r}: choose 'qat', 'ptq', or None for QAT where there is one.")


@dataclasses.dataclass(frozen=True)
class CalibrationRecord:
    """How ranges were found.

    Attributes:
      method, selection: see ``Calibration``; None in files of earlier versions, which do not record them.
      split: of the dataset; None for the images of a folder.
      images: names of the images, in order.
      images_sha256: of these names, joined by newlines.
    """

    method: str | None
    selection: str | None
    split: str | None
    images: tuple[str, ...]
    images_sha256: str

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "images": list(self.images)}

    @staticmethod
    def from_json(data: Any) -> CalibrationRecord:
        """Raises TypeError, ValueError and KeyError for data that ``to_json`` did not write."""
        values = {**UNRECORDED, **data} if isinstance(data, dict) else data
        return from_json(CalibrationRecord, values, True, "calibration")


UNRECORDED = {"method": None, "selection": None, "split": None}
"""Keys that files of earlier versions have not."""
