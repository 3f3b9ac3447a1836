"""Android's older GPU delegate (OpenCL), which is part of TFLite. It runs on phones only, so the rules answer alone.

It takes a quantized graph as well and computes it in floats. LiteRT's own GPU accelerator: ``gpu``.
"""

from __future__ import annotations

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
    fixed_sizes,
    from_file,
    never,
    not_both_resize_modes,
    rank_at_most,
)

SOURCE = "tflite/tools/versioning/gpu_compatibility.cc"
FUSED = activation("NONE", "RELU", "RELU6", "RELU_N1_TO_1", "TANH")


def unit_beta(op: Op, graph: Graph) -> str | None:
    beta = op.options.get("beta", 1.0)
    return None if beta == 1 else f"beta {beta}; only 1"


def broadcasts(op: Op, graph: Graph) -> str | None:
    """Shapes must be equal, or one of them a single number, a vector of channels, or [1, 1, 1, channels]."""
    a, b = (
        sorted((t.shape for t in graph.reads(op)), key=lambda s: (len(s), s))[:2] if len(op.inputs) == 2 else ((), ())
    )
    if a == b or not a or not b:
        return None
    channels = max(a[-1], b[-1])
    for shape in (a, b):
        if all(n == 1 for n in shape[:-1]) and shape[-1] in (1, channels):
            return None
    plane = [n for n in zip(a, b, strict=False) if n[0] != n[1]]
    if len(a) == len(b) and all(1 in n for n in plane) and len(plane) <= 2:
        return None
    return f"broadcasts {a} with {b}"


def no_shrinking(op: Op, graph: Graph) -> str | None:
    masks = [m for m in ("shrinkAxisMask", "ellipsisMask", "newAxisMask") if op.options.get(m)]
    return f"{masks[0]} {op.options[masks[0]]}; only 0" if masks else None


def taken(*checks: Check, remedy: str = "", reads: tuple[str, ...] = (*FLOATS, *BYTES)) -> Rule:
    return Rule(reads, SOURCE, checks=checks, remedy=remedy)


GPU_DELEGATE = Target(
    name="gpu-delegate",
    title="TFLite's older Android GPU delegate, float16 weights",
    weights="float16",
    io=("float32",),
    source="LiteRT runs what its own converter writes",
    rules=Rules(
        ops={
            "CONV_2D": taken(FUSED),
            "DEPTHWISE_CONV_2D": taken(FUSED),
            "TRANSPOSE_CONV": taken(from_file(1)),
            "FULLY_CONNECTED": taken(FUSED, from_file(1)),
            "ADD": taken(FUSED, broadcasts),
            "MUL": taken(FUSED, broadcasts),
            "SUB": taken(FUSED, broadcasts),
            "MAXIMUM": taken(broadcasts),
            "MINIMUM": taken(broadcasts),
            "DIV": taken(FUSED, broadcasts),
            "AVERAGE_POOL_2D": taken(FUSED),
            "MAX_POOL_2D": taken(FUSED),
            "CONCATENATION": taken(FUSED),
            "MEAN": taken(constant_axes),
            "RESIZE_BILINEAR": taken(not_both_resize_modes),
            "RESIZE_NEAREST_NEIGHBOR": taken(),
            "SOFTMAX": taken(unit_beta),
            "LOGISTIC": taken(),
            "TANH": taken(),
            "RELU": taken(),
            "RELU6": taken(),
            "RELU_N1_TO_1": taken(),
            "HARD_SWISH": taken(),
            "ELU": taken(),
            "EXP": taken(),
            "LOG": taken(),
            "PAD": taken(constant(1)),
            "MIRROR_PAD": taken(constant(1)),
            "RESHAPE": taken(),
            "SQUEEZE": taken(),
            "TRANSPOSE": taken(constant(1)),
            "STRIDED_SLICE": taken(no_shrinking, constant(1, 2, 3)),
            "SLICE": taken(constant(1, 2)),
            "SPLIT": taken(),
            "PACK": taken(),
            "QUANTIZE": taken(),
            "DEQUANTIZE": taken(),
            "ARG_MAX": taken(never, reads=(*FLOATS, *BYTES, "int32", "int64"), remedy=ON_THE_HOST),
        },
        source=SOURCE,
        everywhere=(rank_at_most(4), fixed_sizes),
        partitions="largest",
    ),
    delegate="gpu",
)
