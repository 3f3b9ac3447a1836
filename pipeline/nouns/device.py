"""Where an artifact runs and how it is timed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np


class Runner(Protocol):
    """One artifact loaded on a device. Close it when done."""

    def infer(self, image: np.ndarray) -> np.ndarray:
        """The network's input [1, h, w, 3] → its output as it is stored (quantized outputs stay integers)."""
        ...

    def time_ms(self, runs: int) -> np.ndarray:
        """Milliseconds of each of ``runs`` inferences on the last input, float64 [runs]."""
        ...

    @property
    def facts(self) -> RunnerFacts: ...

    def peak_memory_bytes(self) -> int: ...

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class RunnerFacts:
    """What the runtime says of the loaded artifact.

    Attributes:
      input_dtype, output_dtype: 'uint8', 'int8', 'float32', 'int32'.
      output_scale, output_zero_point: real = scale * (q − zero_point); 0 and 0 where the output is not quantized.
    """

    input_dtype: str
    output_dtype: str
    output_scale: float
    output_zero_point: int
    init_ms: float


@dataclasses.dataclass(frozen=True)
class Device:
    """A registered kind of device.

    Attributes:
      rank: of two attached devices the one with the higher rank is the better.
      find: () → what is attached, in words, or None.
      describe: () → facts about the machine for the measurement.
      open: (artifact, threads) → Runner; raises ArtifactError for a file that the runtime refuses.
    """

    name: str
    title: str
    rank: int
    find: Callable[[], str | None]
    describe: Callable[[], dict[str, Any]]
    open: Callable[[Path, int], Runner]
