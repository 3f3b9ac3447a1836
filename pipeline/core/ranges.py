"""The real intervals that 8-bit activations stand for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pipeline.core.errors import RunError


@dataclasses.dataclass(frozen=True)
class Range:
    """The reals [low, high] that an int8 activation covers. They include 0, which padding needs exactly."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= 0 <= self.high or not self.high - self.low > 1e-9:
            raise RunError(
                f"range [{self.low}, {self.high}] cannot be quantized: it must include 0 and not be empty. A layer with"
                " a constant output, or weights that are not finite, cause this."
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


def ranges_from_json(data: dict[str, Any]) -> dict[str, Range]:
    return {name: Range(low, high) for name, (low, high) in data.items()}
