"""Single ops of a .tflite file as files of their own, so that a runtime can be asked of each."""

from __future__ import annotations

import copy
from collections.abc import Collection

from ai_edge_litert import schema_py_generated as schema

from pipeline.core.graph import Graph
from pipeline.tflite.partitions import unpacks
from pipeline.tflite.read import packed, unpacked_model


def excerpts(data: bytes, graph: Graph, ops: Collection[int]) -> dict[int, bytes]:
    """Op index → a file with that op, its constants, and the ops that unpack those; its other inputs are the file's."""
    model = unpacked_model(data)
    made_by = {i: op for op in graph.ops for i in op.outputs}
    found = {}
    for index in ops:
        before = {made_by[i].index for i in graph.ops[index].inputs if i in made_by and unpacks(made_by[i], graph)}
        found[index] = _cut(model, graph, [*sorted(before), index])
    return found


def _cut(model: schema.ModelT, graph: Graph, ops: list[int]) -> bytes:
    whole = model.subgraphs[0]
    made = schema.ModelT()
    made.version, made.description, made.buffers, made.operatorCodes = model.version, "excerpt", [schema.BufferT()], []
    part = schema.SubGraphT()
    part.name, part.tensors, part.operators = "main", [], []
    place: dict[int, int] = {-1: -1}
    for index in ops:
        for i in (*graph.ops[index].inputs, *graph.ops[index].outputs):
            if i not in place:
                place[i] = len(part.tensors)
                tensor = copy.copy(whole.tensors[i])
                tensor.buffer = len(made.buffers) if graph.tensors[i].constant else 0
                if tensor.buffer:
                    made.buffers.append(model.buffers[whole.tensors[i].buffer])
                part.tensors.append(tensor)
        op = copy.copy(whole.operators[index])
        op.opcodeIndex = len(made.operatorCodes)
        made.operatorCodes.append(model.operatorCodes[whole.operators[index].opcodeIndex])
        op.inputs = [place[i] for i in graph.ops[index].inputs]
        op.outputs = [place[i] for i in graph.ops[index].outputs]
        part.operators.append(op)
    inside = {i for index in ops for i in graph.ops[index].outputs}
    part.inputs = [n for i, n in place.items() if i >= 0 and i not in inside and not graph.tensors[i].constant]
    part.outputs = [place[i] for i in graph.ops[ops[-1]].outputs]
    made.subgraphs = [part]
    return packed(made, sum(graph.tensors[i].size_bytes for i in place if i >= 0))
