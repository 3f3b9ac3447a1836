"""Rewrites what a target does not take of a graph into what it takes, where both compute the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.core.graph import Graph
from pipeline.core.rewrite import AppliedRewrite, Rewrite
from pipeline.core.target import Target
from pipeline.tflite.apply_rules import apply_rules
from pipeline.tflite.edit import GraphEdit
from pipeline.tflite.read import read


def rewrite(data: bytes, target: Target, per_tensor: bool = False) -> tuple[bytes, tuple[AppliedRewrite, ...]]:
    """The file with the target's rewrites where its rules refuse an op, or are slow with it, and take what replaces it.

    One that is made ``always`` needs no refusal; its result must be taken as well.

    ``per_tensor``: whether new kernels must have one scale each. A file in which nothing is to be done comes back as it
    is.
    """
    if target.rules is None or not target.rewrites:
        return data, ()
    graph = read(data)
    refused = {v.op: v.reason for v in apply_rules(graph, target.rules) if v.outcome != "accelerated"}
    candidates = [
        (op, [one for one in target.rewrites if op.name in one.ops and (one.always or op.index in refused)])
        for op in graph.ops
    ]
    candidates = [(op, fitting) for op, fitting in candidates if fitting]
    useless: set[tuple[int, str]] = set()
    while candidates:
        edit = GraphEdit(data)
        chosen: dict[int, tuple[Rewrite, set[str]]] = {}
        for op, fitting in candidates:
            for one in fitting:
                if (op.index, one.name) in useless:
                    continue
                readers = edit.readers_of(op.outputs[0])
                ops = one.make(edit, op.index, per_tensor)
                if ops is not None:
                    edit.replace(op.index, ops)
                    chosen[op.index] = one, _written(edit, ops or [edit.op(reader) for reader in readers])
                    break
        if not chosen:
            break
        result = edit.to_bytes()
        made = read(result)
        left = {
            tensor.name
            for v in apply_rules(made, target.rules)
            if v.outcome != "accelerated"
            for tensor in made.writes(made.ops[v.op])
        }
        failed = {(index, one.name) for index, (one, written) in chosen.items() if written & left}
        if not failed:
            return result, tuple(
                AppliedRewrite(one.name, graph.ops[index].name, _output(graph, index), refused.get(index, one.always))
                for index, (one, _) in sorted(chosen.items())
            )
        useless |= failed
    return data, ()


def _written(edit: GraphEdit, ops: Iterable[Any]) -> set[str]:
    names = [edit.tensor(i).name for op in ops for i in op.outputs]
    return {name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names}


def _output(graph: Graph, index: int) -> str:
    return next(graph.writes(graph.ops[index])).name
