"""Cuts single ops out of a .tflite file into files of their own, so that a runtime can be asked about each."""

from __future__ import annotations

import copy
from collections.abc import Collection

from ai_edge_litert import schema_py_generated as schema

from pipeline.core.graph import Graph
from pipeline.tflite.partitions import unpacks
from pipeline.tflite.read import packed, unpacked_model


def excerpts(data: bytes, graph: Graph, ops: Collection[int]) -> dict[int, bytes]:
    """Op index → a file with that op, its constants and the ops that unpack them; its other inputs are the file's."""
    model = unpacked_model(data)
    writer = {i: op for op in graph.ops for i in op.outputs}
    files = {}
    for index in ops:
        before = {writer[i].index for i in graph.ops[index].inputs if i in writer and unpacks(writer[i], graph)}
        files[index] = _cut(model, graph, [*sorted(before), index])
    return files


def _cut(model: schema.ModelT, graph: Graph, ops: list[int]) -> bytes:
    source = model.subgraphs[0]
    excerpt = schema.ModelT()
    excerpt.version, excerpt.description = model.version, "excerpt"
    excerpt.buffers, excerpt.operatorCodes = [schema.BufferT()], []
    part = schema.SubGraphT()
    part.name, part.tensors, part.operators = "main", [], []
    place: dict[int, int] = {-1: -1}
    for index in ops:
        for i in (*graph.ops[index].inputs, *graph.ops[index].outputs):
            if i not in place:
                place[i] = len(part.tensors)
                tensor = copy.copy(source.tensors[i])
                tensor.buffer = len(excerpt.buffers) if graph.tensors[i].constant else 0
                if tensor.buffer:
                    excerpt.buffers.append(model.buffers[source.tensors[i].buffer])
                part.tensors.append(tensor)
        op = copy.copy(source.operators[index])
        op.opcodeIndex = len(excerpt.operatorCodes)
        excerpt.operatorCodes.append(model.operatorCodes[source.operators[index].opcodeIndex])
        op.inputs = [place[i] for i in graph.ops[index].inputs]
        op.outputs = [place[i] for i in graph.ops[index].outputs]
        part.operators.append(op)
    inside = {i for index in ops for i in graph.ops[index].outputs}
    part.inputs = [n for i, n in place.items() if i >= 0 and i not in inside and not graph.tensors[i].constant]
    part.outputs = [place[i] for i in graph.ops[ops[-1]].outputs]
    excerpt.subgraphs = [part]
    return packed(excerpt, sum(graph.tensors[i].size_bytes for i in place if i >= 0))
