"""MediaTek's APUs, compiled ahead of time by NeuroPilot through LiteRT's plugin.

The rules say what the plugin passes to NeuroPilot. They follow its source, and are tested against the plugin with a
stand-in for the SDK (tests/targets/test_vendor_plugins.py). NeuroPilot itself was not available.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.compilers.litert_aot import NOT_HANDED_ON, Vendor, folder_of, installed, target_of
from pipeline.core.graph import Graph, Op
from pipeline.core.rules import Check, Rule, Rules
from pipeline.rewrites.convolutions import TRANSPOSED_WITHOUT_ACTIVATION
from pipeline.tflite.checks import ON_THE_HOST, activation, never

PACKAGE = "ai-edge-litert-sdk-mediatek"
SOCS = (
    "MT6989",
    "MT6853",
    "MT6877",
    "MT6878",
    "MT6879",
    "MT6886",
    "MT6893",
    "MT6895",
    "MT6897",
    "MT6983",
    "MT6985",
    "MT6991",
    "MT6993",
    "MT8171",
    "MT8188",
    "MT8189",
)
"""ai_edge_litert/aot/vendors/mediatek/target.py; MT6989 is the Dimensity 9300."""
NEWEST = ("MT6993",)
"""Systems on chip that need version 9 of NeuroPilot: map_soc_to_np_version in the same file."""


def libraries(soc: str) -> tuple[Path, ...]:
    """The folder into which PACKAGE downloads the SDK (its path_to_sdk_libs)."""
    package = folder_of("ai_edge_litert_sdk_mediatek")
    if package is None:
        return ()
    folder = package / "data" / ("v9_0_3" if soc in NEWEST else "v8_0_10") / "host" / "lib"
    return (folder,) if folder.is_dir() else ()


def ready(soc: str) -> str | None:
    return None if libraries(soc) else f"`pip install {PACKAGE}`, which downloads MediaTek's NeuroPilot"


VENDOR = Vendor(
    aliases=("dimensity", "neuropilot"),
    manufacturer="MediaTek",
    plugin="mediatek",
    libraries=libraries,
    ready=ready,
    by=lambda: f"MediaTek NeuroPilot ({PACKAGE} {installed(PACKAGE)})",
    soc_name=str.lower,
    flags=lambda soc: ("--mediatek_sdk_version_type=version9",) if soc in NEWEST else (),
)
SOURCE = "litert/vendors/mediatek/compiler/compiler_plugin.cc, kSupportedOps"
LEGALIZATIONS = "litert/vendors/mediatek/compiler/legalizations"
CAVEAT = "The rules are those of LiteRT's plugin for MediaTek; NeuroPilot may refuse more ops"
NUMBERS = ("int8", "uint8", "int16", "uint16", "int32", "float32", "float16", "bool")
QUANTIZED = ("int8", "int16", "uint16")
"""Types that the plugin takes only with a scale (neuron_utils.cc, GetNeuronTensorType)."""


def with_scale(op: Op, graph: Graph) -> str | None:
    for tensor in (*graph.reads(op), *graph.writes(op)):
        if tensor.dtype in QUANTIZED and not tensor.scale:
            return f"tensor {tensor.name} is {tensor.dtype} without a scale"
        if tensor.dtype in ("int16", "uint16") and len(tensor.scale) > 1:
            return f"tensor {tensor.name} is {tensor.dtype} with a scale per channel"
        if tensor.dtype not in NUMBERS and not (tensor.constant and tensor.dtype in ("int64", "int4")):
            return f"tensor {tensor.name} is {tensor.dtype}"
    return None


def plain_slice(op: Op, graph: Graph) -> str | None:
    """strided_slice_op_legalization.cc passes on three of the five masks."""
    masks = [m for m in ("ellipsisMask", "newAxisMask") if op.options.get(m)]
    return f"{masks[0]} {op.options[masks[0]]}: {NOT_HANDED_ON}" if masks else None


def no_activation(op: Op, graph: Graph) -> str | None:
    """transpose_conv_op_legalization.cc and concat_op_legalization.cc drop a fused activation."""
    return f"{reason}: {NOT_HANDED_ON}" if (reason := activation("NONE")(op, graph)) else None


def taken(*checks: Check, source: str = SOURCE, remedy: str = "") -> Rule:
    return Rule(NUMBERS, source, checks=checks, remedy=remedy)


PLAIN = (
    "ADD MUL BATCH_MATMUL FULLY_CONNECTED RESHAPE TRANSPOSE RSQRT QUANTIZE SLICE SPLIT SUB TANH SOFTMAX MEAN GELU PAD"
    " LOGISTIC SUM CONV_2D DEPTHWISE_CONV_2D SQUARED_DIFFERENCE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR MAX_POOL_2D"
    " DEQUANTIZE PADV2 HARD_SWISH AVERAGE_POOL_2D REDUCE_MAX SQRT DIV CAST PRELU LEAKY_RELU MAXIMUM RELU ABS GREATER"
    " MINIMUM LESS L2_NORMALIZATION"
).split()
RULES = Rules(
    ops={
        **{op: taken() for op in PLAIN},
        "ARG_MAX": Rule((*NUMBERS, "int64"), SOURCE, checks=(never,), remedy=ON_THE_HOST),
        "CONCATENATION": taken(no_activation, source=LEGALIZATIONS),
        "STRIDED_SLICE": taken(plain_slice, source=LEGALIZATIONS),
        "TRANSPOSE_CONV": taken(
            no_activation, source=LEGALIZATIONS, remedy="a transposed convolution without a fused activation"
        ),
    },
    source=SOURCE,
    everywhere=(with_scale,),
    caveat=CAVEAT,
)
MEDIATEK = target_of(
    VENDOR,
    "mediatek",
    "MediaTek APU",
    SOCS,
    "LiteRT's plugin for MediaTek, which partitions with NeuroPilot",
    RULES,
    rewrites=(TRANSPOSED_WITHOUT_ACTIVATION,),
)
