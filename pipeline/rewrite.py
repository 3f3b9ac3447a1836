"""Rewrites what a target does not take of a graph into what it takes, where both compute the same."""

from __future__ import annotations

from pipeline.inspect import by_rule
from pipeline.nouns.graph_edit import GraphEdit
from pipeline.nouns.rewrite import Applied, Rewrite, name_for
from pipeline.nouns.target import Target
from pipeline.nouns.tflite import Graph, Op, read


def rewrite(data: bytes, target: Target, per_tensor: bool = False) -> tuple[bytes, tuple[Applied, ...]]:
    """The file with the target's rewrites where its rules refuse an op, or are slow with it, and take what replaces it.

    ``per_tensor``: whether new kernels must have one scale each. A file in which nothing is to be done comes back as it
    is.
    """
    if target.rules is None or not target.rewrites:
        return data, ()
    graph = read(data)
    refused = {v.op: v.reason for v in by_rule(graph, target.rules) if v.outcome != "accelerated"}
    useless: set[tuple[int, str]] = set()
    while True:
        edit = GraphEdit(data)
        chosen: dict[int, Rewrite] = {}
        for index in range(len(graph.ops)):
            for one in target.rewrites:
                wanted = index in refused or one.faster
                if not wanted or graph.ops[index].name not in one.ops or (index, one.name) in useless:
                    continue
                ops = one.make(edit, index, per_tensor)
                if ops is not None:
                    edit.replace(index, ops)
                    chosen[index] = one
                    break
        if not chosen:
            return data, ()
        result = edit.finished()
        made = read(result)
        left = {
            name for v in by_rule(made, target.rules) if v.outcome != "accelerated"
            for name in _written(made, made.ops[v.op])
        }  # fmt: skip
        failed = {
            (index, one.name) for index, one in chosen.items()
            if any(_belongs(name, _output(graph, index), one.name) for name in left)
        }  # fmt: skip
        if not failed:
            return result, tuple(
                Applied(one.name, graph.ops[index].name, _output(graph, index), refused.get(index, one.faster))
                for index, one in sorted(chosen.items())
            )
        useless |= failed


def _written(graph: Graph, op: Op) -> list[str]:
    return [tensor.name for tensor in graph.writes(op)]


def _output(graph: Graph, index: int) -> str:
    return _written(graph, graph.ops[index])[0]


def _belongs(name: str, output: str, rewrite_name: str) -> bool:
    return name == output or name.startswith(name_for(output, rewrite_name))
