"""Android's Neural Networks API: what each feature level takes, from 27 (Android 8.1) to 31 (Android 12)."""

from __future__ import annotations

from pipeline.core.graph import Graph, Op
from pipeline.core.rules import Check, Rule, Rules
from pipeline.core.target import Target
from pipeline.rewrites.padding import PADDING_FOLDED
from pipeline.rewrites.pools import POOL_AS_DEPTHWISE, POOL_AS_MEAN
from pipeline.tflite.checks import (
    ON_THE_HOST,
    activation,
    constant,
    factor,
    fixed_sizes,
    not_both_resize_modes,
    not_grouped,
    rank_at_most,
    window_at_most,
)

SOURCE = "tflite/delegates/nnapi/nnapi_delegate.cc, Validate"
ANDROID = {27: "8.1", 28: "9", 29: "10", 30: "11", 31: "12"}
INTEGERS = ("int8", "uint8")
INT8_SINCE = 29
"""Feature level of int8 activations and per-channel kernels; below it the delegate takes uint8 and float32 graphs."""


def from_level(needed: int, level: int, what: str) -> Check:
    def check(op: Op, graph: Graph) -> str | None:
        return None if level >= needed else f"{what} needs feature level {needed} (Android {ANDROID[needed]})"

    return check


def int8_since(needed: int, level: int) -> Check:
    """int8 data needs feature level ``needed``."""

    def check(op: Op, graph: Graph) -> str | None:
        signed = any(t.dtype == "int8" and not t.constant for t in (*graph.reads(op), *graph.writes(op)))
        return from_level(needed, level, "int8")(op, graph) if signed else None

    return check


def resize_flags(level: int) -> Check:
    def check(op: Op, graph: Graph) -> str | None:
        flags = [name for name in ("alignCorners", "halfPixelCenters") if op.options.get(name)]
        return from_level(30, level, f"a resize with {flags[0]}")(op, graph) if flags else None

    return check


def quantized_window(op: Op, graph: Graph) -> str | None:
    """Vendors' fixed-point sums overflow beyond 256 values. The delegate checks this unless an accelerator is named."""
    data = graph.tensors[op.inputs[0]]
    return window_at_most(256)(op, graph) if data.dtype in INTEGERS else None


def to_int8(level: int) -> Check:
    def check(op: Op, graph: Graph) -> str | None:
        output = graph.tensors[op.outputs[0]]
        return from_level(30, level, "quantizing to int8")(op, graph) if output.dtype == "int8" else None

    return check


def from_int8(level: int) -> Check:
    def check(op: Op, graph: Graph) -> str | None:
        read = graph.tensors[op.inputs[0]]
        if read.dtype != "int8":
            return None
        return from_level(30 if any(read.zero_point) else 29, level, "dequantizing int8")(op, graph)

    return check


def index_output(op: Op, graph: Graph) -> str | None:
    dtype = graph.tensors[op.outputs[0]].dtype
    return None if dtype == "int32" else f"gives {dtype}; int32 only"


def constant_size(op: Op, graph: Graph) -> str | None:
    return constant(1)(op, graph) or (None if min(factor(op, graph)) > 0 else "a size of 0")


def rules(level: int) -> Rules:
    data = ("float32", *INTEGERS)

    def op(
        since: int,
        *checks: Check,
        int8: int = INT8_SINCE,
        reads: tuple[str, ...] = data,
        writes: tuple[str, ...] = (),
        remedy: str = "",
    ) -> Rule:
        every = (from_level(since, level, "this op"), int8_since(int8, level), *checks)
        return Rule(reads, SOURCE, checks=every, writes=writes, remedy=remedy)

    older = "a newer feature level (`--level`), or the GPU target"
    return Rules(
        ops={
            "CONV_2D": op(27, constant(1, 2), not_grouped),
            "DEPTHWISE_CONV_2D": op(27, constant(1, 2)),
            "TRANSPOSE_CONV": op(29, constant(0, 1, 3)),
            "FULLY_CONNECTED": op(27, constant(1, 2)),
            "ADD": op(27, rank_at_most(4)),
            "MUL": op(27, rank_at_most(4)),
            "SUB": op(28, rank_at_most(4)),
            "CONCATENATION": op(27, activation("NONE")),
            "AVERAGE_POOL_2D": op(27, quantized_window, remedy="a MEAN, or pool windows of at most 256 pixels"),
            "MAX_POOL_2D": op(27),
            "MEAN": op(28, constant(1)),
            "RESIZE_BILINEAR": op(27, constant_size, not_both_resize_modes, resize_flags(level), remedy=older),
            "RESIZE_NEAREST_NEIGHBOR": op(29, constant_size, resize_flags(level), remedy=older),
            "SOFTMAX": op(27),
            "LOGISTIC": op(27),
            "TANH": op(27),
            "RELU": op(27),
            "RELU6": op(27),
            "RELU_N1_TO_1": op(27),
            "HARD_SWISH": op(29),
            "ARG_MAX": op(29, index_output, writes=("int32", "int64"), remedy=ON_THE_HOST),
            "PAD": op(28, constant(1)),
            "PADV2": op(29, constant(1, 2)),
            "RESHAPE": op(27, rank_at_most(4)),
            "SQUEEZE": op(28, rank_at_most(4)),
            "TRANSPOSE": op(28, constant(1)),
            "STRIDED_SLICE": op(28, constant(1, 2, 3)),
            "SLICE": op(29, constant(1, 2)),
            "QUANTIZE": op(
                29, to_int8(level), int8=27, reads=("float32",), writes=INTEGERS, remedy="an int8 input (`--io int8`)"
            ),
            "DEQUANTIZE": op(27, from_int8(level), int8=27, reads=INTEGERS, writes=("float32",)),
        },
        source=SOURCE,
        everywhere=(fixed_sizes,),
    )


LEVELS = {level: rules(level) for level in ANDROID}
NNAPI = Target(
    name="nnapi",
    title="NNAPI, Android 8.1 to 14",
    aliases=("phone", "android"),
    weights="int8",
    io=("int8", "uint8", "float32"),
    source=SOURCE,
    rules=LEVELS[30],
    rewrites=(PADDING_FOLDED, POOL_AS_MEAN, POOL_AS_DEPTHWISE),
    levels=LEVELS,
    delegate="nnapi",
    advice=(
        "NNAPI is deprecated since Android 15: for new devices use --target gpu, or the chip vendor's own compiler."
    ),
)
