"""How a target's runtime partitions a graph, and which partitions it keeps."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Sequence

from pipeline.core.errors import ArtifactError
from pipeline.core.graph import Graph, Op
from pipeline.core.rules import Rules, Verdict


def partitions(graph: Graph, taken: Sequence[bool]) -> list[list[int]]:
    """The indices of taken ops in partitions, as few as the order of the data allows.

    As LiteRT partitions a graph for a delegate (PartitionGraphIntoIndependentNodeSubsets, tflite/graph_info.cc): it
    collects ops of one kind as long as any is ready, then ops of the other kind.
    """
    needs = graph.dependencies
    followers: list[list[int]] = [[] for _ in graph.ops]
    for index, before in enumerate(needs):
        for i in before:
            followers[i].append(index)
    waiting_for = [len(before) for before in needs]
    ready: dict[bool, list[int]] = {True: [], False: []}  # heaps: ready ops in the file's order

    def finish(index: int) -> None:
        for i in followers[index]:
            waiting_for[i] -= 1
            if not waiting_for[i] and i not in unpacking:
                heapq.heappush(ready[bool(taken[i])], i)

    unpacking = {op.index for op in graph.ops if taken[op.index] and unpacks(op, graph)}
    for op in graph.ops:
        if not waiting_for[op.index] and op.index not in unpacking:
            heapq.heappush(ready[bool(taken[op.index])], op.index)
    for index in unpacking:
        finish(index)
    left, pieces = len(graph.ops) - len(unpacking), list[list[int]]()
    while left:
        kind = min((heap[0], kind) for kind, heap in ready.items() if heap)[1] if any(ready.values()) else None
        if kind is None:
            raise ArtifactError("the graph's ops depend on each other in a circle: the file is broken.")
        piece = list[int]()
        while ready[kind]:
            piece.append(heapq.heappop(ready[kind]))
            finish(piece[-1])
        left -= len(piece)
        if kind:
            pieces.append(sorted(piece))
    return _with_unpacking(pieces, unpacking, needs)


def unpacks(op: Op, graph: Graph) -> bool:
    """Whether the op only unpacks constants to float weights; it then belongs to the partition that reads them."""
    return op.name == "DEQUANTIZE" and all(t.constant for t in graph.reads(op))


def _with_unpacking(pieces: list[list[int]], unpacking: set[int], needs: Sequence[frozenset[int]]) -> list[list[int]]:
    """The partitions, each with the unpacking ops that it reads first; the rest is a partition of its own."""
    left, complete = set(unpacking), []
    for piece in pieces:
        read = {i for at in piece for i in needs[at]} & left
        left -= read
        complete.append(sorted([*piece, *read]))
    return [*complete, sorted(left)] if left else complete


def kept(graph: Graph, pieces: list[list[int]], rules: Rules) -> list[list[int]]:
    """The partitions that the target accelerates."""
    if rules.partitions == "all" or not pieces:
        return pieces
    if rules.partitions == "first":
        return pieces[:1]
    if rules.partitions == "whole":
        return pieces if sum(map(len, pieces)) == len(graph.ops) else []
    return [max(pieces, key=lambda piece: sum(not unpacks(graph.ops[i], graph) for i in piece))]


def after_partitioning(graph: Graph, verdicts: tuple[Verdict, ...], rules: Rules) -> tuple[Verdict, ...]:
    """The verdicts after the target chose its partitions: ops outside them fall back."""
    pieces = partitions(graph, [v.outcome == "accelerated" for v in verdicts])
    inside = {i for piece in kept(graph, pieces, rules) for i in piece}
    reason = (
        "the target takes a graph as a whole, or not at all"
        if rules.partitions == "whole"
        else f"the target takes one partition of a graph, the {rules.partitions}; this op is in another"
    )
    return tuple(
        v
        if v.outcome != "accelerated" or v.op in inside
        else dataclasses.replace(v, outcome="falls back", reason=reason, source=rules.source)
        for v in verdicts
    )
