"""What a target makes of a graph: the verdict on each op, and their sums."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipeline.core.rules import Verdict


@dataclasses.dataclass(frozen=True)
class Coverage:
    """How much of a graph is accelerated.

    Attributes:
      macs: multiply-accumulates (1 MAC = one product added; ``pipeline/tflite/macs.py`` defines which ops have any).
      partitions: accelerated pieces of the graph.
      crossing_bytes: activations that pass between a partition and the rest of the graph, each counted once.
      by: who judged: 'rule', or the compiler or runtime.
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
        """None for a graph without multiply-accumulates."""
        return 100 * self.macs_accelerated / self.macs if self.macs else None


@dataclasses.dataclass(frozen=True)
class Change:
    """What would help most: that the target takes all ops of one kind that it leaves for one reason.

    Attributes:
      ops: their indices.
      ops_gained, macs_gained: how much more would then be accelerated, by the rules.
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
      real: one per op, by the target's own compiler or runtime; None where it could not be asked.
      real_note: what was asked, or why nothing was.
      parameter_bytes: constants that accelerated ops read.
      streamed_bytes: an estimate: how much of these, as the target lays them out, does not fit its cache; None where
        it has no such limit.
      largest_activation_bytes: of one tensor, unpadded, and its name.
      requantizations: QUANTIZE and DEQUANTIZE ops that lie inside the graph.
      subgraphs: how many the file has; only the first is inspected.
      estimates: what the compiler predicts (cycles, memory), under its own names and units; none of it was measured.
      notes: sizes that the file leaves open, and what was assumed for them.
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

    def __post_init__(self) -> None:
        """Raises ValueError where not each op has its verdict."""
        if any(len(verdicts) != len(self.ops) for verdicts in (self.verdicts, self.real) if verdicts is not None):
            raise ValueError("its verdicts are not one for each op")

    @property
    def disagreements(self) -> tuple[int, ...]:
        """Ops on which the rules and the real compiler disagree."""
        if self.real is None:
            return ()
        by_rule = [v.outcome == "accelerated" for v in self.verdicts]
        return tuple(v.op for v, rule in zip(self.real, by_rule, strict=True) if (v.outcome == "accelerated") != rule)

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, **dataclasses.asdict(self), "disagreements": list(self.disagreements)}
