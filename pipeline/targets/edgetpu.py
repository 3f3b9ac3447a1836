"""Coral's Edge TPU. Its last compiler, 16.0, refuses op versions newer than those below."""

from __future__ import annotations

import math

from pipeline.compilers.edgetpu_compiler import COMPILED_OP, ask, compile_edgetpu, missing, use_compiler
from pipeline.core.graph import Graph, Op
from pipeline.core.rules import Check, Rule, Rules
from pipeline.core.target import Target
from pipeline.rewrites.convolutions import DILATED_AS_DENSE, TRANSPOSED_WITHOUT_ACTIVATION
from pipeline.rewrites.padding import PADDING_FOLDED
from pipeline.rewrites.resizes import PIXEL_AS_CONVOLUTIONS
from pipeline.tflite.checks import (
    BYTES,
    ON_THE_HOST,
    activation,
    axes_of,
    constant,
    data_of,
    fixed_sizes,
    never,
    not_grouped,
    same_dilation,
    sizes,
    unit_strides,
)

TABLE = "coral.ai/docs/edgetpu/models-intro, supported operations"
VERSIONS = "edgetpu_compiler 16.0.384591198"
TWINS = "google-coral/test_data, models beside their compiled twins"
BILINEAR = f"{TWINS}: movenet_single_pose_lightning, deeplabv3_mnv2_pascal"
NEAREST = f"{VERSIONS}, a log in WongKinYiu/yolov7 pull request 1672"


def mapped(
    max_version: int, *checks: Check, source: str = TABLE, writes: tuple[str, ...] = (), remedy: str = ""
) -> Rule:
    return Rule(BYTES, source, max_version, checks, writes, remedy)


def mean_axes(op: Op, graph: Graph) -> str | None:
    """No reduction over the batch; a reduction over the depth needs a depth that is a multiple of 4."""
    axes, shape = axes_of(op, graph), data_of(op, graph).shape
    if axes is None:
        return "the axes are computed; they must be constant"
    if 0 in axes:
        return "reduces over the batch"
    if len(shape) == 4 and 3 in axes and shape[3] % 4:
        return f"reduces over a depth of {shape[3]}, which is not a multiple of 4"
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


def three_dimensions(op: Op, graph: Graph) -> str | None:
    """Only the three innermost dimensions may be larger than 1."""
    for tensor in (*graph.reads(op), *graph.writes(op)):
        if not tensor.constant and any(n != 1 for n in tensor.shape[:-3]):
            return (
                f"tensor {tensor.name} of {tensor.shape}; all but the three innermost dimensions must be 1, batch too"
            )
    return None


def no_axis_of_batch(op: Op, graph: Graph) -> str | None:
    axes = axes_of(op, graph)
    if axes is None:
        return "the axes are computed; they must be constant"
    return "reduces over the batch" if 0 in axes else None


def packs_no_batch(op: Op, graph: Graph) -> str | None:
    rank = len(graph.tensors[op.outputs[0]].shape)
    return "packs into the batch" if op.options.get("axis", 0) % max(1, rank) == 0 else None


def splits_no_batch(op: Op, graph: Graph) -> str | None:
    axis = graph.tensors[op.inputs[0]].values
    if axis is None:
        return "an axis that is computed, not constant"
    return "splits the batch" if int(axis[0]) % len(graph.tensors[op.inputs[1]].shape) == 0 else None


def zeros_beside_data(op: Op, graph: Graph) -> str | None:
    """A constant input is taken only as one of two inputs, and with zeros only."""
    constants = [t for t in graph.reads(op) if t.constant]
    if constants and len(op.inputs) != 2:
        return f"a constant among {len(op.inputs)} inputs; among two only"
    if any(t.values is not None and set(t.values) != set(t.zero_point or (0,)) for t in constants):
        return "a constant that is not zero"
    return None


def resize_size(op: Op, graph: Graph) -> str | None:
    """The documentation gives no limit; 512x512 was refused and 128x128 taken (google-coral/edgetpu issue 31)."""
    old, (height, width) = sizes(op, graph)
    if old == (1, 1) and (height, width) != (1, 1):
        return f"repeats one pixel to {height}x{width}"
    if height * width >= LARGE_RESIZE_PIXELS:
        return f"makes {height}x{width} pixels; {LARGE_RESIZE_PIXELS} and more were refused"
    return None


def up(count: int, step: int) -> int:
    """``count`` rounded up to a multiple of ``step``."""
    return -(-count // step) * step


def stored_bytes(op: Op, graph: Graph) -> int:
    """How many bytes the compiler stores for an op's constants, derived from the parameters of the compiled TWINS.

    It pads output channels to a multiple of 16, above 64 to a multiple of 64, and input channels to a multiple of 4.
    This gives ten of the models to the byte. Each output channel has 4 bytes of bias, and 8 more where it has its own
    scale; a depthwise kernel takes four times its size.
    """
    if op.name == "SOFTMAX":
        return SOFTMAX_TABLE_BYTES
    if op.name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"):
        return sum(t.size_bytes for t in graph.reads(op) if t.constant and t.dtype in BYTES)
    kernel = graph.tensors[op.inputs[1]]
    own_scales = 8 if len(kernel.scale) > 1 else 0
    if op.name == "DEPTHWISE_CONV_2D":
        return (4 * math.prod(kernel.shape[1:3]) + 4 + own_scales) * up(kernel.shape[3], 4)
    outputs, inputs = kernel.shape[0], kernel.shape[-1]
    return (math.prod(kernel.shape[1:-1]) * up(inputs, 4) + 4 + own_scales) * up(outputs, 16 if outputs <= 64 else 64)


LARGE_RESIZE_PIXELS = 512 * 512
SOFTMAX_TABLE_BYTES = 48256  # mobilenet_v1_*_quant, 1001 classes
RESIZE_REMEDY = (
    "give logits at a smaller size (`convert --output logits`) and enlarge the mask on the host; to repeat one pixel,"
    " use a TILE of version 1, as Coral's own DeepLab does"
)
RULES = Rules(
    ops={
        "ADD": mapped(2),
        "MUL": mapped(2),
        "SUB": mapped(2),
        "MAXIMUM": mapped(2),
        "MINIMUM": mapped(2),
        "LOGISTIC": mapped(2),
        "TANH": mapped(2),
        "RELU": mapped(2),
        "RELU6": mapped(2),
        "RELU_N1_TO_1": mapped(2),
        "CONV_2D": mapped(3, same_dilation, constant(1, 2), not_grouped),
        "DEPTHWISE_CONV_2D": mapped(3, same_dilation, constant(1, 2)),
        "TRANSPOSE_CONV": mapped(
            3, constant(0, 1, 3), source=VERSIONS, remedy="a transposed convolution without a fused activation"
        ),
        "FULLY_CONNECTED": mapped(4, constant(1, 2), activation("NONE", "RELU", "RELU6"), remedy="a 1x1 convolution"),
        "AVERAGE_POOL_2D": mapped(2, activation("NONE")),
        "MAX_POOL_2D": mapped(2, activation("NONE")),
        "CONCATENATION": mapped(2, activation("NONE"), zeros_beside_data),
        "MEAN": mapped(2, mean_axes),
        "SUM": mapped(2, no_axis_of_batch),
        "REDUCE_MAX": mapped(2, no_axis_of_batch),
        "REDUCE_MIN": mapped(2, no_axis_of_batch),
        "PAD": mapped(2, pads_no_batch),
        "QUANTIZE": mapped(2, remedy="an integer input (`--io int8`)"),
        "RESHAPE": mapped(1),
        "SQUEEZE": mapped(2),
        "PACK": mapped(2, packs_no_batch),
        "SPLIT": mapped(2, splits_no_batch),
        "SLICE": mapped(2),
        "TRANSPOSE": mapped(2),
        "EXPAND_DIMS": mapped(1),
        "SPACE_TO_DEPTH": mapped(2),
        "L2_NORMALIZATION": mapped(2),
        "PRELU": mapped(1, constant(1)),
        "RSQRT": mapped(2),
        "SQUARED_DIFFERENCE": mapped(2),
        "TILE": mapped(1, constant(1), source=f"{TWINS}: deeplab_mobilenet_edgetpu_slim_cityscapes"),
        "RESIZE_BILINEAR": mapped(3, resize_size, source=BILINEAR, remedy=RESIZE_REMEDY),
        "RESIZE_NEAREST_NEIGHBOR": mapped(3, resize_size, source=NEAREST, remedy=RESIZE_REMEDY),
        "UNIDIRECTIONAL_SEQUENCE_LSTM": Rule(("int8", "int16"), f"{TABLE}; {TWINS}: keras_lstm_mnist", 1),
        "SOFTMAX": mapped(2, softmax_size, remedy="logits in place of scores (`--output logits`)"),
        "STRIDED_SLICE": mapped(2, unit_strides),
        # Known to the compiler, but left to the CPU:
        "ARG_MAX": mapped(2, never, writes=("int32", "int64"), remedy=ON_THE_HOST),
        "DEQUANTIZE": mapped(2, never, writes=("float32",), remedy="an integer output (`--io int8`)"),
    },
    source=TABLE,
    everywhere=(fixed_sizes, three_dimensions),
    partitions="first",
    refuses_newer=True,
    cache_bytes=round(7.7 * (1 << 20)),
    cache_source="8 MiB on the chip less activations: reports of compiler 15.0 and 16.0 leave 6.1 to 7.7 to parameters",
    stored_bytes=stored_bytes,
)


EDGETPU = Target(
    name="edgetpu",
    title="Coral Edge TPU",
    aliases=("coral", "edge-tpu", "edge tpu", "tpu"),
    weights="int8",
    io=("int8", "uint8"),
    source="edgetpu_compiler 16.0.384591198; google-coral/edgetpu issues #631, #845",
    rules=RULES,
    rewrites=(PADDING_FOLDED, PIXEL_AS_CONVOLUTIONS, TRANSPOSED_WITHOUT_ACTIVATION, DILATED_AS_DENSE),
    ask=ask,
    missing=missing,
    compile=compile_edgetpu,
    use_compiler=use_compiler,
    compiled_suffix="_edgetpu.tflite",
    compiled_ops=(COMPILED_OP,),
)
