"""What a target makes of a graph: every op's verdict and what they add up to."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipeline.core.rules import Verdict


@dataclasses.dataclass(frozen=True)
class Coverage:
    """How much of a graph is accelerated.

    Attributes:
      macs: multiply-accumulates (1 MAC = one product added; ``pipeline/tflite/macs.py`` says of which ops).
      partitions: accelerated pieces.
      crossing_bytes: activations that pass between an accelerated piece and the rest of the graph, each counted once.
      by: 'rule', or the compiler or runtime that did it.
    """

    ops: int
    ops_accelerated: int
    macs: int
    macs_accelerated: int
    partitions: int
    crossing_bytes: int
    by: str

    @property
    def macs_accelerated_percent(self) -> float | None:
        """None where there are none to accelerate."""
        return 100 * self.macs_accelerated / self.macs if self.macs else None


@dataclasses.dataclass(frozen=True)
class Change:
    """What would help most: the ops of one kind and reason, were they taken.

    Attributes:
      ops: their indices.
      ops_gained, macs_gained: accelerated beside those that are now, by the rules.
    """

    ops: tuple[int, ...]
    op_name: str
    reason: str
    remedy: str
    ops_gained: int
    macs_gained: int


@dataclasses.dataclass(frozen=True)
class Inspection:
    """One file and one target.

    Attributes:
      verdicts: one per op, by the rules.
      real: one per op, by the target's own compiler or runtime where it is on this machine; else None.
      real_note: why there is none, or what did it.
      parameter_bytes: constants that accelerated ops read.
      streamed_bytes: of those, laid out for the target, what is beyond its cache, an estimate; None where it has
        no such limit.
      largest_activation_bytes: of one tensor, unpadded, and its name.
      requantizations: QUANTIZE and DEQUANTIZE ops that lie inside the graph.
      subgraphs: how many the file has; only the first is looked at.
      estimates: what the compiler predicts (cycles, memory), its own names and units; nothing of it was measured.
      notes: what the file leaves open, and as what it was taken.
    """

    target: str
    ops: tuple[tuple[str, str], ...]
    verdicts: tuple[Verdict, ...]
    coverage: Coverage
    real: tuple[Verdict, ...] | None
    real_coverage: Coverage | None
    real_note: str
    parameter_bytes: int
    streamed_bytes: int | None
    largest_activation_bytes: int
    largest_activation: str
    requantizations: int
    estimates: dict[str, Any]
    change: Change | None
    subgraphs: int = 1
    notes: tuple[str, ...] = ()

    @property
    def disagreements(self) -> tuple[int, ...]:
        """Ops of which the rules and the real compiler say different things."""
        if self.real is None:
            return ()
        taken = [v.outcome == "accelerated" for v in self.verdicts]
        return tuple(v.op for v, rule in zip(self.real, taken, strict=True) if (v.outcome == "accelerated") != rule)

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, **dataclasses.asdict(self), "disagreements": list(self.disagreements)}
