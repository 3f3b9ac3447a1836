"""GPUs through LiteRT's own accelerator (CompiledModel: WebGPU over Vulkan, Metal or Direct3D).

It computes in floats, in float16 where the GPU has it, so the weights are float16 and the graph comes from the float
network. It takes a quantized graph as well and computes it in floats. Android's older delegate: ``gpu_delegate``.
"""

from __future__ import annotations

from pipeline.compilers.gpu_accelerator import ask_with, missing
from pipeline.core.graph import Graph, Op
from pipeline.core.rules import Check, Rule, Rules
from pipeline.core.target import Target
from pipeline.tflite.checks import (
    BYTES,
    FLOATS,
    ON_THE_HOST,
    activation,
    constant,
    constant_axes,
    data_of,
    fixed_sizes,
    not_both_resize_modes,
    rank_at_most,
)
from pipeline.tflite.partitions import unpacks

SOURCE = "LiteRT 2.3.0's GPU accelerator, asked op by op"
FUSED = activation("NONE", "RELU", "RELU6", "RELU_N1_TO_1", "TANH")
NUMBERS = (*FLOATS, *BYTES, "int32")
TRUTH = ("bool",)
LANES = 4


def known_bias(op: Op, graph: Graph) -> str | None:
    """A computed bias crashes the process, because the accelerator expects a constant."""
    bias = op.inputs[2] if len(op.inputs) > 2 else -1
    return None if bias < 0 or bias in graph.unpacked_constants else constant(2)(op, graph)


def keeps_stride(op: Op, graph: Graph) -> str | None:
    """It turns an int8 1x1 convolution into a fully connected op and drops the stride, with no more than a warning."""
    kernel, strides = graph.tensors[op.inputs[1]], [op.options.get(f"stride{x}", 1) for x in "HW"]
    if kernel.dtype not in BYTES or kernel.shape[1:3] != (1, 1) or max(strides) == 1:
        return None
    return f"an 8-bit 1x1 convolution with stride {strides[0]}x{strides[1]}: taken, and computed wrongly"


def pads_no_batch(op: Op, graph: Graph) -> str | None:
    values = graph.tensors[op.inputs[1]].values
    return "pads the batch: taken, and computed wrongly" if values is None or any(values[:2]) else None


def unit_beta(op: Op, graph: Graph) -> str | None:
    beta = op.options.get("beta", 1.0)
    return None if beta == 1 else f"beta {beta}; only 1"


def plain_slice(op: Op, graph: Graph) -> str | None:
    masks = [m for m in ("shrinkAxisMask", "ellipsisMask", "newAxisMask") if op.options.get(m)]
    if masks:
        return f"{masks[0]} {op.options[masks[0]]}; only 0"
    steps = graph.tensors[op.inputs[3]].values
    return None if steps is not None and min(steps) > 0 else "a slice that runs backwards"


def index_type(op: Op, graph: Graph) -> str | None:
    dtype = graph.tensors[op.outputs[0]].dtype
    return None if dtype == "int32" else f"gives {dtype}; int32 only"


def whole_lanes(op: Op, graph: Graph) -> str | None:
    """Four channels are read at once; behind the last one are zeros, and ARG_MAX and REVERSE_V2 take them for data."""
    shape, axes = data_of(op, graph).shape, graph.tensors[op.inputs[1]].values or ()
    if len(shape) - 1 not in [int(a) % len(shape) for a in axes] or shape[-1] % LANES == 0:
        return None
    return f"works along {shape[-1]} channels, no multiple of {LANES}: taken, and computed wrongly"


def one_row_of_indices(op: Op, graph: Graph) -> str | None:
    indices = graph.tensors[op.inputs[1]]
    return None if len(indices.shape) == 1 else f"indices of {len(indices.shape)} dimensions; 1 only"


def packed_floats(op: Op, graph: Graph) -> str | None:
    """Half floats are weights: constants that the accelerator unpacks itself."""
    return None if data_of(op, graph).dtype in BYTES or unpacks(op, graph) else "float16 values that are not constant"


def taken(
    *checks: Check,
    max_version: int | None = None,
    reads: tuple[str, ...] = ("float32", *BYTES),
    writes: tuple[str, ...] = (),
    remedy: str = "",
) -> Rule:
    return Rule(reads, SOURCE, max_version, checks, writes, remedy)


UNARY = (
    "ABS CEIL COS ELU EXP FLOOR GELU HARD_SWISH LEAKY_RELU LOG NEG PRELU RELU_N1_TO_1 ROUND SIGN SIN SQRT SQUARE TANH"
).split()
BINARY = "DIV MAXIMUM MINIMUM POW SQUARED_DIFFERENCE FLOOR_DIV FLOOR_MOD".split()
COMPARED = "LESS LESS_EQUAL GREATER GREATER_EQUAL EQUAL NOT_EQUAL".split()
FLOAT_NETWORK = "float16 weights, this target's own artifact, in place of an 8-bit graph"
LOGITS = "logits in place of scores (`--output logits`)"
RULES = Rules(
    ops={
        **{name: taken() for name in UNARY},
        **{name: taken(FUSED, reads=NUMBERS) for name in BINARY},
        **{name: taken(max_version=2, reads=NUMBERS, writes=TRUTH) for name in COMPARED},
        "LOGICAL_AND": taken(reads=TRUTH),
        "LOGICAL_OR": taken(reads=TRUTH),
        "LOGICAL_NOT": taken(reads=TRUTH),
        "RELU": taken(max_version=2),
        "RELU6": taken(max_version=2),
        "LOGISTIC": taken(max_version=2),
        "RSQRT": taken(max_version=2),
        "CONV_2D": taken(FUSED, known_bias, keeps_stride, max_version=6, remedy=FLOAT_NETWORK),
        "DEPTHWISE_CONV_2D": taken(FUSED, known_bias, max_version=6),
        "TRANSPOSE_CONV": taken(
            constant(0), max_version=3, remedy="a transposed convolution without a fused activation"
        ),
        "FULLY_CONNECTED": taken(FUSED),
        "BATCH_MATMUL": taken(),
        "ADD": taken(FUSED, reads=NUMBERS),
        "MUL": taken(FUSED, reads=NUMBERS),
        "SUB": taken(FUSED, max_version=2, reads=NUMBERS),
        "AVERAGE_POOL_2D": taken(FUSED, max_version=2),
        "MAX_POOL_2D": taken(FUSED, max_version=2),
        "MEAN": taken(constant_axes),
        "SUM": taken(constant_axes),
        "REDUCE_MAX": taken(constant_axes),
        "CUMSUM": taken(constant(1)),
        "CONCATENATION": taken(activation("NONE"), max_version=6),
        "RESIZE_BILINEAR": taken(not_both_resize_modes, constant(1), max_version=3),
        "RESIZE_NEAREST_NEIGHBOR": taken(not_both_resize_modes, constant(1), max_version=3),
        "SOFTMAX": taken(unit_beta, max_version=2, remedy=LOGITS),
        "ARG_MAX": taken(
            index_type,
            constant(1),
            whole_lanes,
            writes=("int32", "int64"),
            remedy=f"the mask that `convert --target gpu --output mask` makes, or {ON_THE_HOST}",
        ),
        "PAD": taken(constant(1), pads_no_batch, max_version=5),
        "PADV2": taken(constant(1, 2), pads_no_batch, max_version=5),
        "MIRROR_PAD": taken(constant(1), pads_no_batch),
        "RESHAPE": taken(constant(1), reads=NUMBERS),
        "TRANSPOSE": taken(constant(1)),
        "STRIDED_SLICE": taken(constant(1, 2, 3), plain_slice, max_version=2),
        "SLICE": taken(constant(1, 2)),
        "SPLIT": taken(constant(0)),
        "SPLIT_V": taken(constant(1, 2)),
        "PACK": taken(),
        "TILE": taken(constant(1)),
        "REVERSE_V2": taken(constant(1), whole_lanes),
        "SPACE_TO_DEPTH": taken(),
        "DEPTH_TO_SPACE": taken(),
        "GATHER": taken(one_row_of_indices, constant(1), reads=("float32", *BYTES, "int32")),
        "SELECT": taken(reads=(*FLOATS, *TRUTH), max_version=1),
        "SELECT_V2": taken(reads=(*FLOATS, *TRUTH)),
        "CAST": taken(reads=("float32", "int32", "uint8", "int8", "bool")),
        "QUANTIZE": taken(max_version=2),
        "DEQUANTIZE": taken(packed_floats, max_version=3, reads=(*FLOATS, *BYTES)),
    },
    source=SOURCE,
    everywhere=(rank_at_most(4), fixed_sizes),
    partitions="largest",
)

GPU = Target(
    name="gpu",
    title="GPU, LiteRT's accelerator, float16 weights",
    aliases=("phone", "android", "ios", "iphone", "pixel"),
    weights="float16",
    other_weights=("int8", "float32"),
    io=("float32",),
    source="LiteRT runs what its own converter writes",
    rules=RULES,
    ask=ask_with(RULES),
    missing=missing,
    delegate="gpu",
    argmax_lanes=LANES,
)
