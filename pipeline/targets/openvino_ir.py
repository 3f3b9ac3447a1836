"""OpenVINO itself, without LiteRT: its own file (IR), for CPUs of x86 and ARM.

OpenVINO reads .tflite files, int8 ones with their ranges, but computes depthwise convolutions in bfloat16, because it
does not recognise their kernels as int8 (see ``openvino_ir_worker``). With the kernels rewritten they run in int8:
Fast-SCNN to the logits of stride 8 at 360x480 then takes 0.7 of the time (a Xeon with AMX, one thread, in turns).
results/peers.json compares it with LiteRT. OpenVINO rounds at other points than LiteRT, so its outputs differ; `bench
--device host-openvino` scores and times the file itself.
"""

from __future__ import annotations

from pipeline.compilers.openvino_ir import SUFFIX, ask, compile_file, missing
from pipeline.core.rules import Rule, Rules
from pipeline.core.target import Target
from pipeline.rewrites.padding import PADDING_FOLDED
from pipeline.targets.openvino import ANYTHING, no_computed_bytes, no_int16
from pipeline.tflite.checks import not_both_resize_modes

SOURCE = "OpenVINO 2026.3.1, asked op by op; openvino/src/frontends/tensorflow_lite/src/op_table.cpp"
PLAIN = (
    "ABS ADD ADD_N ARG_MAX ARG_MIN AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_TO CAST CEIL CONCATENATION"
    " CONV_2D COS DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV ELU EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV"
    " FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GELU GREATER GREATER_EQUAL HARD_SWISH L2_NORMALIZATION LEAKY_RELU LESS"
    " LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM"
    " MIRROR_PAD MUL NEG NOT_EQUAL ONE_HOT PACK PAD PADV2 POW PRELU RANGE REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN"
    " REDUCE_PROD RELU RELU6 RELU_0_TO_1 RESHAPE REVERSE_V2 ROUND RSQRT SCATTER_ND SELECT SELECT_V2 SIGN SIN SLICE"
    " SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB"
    " SUM TANH TILE TOPK_V2 TRANSPOSE TRANSPOSE_CONV UNPACK WHERE ZEROS_LIKE"
).split()

RULES = Rules(
    ops={
        **{op: Rule(ANYTHING, SOURCE) for op in PLAIN},
        "CONV_2D": Rule(ANYTHING, SOURCE, checks=(no_computed_bytes,)),
        "QUANTIZE": Rule(ANYTHING, SOURCE, checks=(no_int16,)),
        "RESIZE_BILINEAR": Rule(ANYTHING, SOURCE, checks=(not_both_resize_modes,)),
        "RESIZE_NEAREST_NEIGHBOR": Rule(ANYTHING, SOURCE, checks=(not_both_resize_modes,)),
    },
    source=SOURCE,
    partitions="whole",
)

OPENVINO_IR = Target(
    name="openvino-ir",
    title="OpenVINO itself, on CPUs",
    aliases=("intel", "ov"),
    weights="int8",
    io=("uint8", "int8", "float32"),
    source=SOURCE,
    rules=RULES,
    rewrites=(PADDING_FOLDED,),
    ask=ask,
    missing=missing,
    compile=compile_file,
    compiled_suffix=SUFFIX,
    companions=(".bin",),
    exact_mask=True,
)
