"""CPUs through XNNPACK, LiteRT's default delegate. LiteRT's own kernels run what XNNPACK leaves, on the CPU as well."""

from __future__ import annotations

from pipeline.compilers.xnnpack import ask
from pipeline.compilers.xnnpack_checks import (
    MOST_DIMENSIONS,
    has_bias,
    inputs,
    int32_axes,
    keeps_sign,
    kernel_of_its_type,
    leak,
    no_uint8,
    not_negative,
    one_int8_range,
    one_range,
    one_uint8_range,
    output_range,
    padding_range,
    pieces,
    plain_slice,
    pool_stride,
    product_types,
    quantized,
    rank_of_4,
    ratios,
    requantization,
    symmetric_kernel,
    two_dimensions,
    typed_variable,
    unit_beta,
    weights_of_floats,
    whole_blocks,
    whole_sizes,
)
from pipeline.core.device import XNNPACK
from pipeline.core.rules import Check, Rule, Rules
from pipeline.core.target import Target
from pipeline.rewrites.camera import BYTES_THROUGH_FLOAT
from pipeline.rewrites.padding import PADDING_FOLDED
from pipeline.tflite.checks import FLOATS, activation, constant, constant_axes, from_file, rank_at_most, unit_strides

SOURCE = "tflite/delegates/xnnpack/xnnpack_delegate.cc"

FUSED = activation("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
INT8 = ("int8", "uint8")
ANY_INDEX = ("float32", "int32", "uint32", "int64")
RESOURCE = ("resource",)
BOTH = (*FLOATS, *INT8)
FLOAT32_OR_INT8 = ("float32", *INT8)
FLOAT_ONLY = (
    "ABS",
    "CEIL",
    "COS",
    "EXP",
    "FLOOR",
    "GELU",
    "HARD_SWISH",
    "LOG",
    "NEG",
    "RELU",
    "RELU6",
    "RELU_N1_TO_1",
    "ROUND",
    "RSQRT",
    "SIN",
    "SQRT",
    "SQUARE",
    "MAXIMUM",
    "MINIMUM",
    "SQUARED_DIFFERENCE",
)
REQUANTIZE = (
    "requantize: give the op's inputs and its output one range, as `convert` does, with a QUANTIZE behind it where"
    " another range is needed"
)
REQUANTIZE_KERNEL = "calibrate with images like those that the network will see, and `convert` again"
OTHER_RANGE = "requantize: `convert` gives the op's output the range that LiteRT's kernel asks for"


def taken(
    *checks: Check,
    reads: tuple[str, ...] = BOTH,
    writes: tuple[str, ...] = (),
    remedy: str = "",
    fatal_checks: tuple[Check, ...] = (),
    fatal_remedy: str = REQUANTIZE,
) -> Rule:
    """``fatal_checks``: the delegate takes such an op, then XNNPACK refuses it and the file does not load."""
    return Rule(
        reads,
        SOURCE,
        checks=(quantized, *checks),
        writes=writes,
        remedy=remedy,
        fatal_checks=(*fatal_checks, rank_at_most(MOST_DIMENSIONS)),
        fatal_remedy=fatal_remedy,
    )


def kernel(*checks: Check, fatal_checks: tuple[Check, ...] = ()) -> Rule:
    return taken(*checks, fatal_checks=(requantization, *fatal_checks), fatal_remedy=REQUANTIZE_KERNEL)


FLAT = rank_at_most(MOST_DIMENSIONS)
REDUCTION = taken(constant_axes, int32_axes)
RULES = Rules(
    ops={
        "CONV_2D": kernel(FUSED, has_bias, from_file(1, 2), fatal_checks=(symmetric_kernel,)),
        "DEPTHWISE_CONV_2D": kernel(FUSED, kernel_of_its_type, from_file(1, 2), fatal_checks=(symmetric_kernel,)),
        "TRANSPOSE_CONV": kernel(from_file(0, 1, 3), fatal_checks=(symmetric_kernel,)),
        "FULLY_CONNECTED": kernel(FUSED, symmetric_kernel, from_file(1, 2)),
        "BATCH_MATMUL": taken(
            product_types,
            symmetric_kernel,
            two_dimensions,
            fatal_checks=(no_uint8,),
            fatal_remedy="int8 in place of uint8",
        ),
        "ADD": taken(FLAT, FUSED, ratios(2**-10, 2**8)),
        "SUB": taken(FLAT, FUSED, ratios(2**-10, 2**8)),
        "MUL": taken(FLAT, FUSED, ratios(2**-16, 2**8, product=True)),
        "DIV": taken(FLAT, FUSED, reads=FLOATS),
        "CONCATENATION": taken(activation("NONE"), inputs(2, 5), one_uint8_range, fatal_checks=(one_int8_range,)),
        # Not rewritten: XNNPACK would run Fast-SCNN's pools as depthwise convolutions, but the network at 360x480 would
        # then take 1.14 times as long as with LiteRT's own kernel (interleaved, one thread, Xeon with VNNI).
        "AVERAGE_POOL_2D": taken(FUSED, pool_stride, reads=FLOATS, remedy="a MEAN, where the window is the whole map"),
        "MAX_POOL_2D": taken(FUSED, pool_stride, reads=FLOAT32_OR_INT8, fatal_checks=(one_range,)),
        "MEAN": REDUCTION,
        "SUM": REDUCTION,
        "REDUCE_MAX": REDUCTION,
        "REDUCE_MIN": REDUCTION,
        "RESIZE_BILINEAR": taken(rank_of_4, constant(1), reads=FLOAT32_OR_INT8, fatal_checks=(one_range,)),
        "SOFTMAX": taken(unit_beta, reads=FLOATS, remedy="logits in place of scores (`--output logits`)"),
        "LOGISTIC": taken(FLAT),
        "TANH": taken(FLAT),
        "ELU": taken(FLAT, reads=(*FLOATS, "int8")),
        "LEAKY_RELU": taken(FLAT, leak),
        "PAD": taken(FLAT, constant(1), not_negative, fatal_checks=(one_range,)),
        "RESHAPE": taken(FLAT, one_range),
        "TRANSPOSE": taken(FLAT, constant(1), fatal_checks=(one_range,)),
        "SLICE": taken(constant(1, 2), whole_sizes, fatal_checks=(one_range,)),
        "STRIDED_SLICE": taken(plain_slice, constant(1, 2, 3), unit_strides, fatal_checks=(one_range,)),
        "SPLIT": taken(constant(0), pieces(2, 4), fatal_checks=(one_range,)),
        "DEPTH_TO_SPACE": taken(reads=FLOAT32_OR_INT8, fatal_checks=(one_range,)),
        "SPACE_TO_DEPTH": taken(whole_blocks, reads=FLOAT32_OR_INT8, fatal_checks=(one_range,)),
        "PRELU": taken(FLAT, constant(1), reads=FLOATS),
        "VAR_HANDLE": taken(typed_variable, reads=RESOURCE),
        "READ_VARIABLE": taken(reads=RESOURCE, writes=BOTH),
        "ASSIGN_VARIABLE": taken(reads=(*RESOURCE, *BOTH)),
        "DENSIFY": taken(constant(0)),
        **{op: taken(FLAT, reads=FLOATS) for op in FLOAT_ONLY},
        # XNNPACK converts a camera's uint8 10× faster than LiteRT's own kernel (Xeon, one thread).
        "QUANTIZE": taken(FLAT, keeps_sign, ratios(2**-8, 2**7, top=True), writes=INT8),
        "DEQUANTIZE": taken(FLAT, weights_of_floats, writes=FLOATS),
    },
    source=SOURCE,
    # MediaPipe's ops, for which LiteRT has no kernels of its own.
    custom={
        "Convolution2DTransposeBias": taken(inputs(3, 3), from_file(1, 2), rank_of_4, reads=("float32",)),
        "MaxPoolingWithArgmax2D": taken(inputs(1, 1), rank_of_4, reads=("float32",), writes=ANY_INDEX),
        "MaxUnpooling2D": taken(inputs(2, 2), rank_of_4, reads=ANY_INDEX, writes=("float32",)),
    },
    fallback={
        **dict.fromkeys(("PACK", "UNPACK", "MIRROR_PAD", "BATCH_TO_SPACE_ND", "SPACE_TO_BATCH_ND"), (one_range,)),
        **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), (int32_axes,)),
        "CONCATENATION": (one_int8_range,),
        "SPACE_TO_DEPTH": (whole_blocks,),
        "PAD": (not_negative,),
        "CONV_2D": (has_bias,),
        "PADV2": (padding_range,),
        "SOFTMAX": (output_range(1 / 256, -128, "int8"),),
        "LOG_SOFTMAX": (output_range(16 / 256, 127, "int8"), output_range(16 / 256, 255, "uint8")),
        "L2_NORMALIZATION": (output_range(1 / 128, 0, "int8"), output_range(1 / 128, 128, "uint8")),
    },
    fallback_remedy=OTHER_RANGE,
)

CPU = Target(
    name="cpu",
    title="CPU, LiteRT with XNNPACK",
    aliases=("host", "phone", "android", "ios", "iphone", "xnnpack", "tflite", "raspberry", "raspberrypi"),
    weights="int8",
    io=("uint8", "int8", "float32"),  # uint8 first: it takes camera frames and MediaPipe's images as they are
    source="LiteRT runs what its own converter writes",
    rules=RULES,
    rewrites=(BYTES_THROUGH_FLOAT, PADDING_FOLDED),
    ask=ask,
    delegate=XNNPACK,
    exact_mask=True,  # results/heads.json
)
