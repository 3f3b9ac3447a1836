"""Coral's Edge TPU. Its compiler (16.0, the last one) takes no op version newer than those below."""

from __future__ import annotations

import math

from pipeline.nouns.rules import Check, Rule, Rules
from pipeline.nouns.target import Target
from pipeline.nouns.tflite import Graph, Op
from pipeline.targets.checks import (
    BYTES,
    activation,
    axes_of,
    constant,
    data_of,
    fixed_sizes,
    not_grouped,
    same_dilation,
    sizes,
    unit_strides,
)
from pipeline.targets.edgetpu_compiler import ask, compile_edgetpu, missing
from pipeline.targets.rewrites import DILATED_AS_DENSE, TRANSPOSED_WITHOUT_ACTIVATION

TABLE = "coral.ai/docs/edgetpu/models-intro, supported operations"
VERSIONS = "edgetpu_compiler 16.0.384591198"


def mapped(newest: int, *checks: Check, source: str = TABLE, writes: tuple[str, ...] = (), remedy: str = "") -> Rule:
    return Rule(BYTES, source, newest, checks, writes, remedy)


def mean_axes(op: Op, graph: Graph) -> str | None:
    """No reduction over the batch; one over depth needs a depth that is a multiple of 4."""
    axes, shape = axes_of(op, graph), data_of(op, graph).shape
    if axes is None:
        return "axes that are computed, not constant"
    if 0 in axes:
        return "reduces over the batch"
    if len(shape) == 4 and 3 in axes and shape[3] % 4:
        return f"reduces over a depth of {shape[3]}, no multiple of 4"
    return None


def pads_no_batch(op: Op, graph: Graph) -> str | None:
    values = graph.tensors[op.inputs[1]].values
    if values is None:
        return "paddings that are computed, not constant"
    return "pads the batch" if any(values[:2]) else None


def softmax_size(op: Op, graph: Graph) -> str | None:
    shape = data_of(op, graph).shape
    if math.prod(shape[:-1]) != 1 or shape[-1] > 16_000:
        return f"softmax over {shape}; one vector of 16000 at most"
    return None


def resize_size(op: Op, graph: Graph) -> str | None:
    """The documentation names no limit; 512x512 was refused and 128x128 taken (google-coral/edgetpu issue 31)."""
    height, width = sizes(op, graph)[1]
    if height * width >= LARGE_RESIZE_PIXELS:
        return f"makes {height}x{width} pixels; {LARGE_RESIZE_PIXELS} and more were refused"
    return None


def never(op: Op, graph: Graph) -> str | None:
    return "no Edge TPU op: the CPU does it"


LARGE_RESIZE_PIXELS = 512 * 512
RESIZE_REMEDY = "give logits at a smaller size (`convert --output logits`) and enlarge the mask on the host"
RULES = Rules(
    ops={
        "ADD": mapped(2), "MUL": mapped(2), "SUB": mapped(2), "MAXIMUM": mapped(2), "MINIMUM": mapped(2),
        "LOGISTIC": mapped(2), "TANH": mapped(2), "RELU": mapped(2), "RELU6": mapped(2), "RELU_N1_TO_1": mapped(2),
        "CONV_2D": mapped(3, same_dilation, constant(1, 2), not_grouped),
        "DEPTHWISE_CONV_2D": mapped(3, same_dilation, constant(1, 2)),
        "TRANSPOSE_CONV": mapped(
            3, constant(0, 1, 3), source=VERSIONS, remedy="a transposed convolution without a fused activation"
        ),
        "FULLY_CONNECTED": mapped(4, constant(1, 2), activation("NONE", "RELU", "RELU6"), remedy="a 1x1 convolution"),
        "AVERAGE_POOL_2D": mapped(2, activation("NONE")),
        "MAX_POOL_2D": mapped(2, activation("NONE")),
        "CONCATENATION": mapped(2, activation("NONE")),
        "MEAN": mapped(2, mean_axes),
        "PAD": mapped(2, pads_no_batch),
        "QUANTIZE": mapped(2, remedy="an integer input (`--io int8`)"),
        "RESHAPE": mapped(1), "SQUEEZE": mapped(2), "PACK": mapped(2), "SPLIT": mapped(2), "SLICE": mapped(2),
        "TRANSPOSE": mapped(2),
        "RESIZE_BILINEAR": mapped(2, resize_size, remedy=RESIZE_REMEDY),
        "RESIZE_NEAREST_NEIGHBOR": mapped(2, resize_size, remedy=RESIZE_REMEDY),
        "SOFTMAX": mapped(2, softmax_size, remedy="logits in place of scores (`--output logits`)"),
        "STRIDED_SLICE": mapped(2, unit_strides),
        # Known to the compiler, but left to the CPU:
        "ARG_MAX": mapped(2, never, writes=("int32", "int64"), remedy="argmax on the host"),
        "DEQUANTIZE": mapped(2, never, writes=("float32",), remedy="an integer output (`--io int8`)"),
    },
    source=TABLE,
    everywhere=(fixed_sizes,),
    partitions="first",
    refuses_newer=True,
    cache_bytes=round(7.7 * (1 << 20)),
    cache_source="8 MiB on the chip, of which reports leave about 7.7 to parameters",
)  # fmt: skip


EDGETPU = Target(
    name="edgetpu",
    title="Coral Edge TPU",
    weights="int8",
    io=("int8", "uint8"),
    source="edgetpu_compiler 16.0.384591198; google-coral/edgetpu issues #631, #845",
    rules=RULES,
    rewrites=(TRANSPOSED_WITHOUT_ACTIVATION, DILATED_AS_DENSE),
    ask=ask,
    missing=missing,
    compile=compile_edgetpu,
    compiled_suffix="_edgetpu.tflite",
)
