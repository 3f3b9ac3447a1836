"""What every file is to be that ``convert_all`` makes."""

from __future__ import annotations

import dataclasses

from pipeline.core.calibration import Quantization
from pipeline.core.file_spec import Output, Stride


@dataclasses.dataclass(frozen=True)
class ConvertAllOptions:
    """What every file is to be, whatever its target.

    Attributes:
      stride: of the output; None: what suits the target, see ``spec_for``.
      quantization: how to quantize for targets of int8 files.
      require_compiled: a target fails where its compiler is missing.
    """

    output: Output = "logits"
    stride: Stride | None = None
    quantization: Quantization = dataclasses.field(default_factory=Quantization)
    rewrites: bool = True
    force: bool = False
    require_compiled: bool = False
