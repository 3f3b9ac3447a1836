"""The real intervals that 8-bit activations stand for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pipeline.core.errors import RunError
from pipeline.core.from_json import from_json

LARGEST = 3.4e38
"""Beyond it a float32, in which a .tflite file stores scales, is infinite."""


@dataclasses.dataclass(frozen=True)
class Range:
    """The reals [low, high] that an int8 activation covers. They include 0, which padding needs exactly."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= 0 <= self.high or not 1e-9 < self.high - self.low < LARGEST:
            raise RunError(
                f"range [{self.low}, {self.high}] cannot be quantized: it must include 0, not be empty, and fit into"
                " float32. A layer with a constant output, or weights that are not finite, cause this."
            )

    @property
    def scale(self) -> float:
        """real = scale * (q − zero_point), q in −128 … 127."""
        return (self.high - self.low) / 255

    @property
    def zero_point(self) -> int:
        return round(-128 - self.low / self.scale)

    def union(self, other: Range) -> Range:
        return Range(min(self.low, other.low), max(self.high, other.high))


Ranges = Mapping[str, Range]
"""Layer name → range of its output, for the layers whose output the quantized graph stores in 8 bits."""


def ranges_to_json(ranges: Ranges) -> dict[str, Any]:
    return {name: [r.low, r.high] for name, r in ranges.items()}


def ranges_from_json(data: object) -> dict[str, Range]:
    """Raises TypeError, ValueError and RunError for what ``ranges_to_json`` did not write."""
    if not isinstance(data, dict):
        raise TypeError(f"ranges is {type(data).__name__}, not an object")
    return {name: _range(name, pair) for name, pair in data.items()}


def _range(name: str, pair: object) -> Range:
    if not isinstance(pair, list) or len(pair) != 2:
        raise TypeError(f"the range of {name} is not two numbers")
    return from_json(Range, {"low": pair[0], "high": pair[1]}, name=f"the range of {name}")
