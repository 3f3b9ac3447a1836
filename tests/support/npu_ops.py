"""More single ops, beside those of single_ops.py: what compilers for NPUs leave, at least some of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tests.support.single_ops import RELU, SAME, TANH, TYPES, VALID, Case, Data, axes, conv, plain, resize

SHAPE = (1, 16, 16, 8)


def transposed_from(
    name: str, size: int, kernel: int, stride: int, padding: int = SAME, output_size: int | None = None
) -> Case:
    """As single_ops.transposed, from any size; ``made``: the size that it gives, by default the converter's."""
    rng = np.random.default_rng(0)
    new = output_size or (size * stride if padding == SAME else size * stride + max(0, kernel - stride))
    weights = Data((8, kernel, kernel, 8), "int8", rng.integers(-127, 128, (8, kernel, kernel, 8)), np.full(8, 0.01))
    return Case(
        name,
        "TRANSPOSE_CONV",
        2,
        (axes(1, new, new, 8), weights, Data((1, size, size, 8))),
        Data((1, new, new, 8)),
        {"padding": padding, "strideW": stride, "strideH": stride, "fusedActivationFunction": 0},
    )


ON_SOME_CPUS = ("conv computed kernel",)
"""What OpenVINO takes on a CPU with AMX and refuses on others: the rules refuse it."""


def computed_kernel(name: str) -> Case:
    case = conv(name)
    kernel = dataclasses.replace(case.inputs[1], values=None, scale=0.01)
    return dataclasses.replace(case, inputs=(case.inputs[0], kernel, case.inputs[2]))


def computed(case: Case, place: int, name: str) -> Case:
    inputs = tuple(dataclasses.replace(d, values=None) if i == place else d for i, d in enumerate(case.inputs))
    return dataclasses.replace(case, name=name, inputs=inputs)


def dense(name: str, shape: tuple[int, ...], dtype: str = "int8", version: int = 4) -> Case:
    rng = np.random.default_rng(0)
    read, units = shape[-1], 10
    floats = dtype == "float32"
    kernel = rng.normal(size=(units, read)) if floats else rng.integers(-127, 128, (units, read))
    weights = Data((units, read), dtype, kernel, 0.01)
    bias = Data((units,), "float32" if floats else "int32", np.zeros(units), np.full(1, 0.001))
    new = (*shape[:-1], units)
    return Case(
        name,
        "FULLY_CONNECTED",
        1 if floats else version,
        (Data(shape, dtype), weights, bias),
        Data(new, dtype),
        {"keepNumDims": len(shape) > 2},
    )


def strided(
    name: str, begin: tuple[int, ...], end: tuple[int, ...], by: tuple[int, ...], shape: tuple[int, ...], **masks: Any
) -> Case:
    return plain(name, "STRIDED_SLICE", output=Data(shape), more=(axes(*begin), axes(*end), axes(*by)), **masks)


def mixed(name: str, op: str, first: Data, second: Data, output: Data, **options: object) -> Case:
    return Case(name, op, 2, (first, second), output, options)


def more_cases() -> list[Case]:
    cases = [
        *(
            transposed_from(f"transposed {size} k{k} s{s} {'valid' if p else 'same'}", size, k, s, p)
            for size in (3, 5, 6, 8)
            for k, s in ((4, 2), (3, 2), (2, 2), (16, 8), (4, 4), (2, 4), (3, 1))
            for p in (SAME, VALID)
        ),
        transposed_from("transposed to 5", 3, 4, 2, output_size=5),
        transposed_from("transposed to 11", 6, 4, 2, output_size=11),
        computed_kernel("conv computed kernel"),
        conv("conv tanh", fused=TANH),
        conv("conv 3x3 of 3", channels=(3, 8)),
        conv("conv uint8", "uint8", per_tensor=True),
        conv("conv dilated and strided", dilation=2, stride=2),
        conv("depthwise dilated and strided", op="DEPTHWISE_CONV_2D", dilation=2, stride=2),
        conv("depthwise tanh", op="DEPTHWISE_CONV_2D", fused=TANH),
        conv("depthwise per tensor", op="DEPTHWISE_CONV_2D", per_tensor=True),
        dense("dense", (1, 32)),
        dense("dense of 4 dimensions", (1, 4, 4, 32), version=5),
        dense("dense float", (1, 32), "float32"),
        *(
            plain(f"{op.lower()} of 5 dimensions", op, shape=(1, 2, 4, 4, 8), inputs=n)
            for op, n in (("ADD", 2), ("MUL", 2), ("RELU", 1), ("LOGISTIC", 1), ("HARD_SWISH", 1), ("MAXIMUM", 2))
        ),
        *(
            plain(f"{op.lower()} uint8", op, "uint8", inputs=n)
            for op, n in (
                ("ADD", 2),
                ("MUL", 2),
                ("RELU", 1),
                ("RELU6", 1),
                ("LOGISTIC", 1),
                ("MAXIMUM", 2),
                ("SOFTMAX", 1),
                ("TANH", 1),
                ("HARD_SWISH", 1),
                ("LEAKY_RELU", 1),
            )
        ),
        *(
            plain(f"{op.lower()} int16", op, "int16", inputs=n)
            for op, n in (
                ("ADD", 2),
                ("MUL", 2),
                ("RELU", 1),
                ("LOGISTIC", 1),
                ("SOFTMAX", 1),
                ("TANH", 1),
                ("LEAKY_RELU", 1),
                ("MAXIMUM", 2),
                ("HARD_SWISH", 1),
            )
        ),
        *(plain(f"{op.lower()} int32", op, "int32", inputs=2) for op in ("ADD", "MUL", "SUB", "MAXIMUM", "MINIMUM")),
        *(plain(f"{op.lower()} int64", op, "int64", inputs=2) for op in ("ADD", "MUL", "SUB", "MAXIMUM", "MINIMUM")),
        *(plain(f"{op.lower()} float", op, "float32", inputs=2) for op in ("MUL", "SUB", "MAXIMUM", "DIV")),
        plain("minimum of two", "MINIMUM", inputs=2),
        plain("divide", "DIV", inputs=2),
        mixed("add channels", "ADD", Data(SHAPE), Data((8,)), Data(SHAPE)),
        mixed("add column", "MUL", Data(SHAPE), Data((1, 16, 1, 1)), Data(SHAPE)),
        plain(
            "average uint8",
            "AVERAGE_POOL_2D",
            "uint8",
            output=Data((1, 8, 8, 8), "uint8"),
            padding=VALID,
            filterHeight=2,
            filterWidth=2,
            strideH=2,
            strideW=2,
        ),
        plain(
            "average int16",
            "AVERAGE_POOL_2D",
            "int16",
            output=Data((1, 8, 8, 8), "int16"),
            padding=VALID,
            filterHeight=2,
            filterWidth=2,
            strideH=2,
            strideW=2,
        ),
        plain(
            "average relu",
            "AVERAGE_POOL_2D",
            output=Data((1, 8, 8, 8)),
            padding=VALID,
            filterHeight=2,
            filterWidth=2,
            strideH=2,
            strideW=2,
            fusedActivationFunction=RELU,
        ),
        resize("bilinear align and half", (8, 8), (16, 16), align=True, half=True),
        resize("nearest align", (8, 8), (15, 15), align=True, op="RESIZE_NEAREST_NEIGHBOR"),
        resize("nearest half", (8, 8), (16, 16), half=True, op="RESIZE_NEAREST_NEIGHBOR"),
        resize("nearest float", (8, 8), (16, 16), dtype="float32", op="RESIZE_NEAREST_NEIGHBOR"),
        resize("bilinear uint8", (8, 8), (16, 16), dtype="uint8"),
        resize("bilinear int16", (8, 8), (16, 16), dtype="int16"),
        plain("split", "SPLIT_V", output=Data((1, 16, 16, 8)), more=(axes(8), axes(3))),
        plain("slice", "SLICE", output=Data((1, 8, 8, 8)), more=(axes(0, 2, 2, 0), axes(1, 8, 8, 8))),
        computed(
            plain("x", "SLICE", output=Data((1, 8, 8, 8)), more=(axes(0, 2, 2, 0), axes(1, 8, 8, 8))),
            1,
            "slice computed begin",
        ),
        plain("squeeze", "SQUEEZE", shape=(1, 1, 16, 8), output=Data((16, 8)), squeezeDims=[0, 1]),
        plain("expand", "EXPAND_DIMS", output=Data((1, 1, 16, 16, 8)), more=(axes(0),)),
        plain("pack", "PACK", shape=(4, 4), inputs=2, output=Data((2, 4, 4)), valuesCount=2, axis=0),
        plain("gather", "GATHER", output=Data((1, 16, 16, 4)), more=(axes(0, 2, 3, 5),), axis=3),
        plain("depth to space", "DEPTH_TO_SPACE", output=Data((1, 32, 32, 2)), blockSize=2),
        plain("space to depth", "SPACE_TO_DEPTH", output=Data((1, 8, 8, 32)), blockSize=2),
        plain(
            "space to batch",
            "SPACE_TO_BATCH_ND",
            output=Data((4, 8, 8, 8)),
            more=(axes(2, 2), Data((2, 2), "int32", np.zeros((2, 2), np.int32))),
        ),
        plain("prelu", "PRELU", more=(Data((1, 1, 8), values=np.full((1, 1, 8), 3)),)),
        plain("elu", "ELU"),
        plain("relu n1 to 1", "RELU_N1_TO_1"),
        plain("exp", "EXP", "float32"),
        plain("abs", "ABS"),
        plain("rsqrt", "RSQRT", "float32"),
        plain("square", "SQUARE", "float32"),
        plain("relu 0 to 1", "RELU_0_TO_1"),
        plain("floor", "FLOOR", "float32"),
        plain("sum", "SUM", more=(axes(1, 2),), output=Data((1, 1, 1, 8)), keepDims=True),
        plain("largest", "REDUCE_MAX", more=(axes(3),), output=Data((1, 16, 16, 1)), keepDims=True),
        plain("argmin", "ARG_MIN", output=Data((1, 16, 16), "int32"), more=(axes(3),), outputType=TYPES["int32"]),
        plain("cast to float", "CAST", output=Data(SHAPE, "float32")),
        plain("cast int32", "CAST", "int32", output=Data(SHAPE, "float32")),
        plain("cast int64", "CAST", "int64", output=Data(SHAPE, "int32")),
        plain("greater", "GREATER", inputs=2, output=Data(SHAPE, "bool")),
        plain("l2", "L2_NORMALIZATION"),
        plain("log softmax", "LOG_SOFTMAX"),
        plain("batch product", "BATCH_MATMUL", shape=(1, 4, 16, 16), inputs=2),
        plain("unique", "UNIQUE", shape=(16,), output=Data((16,))),
        plain("shape", "SHAPE", output=Data((4,), "int32")),
        plain(
            "mirror",
            "MIRROR_PAD",
            output=Data((1, 18, 18, 8)),
            version=1,
            more=(Data((4, 2), "int32", np.asarray([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)),),
            mode=0,
        ),
        plain(
            "pad of 5 dimensions",
            "PAD",
            shape=(1, 2, 4, 4, 8),
            output=Data((1, 2, 6, 6, 8)),
            more=(Data((5, 2), "int32", np.asarray([[0, 0], [0, 0], [1, 1], [1, 1], [0, 0]], np.int32)),),
        ),
        plain(
            "reshape to 6 dimensions",
            "RESHAPE",
            version=1,
            output=Data((1, 2, 8, 4, 4, 8)),
            more=(axes(1, 2, 8, 4, 4, 8),),
            newShape=[1, 2, 8, 4, 4, 8],
        ),
        plain(
            "transpose 5 dimensions",
            "TRANSPOSE",
            shape=(1, 2, 4, 4, 8),
            output=Data((1, 8, 2, 4, 4)),
            more=(axes(0, 4, 1, 2, 3),),
        ),
        plain(
            "transpose 6 dimensions",
            "TRANSPOSE",
            shape=(1, 2, 2, 4, 4, 8),
            output=Data((1, 8, 2, 2, 4, 4)),
            more=(axes(0, 5, 1, 2, 3, 4),),
        ),
        strided("slice backwards", (0, 15, 0, 0), (1, -17, 16, 8), (1, -1, 1, 1), (1, 16, 16, 8)),
        strided("slice and shrink", (0, 0, 0, 0), (1, 1, 16, 8), (1, 1, 1, 1), (1, 16, 8), shrinkAxisMask=2),
        strided("slice with ellipsis", (0, 0), (0, 8), (1, 1), (1, 16, 16, 8), ellipsisMask=1),
        plain("mean int16", "MEAN", "int16", output=Data((1, 1, 1, 8), "int16"), more=(axes(1, 2),), keepDims=True),
        plain(
            "mean of 5 dimensions",
            "MEAN",
            shape=(1, 2, 4, 4, 8),
            output=Data((1, 2, 1, 1, 8)),
            more=(axes(2, 3),),
            keepDims=True,
        ),
        plain(
            "concatenate of 5 dimensions",
            "CONCATENATION",
            shape=(1, 2, 4, 4, 8),
            inputs=2,
            output=Data((1, 2, 4, 4, 16)),
            axis=4,
        ),
        plain(
            "concatenate relu",
            "CONCATENATION",
            inputs=2,
            output=Data((1, 16, 16, 16)),
            axis=3,
            fusedActivationFunction=RELU,
        ),
        plain("concatenate int64", "CONCATENATION", "int64", inputs=2, output=Data((1, 16, 16, 16), "int64"), axis=3),
        plain("quantize to int16", "QUANTIZE", "float32", output=Data(SHAPE, "int16")),
        plain("quantize int16", "QUANTIZE", "int16", output=Data(SHAPE)),
        plain("quantize to uint8", "QUANTIZE", output=Data(SHAPE, "uint8", zero_point=128)),
        plain("dequantize uint8", "DEQUANTIZE", "uint8", output=Data(SHAPE, "float32")),
        plain("dequantize int16", "DEQUANTIZE", "int16", output=Data(SHAPE, "float32")),
        plain("dequantize computed halves", "DEQUANTIZE", "float16", output=Data(SHAPE, "float32")),
        plain("softmax beta 2", "SOFTMAX", beta=2.0),
        plain("logistic float", "LOGISTIC", "float32"),
        plain("tanh float", "TANH", "float32"),
        plain("hard swish float", "HARD_SWISH", "float32"),
        plain("leaky float", "LEAKY_RELU", "float32", alpha=0.1),
        plain("add int32 scaled", "ADD", shape=(2, 16, 16, 8), inputs=2),
        conv("conv of 5x5 by stride 7", kernel=5, stride=7),
        conv("conv 1x1 stride 2", kernel=1, stride=2),
    ]
    assert len({case.name for case in cases}) == len(cases)
    return cases
