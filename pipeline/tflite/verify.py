"""Checks a converted file against its target's contract. The error for a violation names the op."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pipeline.core.errors import ContractViolation
from pipeline.core.graph import Graph, Op, Tensor
from pipeline.core.ranges import Range
from pipeline.core.target import Target
from pipeline.tflite.read import WEIGHTED

FLOATS = ("float32", "float16", "bfloat16", "float64")
BORDER = ("QUANTIZE", "DEQUANTIZE")
SOFTMAX_RANGE = Range(0.0, 255 / 256)
"""The LiteRT 8-bit specification fixes SOFTMAX's output to scale 1/256, zero point −128."""


PRESERVING = (
    "AVERAGE_POOL_2D",
    "MAX_POOL_2D",
    "CONCATENATION",
    "PAD",
    "RESHAPE",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    "SLICE",
    "STRIDED_SLICE",
    "TRANSPOSE",
    "GATHER",
    "SPLIT",
    "SQUEEZE",
)
FIXED = {
    "SOFTMAX": (1 / 256, -128),
    "LOGISTIC": (1 / 256, -128),
    "LOG_SOFTMAX": (16 / 256, 127),
    "TANH": (1 / 128, 0),
    "L2_NORMALIZATION": (1 / 128, 0),
}
"""Op → scale and zero point of its int8 output. This, PRESERVING and WEIGHTED are from the LiteRT 8-bit quantization
specification, ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec; TRANSPOSE_CONV is as the
converter writes it."""


def verify(graph: Graph, target: Target, ranges: Sequence[Range], per_tensor: bool = False) -> None:
    """Raises ContractViolation that lists every violation in ``graph``.

    ``ranges``: the calibrated ranges of an int8 file; no activation may have another.
    ``per_tensor``: whether its kernels must have one scale each.
    """
    violations = [*_shapes(graph), *_leftovers(graph), *_versions(graph, target)]
    if target.weights == "int8":
        violations += [*_types(graph), *_ranges(graph, ranges), *specification(graph), *_granularity(graph, per_tensor)]
    elif target.weights == "float16":
        violations += _float16(graph)
    if violations:
        raise ContractViolation(
            f"the converted file breaks the contract of target {target.name} and was not written:"
            f" {'; '.join(violations)}."
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
            yield f"{_at(op, graph)} is a dilated convolution that was split into several ops"
        elif op.name == "MUL":
            yield f"{_at(op, graph)} is a batch norm that was not folded"
        elif op.name in ("ADD", "SUB") and any(t.constant for t in _sources(graph, op)):
            yield f"{_at(op, graph)} adds a constant: a batch norm or bias that was not folded"


def _sources(graph: Graph, op: Op) -> Iterator[Tensor]:
    """The tensors that an op reads; for a float16 constant behind a DEQUANTIZE, the constant itself."""
    writer = {i: other for other in graph.ops for i in other.outputs}
    for index in op.inputs:
        before = writer.get(index)
        yield graph.tensors[before.inputs[0] if before and before.name == "DEQUANTIZE" else index]


def _versions(graph: Graph, target: Target) -> Iterator[str]:
    """Ops that would end the target's compilation in place of falling back."""
    rules = target.rules
    if rules is None or not rules.refuses_newer:
        return
    for op in graph.ops:
        rule = rules.ops.get(op.name)
        if rule is None:
            yield f"{_at(op, graph)} is an op that {target.title} does not know"
        elif rule.max_version is not None and op.version > rule.max_version:
            yield f"{_at(op, graph)} has version {op.version}, but {target.title} takes {rule.max_version} at most"


def _types(graph: Graph) -> Iterator[str]:
    for op in graph.ops:
        if op.name in BORDER:
            if not graph.at_border(op):
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
                    f"{_at(op, graph)} writes scale {tensor.scale[0]:.6g}, zero point {zero_point}, which is not a"
                    " calibrated range"
                )


def specification(graph: Graph) -> Iterator[str]:
    """Violations of the LiteRT 8-bit specification in an int8 graph."""
    for op in graph.ops:
        outputs = list(graph.writes(op))
        if op.name in WEIGHTED:
            yield from _weights(graph, op)
        elif op.name in PRESERVING:
            ranges = {(t.scale, t.zero_point) for t in (*graph.reads(op), *outputs) if t.dtype == "int8"}
            if len(ranges) > 1:
                yield f"{_at(op, graph)} must write the same range that it reads"
        elif op.name in FIXED and outputs[0].dtype == "int8":
            scale, zero_point = FIXED[op.name]
            if not (
                outputs[0].scale and math.isclose(outputs[0].scale[0], scale) and outputs[0].zero_point[0] == zero_point
            ):
                yield f"{_at(op, graph)} must write scale {scale:.6g}, zero point {zero_point}"


def _weights(graph: Graph, op: Op) -> Iterator[str]:
    """Kernels: symmetric int8, −127 … 127, per tensor or output channel; biases: int32 at the product's scale."""
    data_at, kernel_at, bias_at, axis = WEIGHTED[op.name]
    data, kernel = graph.tensors[op.inputs[data_at]], graph.tensors[op.inputs[kernel_at]]
    if kernel.dtype != "int8" or data.dtype != "int8":
        yield f"{_at(op, graph)} multiplies {data.dtype} by {kernel.dtype}, not int8 by int8"
        return
    if any(kernel.zero_point):
        yield f"{_at(op, graph)} has a kernel whose zero point is not 0"
    if kernel.lowest == -128:
        yield f"{_at(op, graph)} has a kernel with the value -128, which is outside -127 to 127"
    if len(kernel.scale) not in (1, kernel.shape[axis]) or (len(kernel.scale) > 1 and kernel.axis != axis):
        yield f"{_at(op, graph)} has {len(kernel.scale)} kernel scales on axis {kernel.axis}, not one per channel"
    if len(data.scale) != 1:
        yield f"{_at(op, graph)} reads data with {len(data.scale)} scales"
    if len(op.inputs) <= bias_at or op.inputs[bias_at] < 0:
        return
    bias = graph.tensors[op.inputs[bias_at]]
    expected = [data.scale[0] * s for s in kernel.scale] if data.scale else []
    if bias.dtype != "int32" or any(bias.zero_point):
        yield f"{_at(op, graph)} has a bias of {bias.dtype}, zero point {bias.zero_point[:1]}, not int32 with 0"
    elif len(bias.scale) != len(expected) or not all(
        math.isclose(a, b, rel_tol=1e-4) for a, b in zip(bias.scale, expected, strict=True)
    ):
        yield f"{_at(op, graph)} has a bias whose scale is not the data's times the kernel's"


def _granularity(graph: Graph, per_tensor: bool) -> Iterator[str]:
    for op in graph.ops:
        if op.name in WEIGHTED:
            kernel = graph.tensors[op.inputs[WEIGHTED[op.name][1]]]
            expected = 1 if per_tensor else kernel.shape[WEIGHTED[op.name][3]]
            if kernel.dtype == "int8" and len(kernel.scale) != expected:
                yield f"{_at(op, graph)} has {len(kernel.scale)} kernel scales, not {expected}"


def _float16(graph: Graph) -> Iterator[str]:
    for tensor in graph.tensors:
        if tensor.constant and tensor.dtype == "float32" and tensor.size_bytes > 64:
            yield f"constant {tensor.name} is float32, not float16"
