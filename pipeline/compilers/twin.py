"""Which ops of a graph a compiler took: those that are no longer in the file that it wrote."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.core.graph import Graph
from pipeline.core.rules import Verdict


def verdicts_of_twin(graph: Graph, twin: Graph, why: Mapping[int, str], by: str) -> tuple[Verdict, ...]:
    """One verdict per op of ``graph``: an op that stays on the CPU is in its compiled twin and writes the same tensor.

    A custom op that ``graph`` had already does not count as the compiler's.
    ``why``: op index → the compiler's reason, where it gave one.
    """
    own_custom_ops = {op.name for op in graph.ops if op.custom}
    on_cpu = {t.name for op in twin.ops if not op.custom or op.name in own_custom_ops for t in twin.writes(op)}
    return tuple(
        Verdict(op.index, "falls back", why.get(op.index) or "left to the CPU", by, by)
        if any(t.name in on_cpu for t in graph.writes(op))
        else Verdict(op.index, "accelerated", "", by, by)
        for op in graph.ops
    )
