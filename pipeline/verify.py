"""Checks a converted file against its target's contract. A violation is an error that names the op."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pipeline.nouns.errors import ContractViolation
from pipeline.nouns.ranges import Range
from pipeline.nouns.target import Target
from pipeline.nouns.tflite import Graph, Op, Tensor

FLOATS = ("float32", "float16", "bfloat16", "float64")
BORDER = ("QUANTIZE", "DEQUANTIZE")
SOFTMAX_RANGE = Range(0.0, 255 / 256)
"""The LiteRT 8-bit specification fixes SOFTMAX's output to scale 1/256, zero point −128."""


def verify(graph: Graph, target: Target, ranges: Sequence[Range]) -> None:
    """Raises ContractViolation with every point that ``graph`` breaks.

    ``ranges`` are those that were pinned into an int8 file: an activation with another one got it by accident.
    """
    broken = [*_shapes(graph), *_leftovers(graph), *_versions(graph, target)]
    if target.weights == "int8":
        broken += [*_types(graph), *_ranges(graph, ranges)]
    elif target.weights == "float16":
        broken += _float16(graph)
    if broken:
        raise ContractViolation(
            f"the converted file breaks the contract of target {target.name} and was not written: {'; '.join(broken)}."
        )


def _at(op: Op, graph: Graph) -> str:
    name = next((t.name for t in graph.writes(op)), "")
    return f"op {op.index} {op.name} ({name.split(';')[0]})"


def _shapes(graph: Graph) -> Iterator[str]:
    for tensor in graph.tensors:
        if tensor.dynamic:
            yield f"tensor {tensor.name} has a size that is not fixed {tensor.shape}"
    for index in graph.inputs:
        if graph.tensors[index].shape[:1] != (1,):
            yield f"input {graph.tensors[index].name} has batch {graph.tensors[index].shape[:1]}, not 1"


def _leftovers(graph: Graph) -> Iterator[str]:
    for op in graph.ops:
        if op.name in ("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"):
            yield f"{_at(op, graph)} is a dilated convolution that was taken apart"
        elif op.name == "MUL":
            yield f"{_at(op, graph)} is a batch norm that was not folded"
        elif op.name in ("ADD", "SUB") and any(t.constant for t in _sources(graph, op)):
            yield f"{_at(op, graph)} adds a constant: a batch norm or bias that was not folded"


def _sources(graph: Graph, op: Op) -> Iterator[Tensor]:
    """The tensors an op reads, seen through the DEQUANTIZE of a float16 constant."""
    made_by = {i: other for other in graph.ops for i in other.outputs}
    for index in op.inputs:
        maker = made_by.get(index)
        yield graph.tensors[maker.inputs[0] if maker and maker.name == "DEQUANTIZE" else index]


def _versions(graph: Graph, target: Target) -> Iterator[str]:
    for op in graph.ops if target.op_versions is not None else ():
        newest = (target.op_versions or {}).get(op.name)
        if newest is None:
            yield f"{_at(op, graph)} is not known to {target.title}"
        elif op.version > newest:
            retrain = (
                " (the network's half_pixel resize needs it: train it with --resize align_corners)"
                if op.name.startswith("RESIZE_")
                else ""
            )
            yield f"{_at(op, graph)} has version {op.version}, {target.title} takes {newest} at most{retrain}"


def _types(graph: Graph) -> Iterator[str]:
    for op in graph.ops:
        ends = set(op.inputs) & set(graph.inputs) or set(op.outputs) & set(graph.outputs)
        if op.name in BORDER:
            if not ends:
                yield f"{_at(op, graph)} changes the range inside the graph"
        elif any(t.dtype in FLOATS for t in (*graph.reads(op), *graph.writes(op))):
            yield f"{_at(op, graph)} is a float op"


def _ranges(graph: Graph, ranges: Sequence[Range]) -> Iterator[str]:
    known = [(r.scale, r.zero_point) for r in (*ranges, SOFTMAX_RANGE)]
    for op in graph.ops:
        for tensor in graph.writes(op):
            if tensor.dtype not in ("int8", "uint8"):
                continue
            if len(tensor.scale) != 1:
                yield f"{_at(op, graph)} writes {tensor.name} without a scale"
                continue
            zero_point = tensor.zero_point[0] - (128 if tensor.dtype == "uint8" else 0)
            if not any(
                math.isclose(tensor.scale[0], scale, rel_tol=1e-4) and abs(zero_point - zero) <= 1
                for scale, zero in known
            ):
                yield (
                    f"{_at(op, graph)} writes scale {tensor.scale[0]:.6g}, zero point {zero_point}, which is no"
                    " calibrated range"
                )


def _float16(graph: Graph) -> Iterator[str]:
    for tensor in graph.tensors:
        if tensor.constant and tensor.dtype == "float32" and tensor.size_bytes > 64:
            yield f"constant {tensor.name} is float32, not float16"
