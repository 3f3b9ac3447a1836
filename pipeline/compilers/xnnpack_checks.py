"""What XNNPACK requires of single ops, and what LiteRT's own kernels require of the ops that XNNPACK does not take.

Where some of these checks fail, the whole file does not load: LiteRT's delegate accepts the op by its type and shape
(xnnpack_delegate.cc, Visit...Node with no subgraph), and XNNPACK then refuses to create it. Each check was confirmed
with LiteRT 2.3.0 on a file of that single op (tests/support/xnnpack_ops.py).
"""

from __future__ import annotations

import math

from pipeline.core.graph import Graph, Op, Tensor
from pipeline.core.rules import Check
from pipeline.tflite.checks import BYTES, FLOATS, data_of

MOST_DIMENSIONS = 6
"""XNN_MAX_TENSOR_DIMS, xnnpack.h."""
LARGEST_REQUANTIZATION = 256
"""Data scale × kernel scale / output scale is below this: XNNPACK, src/operators/convolution-nhwc.c and others."""


def _bytes(op: Op, graph: Graph) -> list[Tensor]:
    return [t for t in (*graph.reads(op), *graph.writes(op)) if t.dtype in BYTES]


def quantized(op: Op, graph: Graph) -> str | None:
    """Each 8-bit activation has exactly one scale."""
    for tensor in _bytes(op, graph):
        if not tensor.constant and len(tensor.scale) != 1:
            count = len(tensor.scale) or "no"
            return f"the {tensor.dtype} tensor {tensor.name} has {count} scales; it must have exactly one"
    return None


def one_range(op: Op, graph: Graph) -> str | None:
    """8-bit inputs and outputs have the same range."""
    ranges = {t.range for t in _bytes(op, graph)}
    return None if len(ranges) < 2 else "the inputs and the output have different ranges; they must have the same"


def one_int8_range(op: Op, graph: Graph) -> str | None:
    return one_range(op, graph) if any(t.dtype == "int8" for t in graph.writes(op)) else None


def one_uint8_range(op: Op, graph: Graph) -> str | None:
    return one_range(op, graph) if any(t.dtype == "uint8" for t in graph.writes(op)) else None


def padding_range(op: Op, graph: Graph) -> str | None:
    """PADV2: the padding value has the range of the output."""
    value, output = graph.tensors[op.inputs[2]], graph.tensors[op.outputs[0]]
    same = value.range == output.range or output.dtype not in BYTES
    return None if same else "the padding value and the output have different ranges; they must have the same"


def output_range(scale: float, zero_point: int, *dtypes: str) -> Check:
    """An output of one of ``dtypes`` has exactly this scale and zero point."""

    def check(op: Op, graph: Graph) -> str | None:
        output = graph.tensors[op.outputs[0]]
        if output.dtype not in dtypes or output.range == ((scale,), (zero_point,)):
            return None
        scales, zero_points = (", ".join(f"{x:g}" for x in values) or "none" for values in output.range)
        return f"the output has scale {scales} and zero point {zero_points}; they must be {scale:g} and {zero_point}"

    return check


def inputs(least: int, most: int) -> Check:
    def check(op: Op, graph: Graph) -> str | None:
        return None if least <= len(op.inputs) <= most else f"{len(op.inputs)} inputs; {least} to {most}"

    return check


def pieces(least: int, most: int) -> Check:
    def check(op: Op, graph: Graph) -> str | None:
        return None if least <= len(op.outputs) <= most else f"{len(op.outputs)} pieces; {least} to {most}"

    return check


def ratios(low: float, high: float, product: bool = False, top: bool = False) -> Check:
    """For quantized ops: input scale / output scale, for each input or for the ``product`` of the inputs' scales.

    It is at least ``low`` and below ``high``; with ``top`` it may be ``high``.
    """

    def check(op: Op, graph: Graph) -> str | None:
        output = graph.tensors[op.outputs[0]]
        scales = [t.scale[0] for t in graph.reads(op) if t.scale]
        if not output.scale or not scales:
            return None
        name = "product of the input scales" if product else "input scale"
        for scale in [math.prod(scales)] if product else scales:
            ratio = scale / output.scale[0]
            if not (low <= ratio < high or (top and ratio == high)):
                return f"{name} / output scale is {ratio:.4g}; it must be from {low:.4g} to {high:.4g}"
        return None

    return check


def requantization(op: Op, graph: Graph) -> str | None:
    data, kernel, output = data_of(op, graph), graph.tensors[op.inputs[1]], graph.tensors[op.outputs[0]]
    if not (data.scale and kernel.scale and output.scale):
        return None
    ratio = data.scale[0] * max(kernel.scale) / output.scale[0]
    if ratio < LARGEST_REQUANTIZATION:
        return None
    return f"data scale × kernel scale / output scale is {ratio:.4g}; it must be below {LARGEST_REQUANTIZATION}"


def symmetric_kernel(op: Op, graph: Graph) -> str | None:
    """An int8 kernel has zero points of 0, unless the data is floats."""
    kernel = graph.tensors[op.inputs[1]]
    if kernel.dtype != "int8" or not any(kernel.zero_point) or "float" in data_of(op, graph).dtype:
        return None
    return f"the int8 kernel {kernel.name} has zero point {next(filter(None, kernel.zero_point))}; it must be 0"


def kernel_of_its_type(op: Op, graph: Graph) -> str | None:
    data, kernel = data_of(op, graph), graph.tensors[op.inputs[1]]
    same = data.dtype == kernel.dtype or (data.dtype in BYTES and kernel.dtype in (*BYTES, "int4"))
    return None if same else f"the data is {data.dtype} and the kernel {kernel.dtype}; they must have one type"


def product_types(op: Op, graph: Graph) -> str | None:
    """BATCH_MATMUL: floats, int8 with one scale each, or float32 times int8, whose floats XNNPACK quantizes."""
    left, right = (graph.tensors[i] for i in op.inputs[:2])
    if left.dtype == "float16" and right.dtype == "int8":
        return "float16 times int8; both must have one type, or be float32 and int8"
    if left.dtype in BYTES and (right.dtype != left.dtype or len(right.scale) != 1):
        return (
            f"{left.dtype} times {right.dtype} with {len(right.scale)} scales;"
            f" the second must be {left.dtype} with one scale"
        )
    if left.dtype not in BYTES and right.dtype != left.dtype and right.dtype != "int8":
        return f"{left.dtype} times {right.dtype}; both must have one type, or be float32 and int8"
    columns = len(right.shape) - (2 if op.options.get("adjY") else 1)
    if len(right.scale) > 1 and right.axis != columns:
        return (
            f"the scales of {right.shape} are along axis {right.axis}; they must be along axis {columns}, its columns"
        )
    return None


def no_uint8(op: Op, graph: Graph) -> str | None:
    return (
        "a product of uint8; only int8 and floats are allowed"
        if any(t.dtype == "uint8" for t in graph.reads(op))
        else None
    )


def two_dimensions(op: Op, graph: Graph) -> str | None:
    least = min(len(graph.tensors[i].shape) for i in op.inputs[:2])
    return None if least >= 2 else f"a factor with {least} dimensions; at least 2"


def rank_of_4(op: Op, graph: Graph) -> str | None:
    shape = data_of(op, graph).shape
    return None if len(shape) == 4 else f"the data has {len(shape)} dimensions; it must have 4"


def keeps_sign(op: Op, graph: Graph) -> str | None:
    old, new = data_of(op, graph).dtype, graph.tensors[op.outputs[0]].dtype
    return (
        None
        if old in ("float32", "float16", new)
        else f"quantizes {old} to {new}; it must read floats or keep the type"
    )


def unit_beta(op: Op, graph: Graph) -> str | None:
    beta = op.options.get("beta", 1.0)
    return None if beta == 1 else f"beta {beta:g}; only 1"


def pool_stride(op: Op, graph: Graph) -> str | None:
    window = op.options["filterHeight"], op.options["filterWidth"]
    strides = op.options["strideH"], op.options["strideW"]
    if all(s <= w for s, w in zip(strides, window, strict=True)):
        return None
    return f"stride {strides[0]}x{strides[1]} larger than the window {window[0]}x{window[1]}"


def leak(op: Op, graph: Graph) -> str | None:
    alpha, (data, output) = float(op.options["alpha"]), (graph.tensors[i] for i in (op.inputs[0], op.outputs[0]))
    if alpha == 0 or not math.isfinite(alpha):
        return f"alpha {alpha:g}; it must be finite and not 0"
    if not (data.scale and output.scale):
        return None
    ratio = data.scale[0] / output.scale[0]
    if not 2**-8 <= ratio <= 2**7:
        return f"input scale / output scale is {ratio:.4g}; it must be from 0.003906 to 128"
    below = ratio * alpha
    if not -127.99609375 <= below <= 2**7 or abs(below) < 2**-8:
        return (
            f"alpha × input scale / output scale is {below:.4g};"
            " it must be from -128 to 128, and at least 0.003906 away from 0"
        )
    return None


def plain_slice(op: Op, graph: Graph) -> str | None:
    masks = [m for m in ("shrinkAxisMask", "ellipsisMask", "newAxisMask") if op.options.get(m)]
    return f"{masks[0]} {op.options[masks[0]]}; only 0" if masks else None


def whole_sizes(op: Op, graph: Graph) -> str | None:
    """SLICE: every size is a constant above 0; -1, for the rest of the axis, is not allowed."""
    sizes = graph.tensors[op.inputs[2]].values
    return (
        None
        if sizes is not None and min(sizes) > 0
        else f"sizes {sizes or 'that are computed'}; they must be constants above 0"
    )


def not_negative(op: Op, graph: Graph) -> str | None:
    paddings = graph.tensors[op.inputs[1]].values or ()
    return None if min(paddings, default=0) >= 0 else f"a padding of {min(paddings):g}; it must not be negative"


def whole_blocks(op: Op, graph: Graph) -> str | None:
    """SPACE_TO_DEPTH: height and width are multiples of the block."""
    size, block = data_of(op, graph).shape[1:3], op.options["blockSize"]
    return (
        None
        if not any(n % block for n in size)
        else f"{size[0]}x{size[1]} pixels in blocks of {block}; height and width must be multiples"
    )


def int32_axes(op: Op, graph: Graph) -> str | None:
    axes = graph.tensors[op.inputs[1]]
    return None if axes.dtype == "int32" else f"axes of {axes.dtype}; int32 only"


def typed_variable(op: Op, graph: Graph) -> str | None:
    """A variable stays with LiteRT unless an op reads or writes it in a type that XNNPACK takes."""
    held = graph.variable_types.get(op.outputs[0], frozenset())
    return (
        None
        if held & {*FLOATS, *BYTES}
        else f"a variable of {', '.join(sorted(held)) or 'no known type'}; floats and 8-bit types only"
    )


def has_bias(op: Op, graph: Graph) -> str | None:
    return None if len(op.inputs) > 2 and op.inputs[2] >= 0 else "it has no bias; one is required"


def weights_of_floats(op: Op, graph: Graph) -> str | None:
    """DEQUANTIZE unpacks float16 where it is a constant."""
    data = data_of(op, graph)
    return None if data.dtype != "float16" or data.constant else "the float16 data is computed; it must be constant"
