"""Replaces ops that a target refuses by ops that it accelerates and that compute the same."""

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
    """The file with the target's rewrites, and which were made.

    A rewrite is made of an op that the target's rules refuse, and of any op where it is made ``always``. The rules must
    accelerate all that replaces the op, else the next rewrite is tried. A file without such ops is returned unchanged.

    ``per_tensor``: whether new kernels must have one scale each.
    """
    if target.rules is None or not target.rewrites:
        return data, ()
    graph = read(data)
    refused = {v.op: v.reason for v in apply_rules(graph, target.rules) if v.outcome != "accelerated"}
    candidates = [
        (op, [r for r in target.rewrites if op.name in r.ops and (r.always or op.index in refused)]) for op in graph.ops
    ]
    candidates = [(op, rewrites) for op, rewrites in candidates if rewrites]
    useless: set[tuple[int, str]] = set()
    while candidates:
        edit = GraphEdit(data)
        applied: dict[int, tuple[Rewrite, set[str]]] = {}
        for op, rewrites in candidates:
            for candidate in rewrites:
                if (op.index, candidate.name) in useless:
                    continue
                readers = edit.readers_of(op.outputs[0])
                ops = candidate.make(edit, op.index, per_tensor)
                if ops is not None:
                    edit.replace(op.index, ops)
                    applied[op.index] = candidate, _written(edit, ops or [edit.op(reader) for reader in readers])
                    break
        if not applied:
            break
        result = edit.to_bytes()
        new_graph = read(result)
        still_refused = {
            tensor.name
            for v in apply_rules(new_graph, target.rules)
            if v.outcome != "accelerated"
            for tensor in new_graph.writes(new_graph.ops[v.op])
        }
        failed = {(index, used.name) for index, (used, written) in applied.items() if written & still_refused}
        if not failed:
            return result, tuple(
                AppliedRewrite(used.name, graph.ops[index].name, _output(graph, index), refused.get(index, used.always))
                for index, (used, _) in sorted(applied.items())
            )
        useless |= failed
    return data, ()


def _written(edit: GraphEdit, ops: Iterable[Any]) -> set[str]:
    """Names of the tensors that the ops write."""
    names = [edit.tensor(i).name for op in ops for i in op.outputs]
    return {name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names}


def _output(graph: Graph, index: int) -> str:
    return next(graph.writes(graph.ops[index])).name
