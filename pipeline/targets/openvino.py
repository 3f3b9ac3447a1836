"""Intel's OpenVINO through LiteRT, compiled ahead of time for the CPU or for the NPU of a Core Ultra.

A file for the CPU runs where it was compiled. The NPU's compiler is part of Intel's SDK package for LiteRT.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.compilers.litert_aot import Vendor, folder_of, installed, target_of
from pipeline.compilers.openvino_ir import INSTALL
from pipeline.core.graph import Graph, Op
from pipeline.core.rules import Check, Rule, Rules
from pipeline.tflite.checks import BYTES, constant, from_file, not_both_resize_modes

VERSION = "2026.3.1"
"""The release that LiteRT's plugin links against (libopenvino.so.2631)."""
CPU = "CPU"
NPUS = ("LNL", "PTL")
"""Lunar Lake and Panther Lake: ai_edge_litert/aot/vendors/intel_openvino/target.py."""
NPU_COMPILER = "libopenvino_intel_npu_compiler.so"


def sdk() -> Path | None:
    """The folder of Intel's SDK package for LiteRT; None where it lacks the NPU's compiler, as without its download."""
    package = folder_of("ai_edge_litert_sdk_intel")
    libraries = package / "data" if package else None
    return libraries if libraries and (libraries / NPU_COMPILER).is_file() else None


def libraries(soc: str) -> tuple[Path, ...]:
    package = folder_of("openvino")
    return tuple(folder for folder in (sdk(), package / "libs" if package else None) if folder)


def ready(soc: str) -> str | None:
    version = installed("openvino")
    if version != VERSION:
        other = f" (openvino {version} is installed; LiteRT's plugin needs {VERSION})" if version else ""
        return f"`{INSTALL}`{other}"
    if soc in NPUS and sdk() is None:
        return "`pip install ai-edge-litert-sdk-intel`, which downloads Intel's NPU compiler while it installs"
    return None


def by() -> str:
    return f"OpenVINO {installed('openvino')}"


VENDOR = Vendor(
    manufacturer="IntelOpenVINO",
    plugin="intel_openvino",
    libraries=libraries,
    ready=ready,
    by=by,
    flags=lambda soc: (f"--intel_openvino_graph_backends={'cpu' if soc == CPU else 'npu'}",),
    soc_name=lambda soc: NPUS[0] if soc == CPU else soc,  # the tool needs a name; for the CPU any one will do
)

SOURCE = "litert/vendors/intel_openvino/compiler/openvino_compiler_plugin.cc, kSupportedOps"
ANYTHING = ("int8", "uint8", "int16", "int32", "int64", "float32", "float16", "bool")


def no_int16(op: Op, graph: Graph) -> str | None:
    """OpenVINO computes most ops in floats, which allows int16; a QUANTIZE reads the int16 values themselves."""
    return "reads int16" if any(t.dtype == "int16" for t in graph.reads(op)) else None


def no_computed_bytes(op: Op, graph: Graph) -> str | None:
    """OpenVINO has 8-bit convolutions with a computed kernel on CPUs with AMX only (asked)."""
    return from_file(1)(op, graph) if graph.tensors[op.inputs[1]].dtype in BYTES else None


def small_inputs(op: Op, graph: Graph) -> str | None:
    """The plugin leaves the whole graph where one of its inputs has six dimensions."""
    most = max((len(graph.tensors[i].shape) for i in graph.inputs), default=0)
    return None if most < 6 else f"an input of the graph has {most} dimensions; 5 at most"


def taken(*checks: Check) -> Rule:
    return Rule(ANYTHING, SOURCE, checks=checks)


PLAIN = (
    "CONV_2D DEPTHWISE_CONV_2D SPLIT FULLY_CONNECTED ADD RESHAPE MEAN CONCATENATION MAX_POOL_2D AVERAGE_POOL_2D MUL"
    " TRANSPOSE_CONV SOFTMAX MIRROR_PAD STRIDED_SLICE DEPTH_TO_SPACE GATHER BATCH_MATMUL LEAKY_RELU PACK CAST DIV"
    " CUMSUM SUB GELU GATHER_ND SUM REDUCE_MAX EMBEDDING_LOOKUP CONV_3D ARG_MAX ONE_HOT UNPACK REDUCE_ALL DEQUANTIZE"
    " LOGISTIC RELU TANH PAD TRANSPOSE SLICE RANGE BROADCAST_TO PADV2 EQUAL NOT_EQUAL EXP REVERSE_V2 MAXIMUM"
    " LOGICAL_OR EXPAND_DIMS LOG SIN POW FLOOR_DIV COS MINIMUM SQUARED_DIFFERENCE RSQRT ABS LESS SELECT SELECT_V2"
    " HARD_SWISH PRELU SQRT GREATER_EQUAL LESS_EQUAL LOGICAL_AND LOGICAL_NOT L2_NORMALIZATION GREATER RELU_0_TO_1"
    " SQUARE FLOOR_MOD SIGN TILE"
).split()
RULES = Rules(
    ops={
        **{op: taken() for op in PLAIN},
        "CONV_2D": taken(no_computed_bytes),
        "RESIZE_BILINEAR": taken(not_both_resize_modes),
        "RESIZE_NEAREST_NEIGHBOR": taken(not_both_resize_modes),
        "QUANTIZE": taken(no_int16),
        "TOPK_V2": taken(constant(1)),
    },
    source=SOURCE,
    everywhere=(small_inputs,),
)

OPENVINO = target_of(VENDOR, "openvino", "Intel OpenVINO", (CPU, *NPUS), SOURCE, RULES)
