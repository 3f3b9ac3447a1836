"""What XNNPACK asks of single ops, and what LiteRT's own kernels ask of those that it leaves.

Some of it ends the loading of the whole file: LiteRT's delegate takes the op by its type and shape
(xnnpack_delegate.cc, Visit...Node with no subgraph), and XNNPACK then refuses to make it. Each was asked of LiteRT
2.3.0 in a file of its own (tests/support/xnnpack_ops.py).
"""

from __future__ import annotations

import math

from pipeline.core.graph import Graph, Op, Tensor
from pipeline.core.rules import Check
from pipeline.tflite.checks import BYTES, FLOATS, data_of

MOST_DIMENSIONS = 6
"""XNN_MAX_TENSOR_DIMS, xnnpack.h."""
LARGEST_REQUANTIZATION = 256
"""Data's scale times kernel's by output's: XNNPACK, src/operators/convolution-nhwc.c and its siblings."""


def _bytes(op: Op, graph: Graph) -> list[Tensor]:
    return [t for t in (*graph.reads(op), *graph.writes(op)) if t.dtype in BYTES]


def quantized(op: Op, graph: Graph) -> str | None:
    """An 8-bit activation has one scale, and a uint8 one a zero point of its own."""
    for tensor in _bytes(op, graph):
        if not tensor.constant and len(tensor.scale) != 1:
            return f"tensor {tensor.name} is {tensor.dtype} and has {len(tensor.scale) or 'no'} scales, not one"
    return None


def one_range(op: Op, graph: Graph) -> str | None:
    """8-bit data keeps its range on the way through."""
    ranges = {t.range for t in _bytes(op, graph)}
    return None if len(ranges) < 2 else "its inputs and its output have different ranges"


def one_int8_range(op: Op, graph: Graph) -> str | None:
    return one_range(op, graph) if any(t.dtype == "int8" for t in graph.writes(op)) else None


def one_uint8_range(op: Op, graph: Graph) -> str | None:
    return one_range(op, graph) if any(t.dtype == "uint8" for t in graph.writes(op)) else None


def padding_range(op: Op, graph: Graph) -> str | None:
    """PADV2: what is padded with has the range of the output."""
    value, output = graph.tensors[op.inputs[2]], graph.tensors[op.outputs[0]]
    same = value.range == output.range or output.dtype not in BYTES
    return None if same else "the value that it pads with has another range than its output"


def output_range(scale: float, zero_point: int, *dtypes: str) -> Check:
    """The output has this very range where it is of one of ``dtypes``."""

    def check(op: Op, graph: Graph) -> str | None:
        output = graph.tensors[op.outputs[0]]
        if output.dtype not in dtypes or output.range == ((scale,), (zero_point,)):
            return None
        return f"its output has the range {output.range}; scale {scale:g} and zero point {zero_point} only"

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
    """Quantized: each input's scale, or their ``product``, by the output's; ``high`` itself only with ``top``."""

    def check(op: Op, graph: Graph) -> str | None:
        output = graph.tensors[op.outputs[0]]
        scales = [t.scale[0] for t in graph.reads(op) if t.scale]
        if not output.scale or not scales:
            return None
        for scale in [math.prod(scales)] if product else scales:
            ratio = scale / output.scale[0]
            if not (low <= ratio < high or (top and ratio == high)):
                return f"scales in by scale out: {ratio:.4g}; {low:.4g} to {high:.4g} only"
        return None

    return check


def requantization(op: Op, graph: Graph) -> str | None:
    data, kernel, output = data_of(op, graph), graph.tensors[op.inputs[1]], graph.tensors[op.outputs[0]]
    if not (data.scale and kernel.scale and output.scale):
        return None
    ratio = data.scale[0] * max(kernel.scale) / output.scale[0]
    return (
        None
        if ratio < LARGEST_REQUANTIZATION
        else (f"data's scale times kernel's by output's: {ratio:.4g}; below {LARGEST_REQUANTIZATION} only")
    )


def symmetric_kernel(op: Op, graph: Graph) -> str | None:
    """An int8 kernel has zero points of 0, unless the data is in floats."""
    kernel = graph.tensors[op.inputs[1]]
    if kernel.dtype != "int8" or not any(kernel.zero_point) or "float" in data_of(op, graph).dtype:
        return None
    return f"the int8 tensor {kernel.name} has a zero point of {next(filter(None, kernel.zero_point))}; 0 only"


def kernel_of_its_type(op: Op, graph: Graph) -> str | None:
    data, kernel = data_of(op, graph), graph.tensors[op.inputs[1]]
    same = data.dtype == kernel.dtype or (data.dtype in BYTES and kernel.dtype in (*BYTES, "int4"))
    return None if same else f"data of {data.dtype} and a kernel of {kernel.dtype}; both of one type"


def product_types(op: Op, graph: Graph) -> str | None:
    """BATCH_MATMUL: floats, int8 by int8 with one scale each, or floats by int8, which XNNPACK quantizes on the way."""
    left, right = (graph.tensors[i] for i in op.inputs[:2])
    if left.dtype == "float16" and right.dtype == "int8":
        return "float16 by int8; both of one type, or float32 by int8"
    if left.dtype in BYTES and (right.dtype != left.dtype or len(right.scale) != 1):
        return f"{left.dtype} by {right.dtype} with {len(right.scale)} scales; int8 with one scale only"
    if left.dtype not in BYTES and right.dtype != left.dtype and right.dtype != "int8":
        return f"{left.dtype} by {right.dtype}; both of one type, or float32 by int8"
    rows = 2 if op.options.get("adjY") else 1
    if len(right.scale) > 1 and right.axis != len(right.shape) - rows:
        return f"scales along axis {right.axis} of {right.shape}; along its columns only"
    return None


def no_uint8(op: Op, graph: Graph) -> str | None:
    return "a product of uint8; int8 or floats only" if any(t.dtype == "uint8" for t in graph.reads(op)) else None


def two_dimensions(op: Op, graph: Graph) -> str | None:
    least = min(len(graph.tensors[i].shape) for i in op.inputs[:2])
    return None if least >= 2 else f"a factor of {least} dimensions; 2 at least"


def rank_of_4(op: Op, graph: Graph) -> str | None:
    shape = data_of(op, graph).shape
    return None if len(shape) == 4 else f"data of {len(shape)} dimensions; 4 only"


def keeps_sign(op: Op, graph: Graph) -> str | None:
    old, new = data_of(op, graph).dtype, graph.tensors[op.outputs[0]].dtype
    return None if old in ("float32", "float16", new) else f"from {old} to {new}; from floats, or within one type"


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
        return f"alpha {alpha:g}"
    if not (data.scale and output.scale):
        return None
    ratio = data.scale[0] / output.scale[0]
    if not 2**-8 <= ratio <= 2**7:
        return f"scale in by scale out: {ratio:.4g}; 0.003906 to 128 only"
    below = ratio * alpha
    if not -127.99609375 <= below <= 2**7 or abs(below) < 2**-8:
        return f"alpha times scale in by scale out: {below:.4g}; -128 to 128 only, and not within 0.0039 of 0"
    return None


def plain_slice(op: Op, graph: Graph) -> str | None:
    masks = [m for m in ("shrinkAxisMask", "ellipsisMask", "newAxisMask") if op.options.get(m)]
    return f"{masks[0]} {op.options[masks[0]]}; only 0" if masks else None


def whole_sizes(op: Op, graph: Graph) -> str | None:
    """SLICE: every size is given, none by -1."""
    sizes = graph.tensors[op.inputs[2]].values
    return None if sizes is not None and min(sizes) > 0 else f"sizes {sizes}; above 0 only"


def not_negative(op: Op, graph: Graph) -> str | None:
    paddings = graph.tensors[op.inputs[1]].values or ()
    return None if min(paddings, default=0) >= 0 else f"a padding of {min(paddings):g}"


def whole_blocks(op: Op, graph: Graph) -> str | None:
    """SPACE_TO_DEPTH: height and width are multiples of the block."""
    size, block = data_of(op, graph).shape[1:3], op.options["blockSize"]
    return None if not any(n % block for n in size) else f"{size[0]}x{size[1]} in blocks of {block}"


def int32_axes(op: Op, graph: Graph) -> str | None:
    axes = graph.tensors[op.inputs[1]]
    return None if axes.dtype == "int32" else f"axes of {axes.dtype}; int32 only"


def typed_variable(op: Op, graph: Graph) -> str | None:
    """A variable that nobody reads or writes in a type of XNNPACK's stays with LiteRT."""
    held = {
        graph.tensors[(user.outputs if user.name == "READ_VARIABLE" else user.inputs[1:])[0]].dtype
        for user in graph.readers.get(op.outputs[0], ())
        if user.name in ("READ_VARIABLE", "ASSIGN_VARIABLE")
    }
    return None if held & {*FLOATS, *BYTES} else f"a variable of {', '.join(sorted(held)) or 'no known type'}"


def has_bias(op: Op, graph: Graph) -> str | None:
    return None if len(op.inputs) > 2 and op.inputs[2] >= 0 else "no bias"


def weights_of_floats(op: Op, graph: Graph) -> str | None:
    """DEQUANTIZE unpacks half floats where they are constants."""
    data = data_of(op, graph)
    return None if data.dtype != "float16" or data.constant else "half floats that are computed"
