"""Samsung's Exynos NPUs, compiled ahead of time by AI LiteCore through LiteRT's plugin.

The plugin selects every op and then fails at the first one that it cannot build. The rules say which ops it can build.
They follow its source, and are tested against the plugin with a stand-in for the SDK
(tests/targets/test_vendor_plugins.py). The SDK itself was not available. The plugin in ai-edge-litert 2.3.0 cannot be
loaded: it lacks a symbol of FlatBuffers.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.compilers.litert_aot import NOT_HANDED_ON, Vendor, folder_of, installed, target_of
from pipeline.core.graph import TYPE_BITS, Graph, Op
from pipeline.core.rules import Check, Rule, Rules
from pipeline.tflite.checks import activation, constant, sizes

PACKAGE = "ai-edge-litert-sdk-samsung"
SOCS = ("E9965",)
"""ai_edge_litert/aot/vendors/samsung/target.py; the Exynos 2600."""


def libraries(soc: str) -> tuple[Path, ...]:
    """The folders under PACKAGE that hold shared libraries. It is not on PyPI, so its layout is unknown."""
    package = folder_of("ai_edge_litert_sdk_samsung")
    return tuple(sorted({file.parent for file in package.rglob("*.so")})) if package else ()


def ready(soc: str) -> str | None:
    if libraries(soc):
        return None
    return f"Samsung's AI LiteCore SDK as the Python package {PACKAGE}: ask Samsung, as PyPI has none"


VENDOR = Vendor(
    aliases=("exynos",),
    manufacturer="Samsung",
    plugin="samsung",
    libraries=libraries,
    ready=ready,
    by=lambda: f"Samsung AI LiteCore ({PACKAGE} {installed(PACKAGE)})",
)
SOURCE = "litert/vendors/samsung/compiler/create_model.cc"
BUILDERS = "litert/vendors/samsung/compiler/builders"
CAVEAT = "The rules are those of LiteRT's plugin for Samsung; AI LiteCore may refuse more ops"


def no_activation(op: Op, graph: Graph) -> str | None:
    """pool2d_op_builder.cc and concat_op_builder.cc drop a fused activation."""
    return f"{reason}: {NOT_HANDED_ON}" if (reason := activation("NONE")(op, graph)) else None


def transposed_size(op: Op, graph: Graph) -> str | None:
    """transpose_conv_op_builder.cc passes on the paddings, but not the output size."""
    kernel, (old, new) = graph.tensors[op.inputs[1]].shape[1:3], sizes(op, graph)
    for o, n, k, x in zip(old, new, kernel, "HW", strict=True):
        full = (o - 1) * op.options[f"stride{x}"] + k
        computed = min(full, n) if op.options["padding"] == "SAME" else full
        if computed != n:
            return f"makes {n} from {o}: {NOT_HANDED_ON}, and its paddings make {computed}"
    return None


def matrix_kernel(op: Op, graph: Graph) -> str | None:
    shape = graph.tensors[op.inputs[1]].shape
    return None if len(shape) == 2 else f"a kernel of {len(shape)} dimensions; 2 only"


def without_offset(op: Op, graph: Graph) -> str | None:
    return "offsets in place of ends" if op.options.get("offset") else None


def taken(*checks: Check, source: str = BUILDERS) -> Rule:
    return Rule(tuple(TYPE_BITS), source, checks=checks)


PLAIN = (
    "ABS ADD BATCH_MATMUL BROADCAST_TO CAST CEIL CONV_2D CONV_3D COS CUMSUM DEPTHWISE_CONV_2D DEQUANTIZE DIV"
    " EMBEDDING_LOOKUP EQUAL EXP FLOOR FLOOR_DIV GATHER GATHER_ND GELU GREATER GREATER_EQUAL HARD_SWISH"
    " L2_NORMALIZATION LEAKY_RELU LESS LOG LOGICAL_AND LOGISTIC MAXIMUM MINIMUM MUL NOT_EQUAL POW QUANTIZE RELU"
    " RELU_0_TO_1 RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 RSQRT SELECT SELECT_V2"
    " SIN SOFTMAX SPACE_TO_DEPTH SQRT SQUARED_DIFFERENCE SUB TANH"
).split()
RULES = Rules(
    ops={
        **{op: taken(source=SOURCE) for op in PLAIN},
        **{op: taken(constant(1)) for op in "MEAN SUM REDUCE_MAX REDUCE_MIN PAD MIRROR_PAD TRANSPOSE ARG_MAX".split()},
        "PADV2": taken(constant(1, 2)),
        "SLICE": taken(constant(1, 2)),
        "SPLIT": taken(constant(0)),
        "STRIDED_SLICE": taken(constant(1, 2, 3), without_offset),
        "AVERAGE_POOL_2D": taken(no_activation),
        "MAX_POOL_2D": taken(no_activation),
        "CONCATENATION": taken(no_activation),
        "FULLY_CONNECTED": taken(matrix_kernel),
        "TRANSPOSE_CONV": taken(transposed_size),
    },
    source=SOURCE,
    partitions="whole",
    caveat=CAVEAT,
)
SAMSUNG = target_of(
    VENDOR, "samsung", "Samsung Exynos NPU", SOCS, "LiteRT's plugin for Samsung, which asks its SDK", RULES
)
