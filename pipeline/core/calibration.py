"""How activation ranges are to be found."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What the user asked for.

    Attributes:
      method: name of an estimator, see calib.estimators.
      selection: name of a way to choose images, see calib.images.
      images: how many.
      folder: images without labels to choose from; None for the training split.
    """

    method: str = "min-max"
    selection: str = "random"
    images: int = 100
    folder: str | None = None


@dataclasses.dataclass(frozen=True)
class Quantization:
    """How a float network is to become an 8-bit file.

    Attributes:
      method: 'qat', 'ptq', or None for the run's QAT network where there is one.
      calibration: for post-training quantization; None for the default.
      per_tensor: one scale for each kernel instead of one per output channel.
    """

    method: str | None = None
    calibration: Calibration | None = None
    per_tensor: bool = False
