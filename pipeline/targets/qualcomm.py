"""Qualcomm's Hexagon (HTP), compiled ahead of time by Qualcomm's QNN libraries through LiteRT's plugin.

The libraries lie in Qualcomm's own SDK package for LiteRT, where its download succeeded, and in onnxruntime-qnn.
The rules say what the real compiler does with single ops (tests/support/single_ops.py, tests/support/npu_ops.py), on
SM8650.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.compilers.litert_aot import Vendor, folder_of, installed, target_of
from pipeline.core.graph import Graph, Op
from pipeline.core.rules import Check, Rule, Rules
from pipeline.rewrites.convolutions import TRANSPOSED_AS_VALID
from pipeline.tflite.checks import ON_THE_HOST, constant, constant_axes, not_both_resize_modes, rank_at_most, sizes

PLUGIN_SDK = "2.50"
"""The QAIRT release that ai-edge-litert 2.3.0 was built with (ai-edge-litert-sdk-qualcomm 2.3.0, setup.py)."""
QNN = "onnxruntime-qnn"
QNN_VERSION = "2.6.0"
"""The release of onnxruntime-qnn that holds QAIRT 2.50."""
INSTALL = "pip install -r requirements-qualcomm.txt"
SOCS = (
    "SM8650",
    "SA8255",
    "SA8295",
    "SM8350",
    "SM8450",
    "SM8475",
    "SM8550",
    "SM8750",
    "SM8845",
    "SM8850",
)
"""ai_edge_litert/aot/vendors/qualcomm/target.py; SM8650 is the Snapdragon 8 Gen 3."""


def sdk() -> Path | None:
    """The folder of libraries in Qualcomm's SDK package, where it has any: without its download it is empty."""
    package = folder_of("ai_edge_litert_sdk_qualcomm")
    libraries = package / "data" / "lib" / "x86_64-linux-clang" if package else None
    return libraries if libraries and (libraries / "libQnnHtp.so").is_file() else None


def libraries(soc: str) -> tuple[Path, ...]:
    folder = sdk() or folder_of("onnxruntime_qnn")
    return (folder,) if folder else ()


def ready(soc: str) -> str | None:
    if sdk() or installed(QNN) == QNN_VERSION:
        return None
    other = installed(QNN)
    return f"`{INSTALL}` ({QNN} {other} is installed; LiteRT's plugin needs {QNN_VERSION})" if other else f"`{INSTALL}`"


def by() -> str:
    where = "its SDK" if sdk() else f"{QNN} {installed(QNN)}"
    return f"Qualcomm QNN {PLUGIN_SDK} ({where})"


VENDOR = Vendor(
    aliases=("snapdragon", "hexagon", "htp", "qnn"),
    manufacturer="Qualcomm",
    plugin="qualcomm",
    libraries=libraries,
    ready=ready,
    by=by,
    stand_ins={"libQnnLpai.so": "libQnnSystem.so"},  # for low-power islands; linked against, and not used for the HTP
)

SOURCE = f"QNN {PLUGIN_SDK}, its validation of ops for the HTP"
PLUGIN = "litert/vendors/qualcomm/core/builders"
BYTES = ("int8", "uint8")
DATA = (*BYTES, "int16", "float32")
SHORTER = (*BYTES, "float32")
NUMBERS = (*DATA, "int32")
ANYTHING = (*NUMBERS, "bool")


def computed_size(old: int, kernel: int, stride: int, padding: str) -> int:
    """The output size of a transposed convolution with the plugin's paddings (transpose_conv_op_builder.cc).

    The plugin computes them as for a plain convolution over the *input*, which is wrong where the input is not a
    multiple of the stride. Without paddings QNN computes the size itself.
    """
    pads = max(0, (-(-old // stride) - 1) * stride + kernel - old) if padding == "SAME" else 0
    return stride * (old - 1) + (kernel - pads if pads else max(kernel, stride))


def transposed_size(op: Op, graph: Graph) -> str | None:
    kernel, (old, new) = graph.tensors[op.inputs[1]].shape[1:3], sizes(op, graph)
    for i, name in enumerate(("height", "width")):
        computed = computed_size(old[i], kernel[i], op.options[f"stride{name[0].upper()}"], op.options["padding"])
        if computed != new[i]:
            return f"makes {name} {new[i]} from {old[i]}; the plugin's paddings make {computed}"
    return None


def no_ellipsis(op: Op, graph: Graph) -> str | None:
    return "an ellipsis mask" if op.options.get("ellipsisMask") else None


def taken(
    *checks: Check, reads: tuple[str, ...] = DATA, writes: tuple[str, ...] = (), source: str = SOURCE, remedy: str = ""
) -> Rule:
    return Rule(reads, source, checks=checks, writes=writes, remedy=remedy)


INDEX = taken(
    constant_axes,
    rank_at_most(4),
    reads=(*SHORTER, "int32"),
    writes=("int32",),
    remedy=f"an int32 index, or {ON_THE_HOST}",
)
RULES = Rules(
    ops={
        "CONV_2D": taken(reads=SHORTER),
        "DEPTHWISE_CONV_2D": taken(reads=SHORTER),
        "FULLY_CONNECTED": taken(reads=SHORTER),
        "TRANSPOSE_CONV": taken(
            transposed_size,
            reads=SHORTER,
            source=f"{PLUGIN}/transpose_conv_op_builder.cc",
            remedy="a --size that leaves a multiple of the stride at this place (each pooling halves it)",
        ),
        "ADD": taken(reads=NUMBERS),
        "SUB": taken(reads=NUMBERS),
        "MUL": taken(reads=NUMBERS),
        "DIV": taken(reads=NUMBERS),
        "MAXIMUM": taken(reads=NUMBERS),
        "MINIMUM": taken(reads=(*SHORTER, "int32")),
        "SQUARE": taken(reads=NUMBERS),
        "SUM": taken(constant_axes, reads=NUMBERS),
        "AVERAGE_POOL_2D": taken(reads=SHORTER),
        "MAX_POOL_2D": taken(),
        "MEAN": taken(constant_axes),
        "REDUCE_MAX": taken(constant_axes, reads=SHORTER),
        "RESIZE_BILINEAR": taken(not_both_resize_modes),
        "RESIZE_NEAREST_NEIGHBOR": taken(not_both_resize_modes, reads=SHORTER),
        "SOFTMAX": taken(),
        "LOG_SOFTMAX": taken(rank_at_most(4), reads=("uint8", "float32")),
        "LOGISTIC": taken(),
        "TANH": taken(rank_at_most(4)),
        "ELU": taken(rank_at_most(4)),
        "LEAKY_RELU": taken(),
        "RELU": taken(),
        "RELU6": taken(reads=(*SHORTER, "int32")),
        "RELU_N1_TO_1": taken(reads=(*SHORTER, "int32")),
        "RELU_0_TO_1": taken(reads=(*SHORTER, "int32")),
        "HARD_SWISH": taken(rank_at_most(4), reads=SHORTER),
        "PRELU": taken(reads=("int8",)),
        "ABS": taken(reads=(*SHORTER, "int32")),
        "RSQRT": taken(),
        "SQRT": taken(reads=("float32",)),
        "GELU": taken(reads=("float32",)),
        "EXP": taken(reads=("uint8", "float32")),
        "FLOOR": taken(rank_at_most(4), reads=("uint8", "float32")),
        "L2_NORMALIZATION": taken(rank_at_most(4)),
        "BATCH_MATMUL": taken(),
        "CONCATENATION": taken(reads=ANYTHING),
        "RESHAPE": taken(reads=ANYTHING),
        "SQUEEZE": taken(reads=ANYTHING),
        "TRANSPOSE": taken(constant(1), reads=ANYTHING),
        "SPLIT": taken(reads=ANYTHING),
        "SPLIT_V": taken(reads=ANYTHING),
        "PACK": taken(reads=SHORTER),
        "PAD": taken(constant(1), reads=SHORTER),
        "MIRROR_PAD": taken(reads=SHORTER),
        "SLICE": taken(constant(1, 2), reads=NUMBERS),
        "STRIDED_SLICE": taken(
            no_ellipsis, constant(1, 2, 3), reads=NUMBERS, source=f"{PLUGIN}/strided_slice_op_builder.cc"
        ),
        "GATHER": taken(reads=NUMBERS),
        "DEPTH_TO_SPACE": taken(reads=SHORTER),
        "SPACE_TO_DEPTH": taken(reads=SHORTER),
        "SPACE_TO_BATCH_ND": taken(reads=SHORTER),
        "BATCH_TO_SPACE_ND": taken(reads=SHORTER),
        "ARG_MAX": INDEX,
        "ARG_MIN": INDEX,
        "GREATER": taken(reads=DATA, writes=("bool",)),
        "CAST": taken(reads=(*NUMBERS, "int64"), writes=NUMBERS),
        "QUANTIZE": taken(writes=(*BYTES, "int16")),
        "DEQUANTIZE": taken(reads=(*DATA, "float16"), writes=("float32",)),
    },
    source="litert/vendors/qualcomm/compiler/qnn_compose_graph.cc, the ops that it builds",
    everywhere=(rank_at_most(5),),
)

QUALCOMM = target_of(VENDOR, "qualcomm", "Qualcomm Hexagon (HTP)", SOCS, SOURCE, RULES, rewrites=(TRANSPOSED_AS_VALID,))
