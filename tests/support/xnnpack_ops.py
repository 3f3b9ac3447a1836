"""Single ops that XNNPACK takes, leaves, or makes LiteRT refuse the file for: ranges, types, shapes and options."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tests.support.single_ops import Case, Data, axes

A = (1, 8, 8, 4)
POOL = {"padding": 1, "filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2}
CONV = {"padding": 1, "strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}


def f(*shape: int, values: Any = None, dtype: str = "float32") -> Data:
    return Data(shape, dtype, np.ones(shape) if isinstance(values, int) else values)


def q(*shape: int, scale: Any = 0.1, zero: int = 0, values: Any = None, dtype: str = "int8", axis: int = 0) -> Data:
    return Data(shape, dtype, np.ones(shape) if isinstance(values, int) else values, scale, zero, axis)


def ints(values: Any) -> Data:
    return Data(np.shape(values), "int32", np.asarray(values, np.int32))


def case(name: str, op: str, version: int, inputs: tuple[Data, ...], output: Data, *more: Data, **options: Any) -> Case:
    return Case(name, op, version, inputs, output, options, more)


def of_two_ranges(dtype: str, scale: float, zero: int) -> list[Case]:
    """Ops that move 8-bit data: the input at scale 0.1 and zero point 0, the output as given."""
    x = q(*A, dtype=dtype)

    def y(*shape: int) -> Data:
        return q(*shape, scale=scale, zero=zero, dtype=dtype)

    pads, nothing = ints([[0, 0], [1, 1], [1, 1], [0, 0]]), ints([[0, 0], [0, 0]])
    cases = [
        case("bilinear", "RESIZE_BILINEAR", 2, (x, axes(16, 16)), y(1, 16, 16, 4)),
        case("nearest", "RESIZE_NEAREST_NEIGHBOR", 2, (x, axes(16, 16)), y(1, 16, 16, 4)),
        case("concatenation", "CONCATENATION", 2, (x, x), y(1, 8, 8, 8), axis=3),
        case("one of two", "CONCATENATION", 2, (x, y(*A)), q(1, 8, 8, 8, dtype=dtype), axis=3),
        case("pad", "PAD", 2, (x, pads), y(1, 10, 10, 4)),
        case("reshape", "RESHAPE", 1, (x, axes(1, 64, 4)), y(1, 64, 4), newShape=[1, 64, 4]),
        case("maximum pool", "MAX_POOL_2D", 2, (x,), y(1, 4, 4, 4), **POOL),
        case("average pool", "AVERAGE_POOL_2D", 2, (x,), y(1, 4, 4, 4), **POOL),
        case(
            "strided slice",
            "STRIDED_SLICE",
            2,
            (x, axes(0, 0, 0, 0), axes(1, 4, 4, 4), axes(1, 1, 1, 1)),
            y(1, 4, 4, 4),
        ),
        case("slice", "SLICE", 2, (x, axes(0, 0, 0, 0), axes(1, 4, 4, 4)), y(1, 4, 4, 4)),
        case("transpose", "TRANSPOSE", 2, (x, axes(0, 3, 1, 2)), y(1, 4, 8, 8)),
        case("split in two", "SPLIT", 2, (ints(1), x), y(1, 4, 8, 4), y(1, 4, 8, 4), numSplits=2),
        case("depth to space", "DEPTH_TO_SPACE", 2, (x,), y(1, 16, 16, 1), blockSize=2),
        case("space to depth", "SPACE_TO_DEPTH", 2, (x,), y(1, 4, 4, 16), blockSize=2),
        case("mean", "MEAN", 2, (x, axes(1, 2)), y(1, 1, 1, 4), keepDims=True),
        case("sum", "SUM", 2, (x, axes(1, 2)), y(1, 1, 1, 4), keepDims=True),
        case("largest", "REDUCE_MAX", 2, (x, axes(1, 2)), y(1, 1, 1, 4), keepDims=True),
        case("squeeze", "SQUEEZE", 2, (x,), y(8, 8, 4), squeezeDims=[0]),
        case("pack", "PACK", 2, (x, x), y(2, *A), valuesCount=2, axis=0),
        case("unpack", "UNPACK", 2, (x,), y(8, 8, 4), num=1, axis=0),
        case("gather", "GATHER", 2, (x, axes(0, 1)), y(1, 8, 8, 2), axis=3),
        case("mirrored", "MIRROR_PAD", 2, (x, pads), y(1, 10, 10, 4)),
        case("pad v2", "PADV2", 2, (x, pads, q(1, dtype=dtype, values=[0])), y(1, 10, 10, 4)),
        case("tile", "TILE", 2, (x, axes(1, 1, 1, 2)), y(1, 8, 8, 8)),
        case(
            "batch to space", "BATCH_TO_SPACE_ND", 2, (q(4, 8, 8, 4, dtype=dtype), axes(2, 2), nothing), y(1, 16, 16, 4)
        ),
        case("space to batch", "SPACE_TO_BATCH_ND", 2, (x, axes(2, 2), nothing), y(4, 4, 4, 4)),
        case("maximum", "MAXIMUM", 2, (x, x), y(*A)),
        case("relu", "RELU", 2, (x,), y(*A)),
        case("leaky", "LEAKY_RELU", 2, (x,), y(*A), alpha=0.1),
        case("logistic", "LOGISTIC", 2, (x,), y(*A)),
        case("tanh", "TANH", 2, (x,), y(*A)),
        case("hard swish", "HARD_SWISH", 1, (x,), y(*A)),
        case("add", "ADD", 2, (x, x), y(*A)),
        case("multiply", "MUL", 2, (x, x), y(*A)),
    ]
    return [dataclasses.replace(each, name=f"{dtype} {scale:g} {zero} {each.name}") for each in cases]


def kernels(dtype: str) -> list[Case]:
    """What LiteRT's own kernels ask of an output."""
    x, ends = q(*A, dtype=dtype), {"int8": (-128, 127, 0), "uint8": (0, 255, 128)}[dtype]
    cases = []
    for good in (True, False):
        wrong = 1 if good else 2
        cases += [
            case("softmax", "SOFTMAX", 2, (x,), q(*A, scale=wrong / 256, zero=ends[0], dtype=dtype), beta=1.0),
            case("log softmax", "LOG_SOFTMAX", 2, (x,), q(*A, scale=wrong * 16 / 256, zero=ends[1], dtype=dtype)),
            case("normalized", "L2_NORMALIZATION", 2, (x,), q(*A, scale=wrong / 128, zero=ends[2], dtype=dtype)),
        ]
    names = [f"{dtype} kernel {each.name} {'asked for' if i < 3 else 'another'}" for i, each in enumerate(cases)]
    return [dataclasses.replace(each, name=name) for name, each in zip(names, cases, strict=True)]


def products() -> list[Case]:
    column = np.full(5, 0.1)
    cases = []
    for name, left, right, output, options in (
        ("float", f(1, 4, 8), f(1, 8, 5), f(1, 4, 5), {}),
        ("float adj_x", f(1, 8, 4), f(1, 8, 5), f(1, 4, 5), {"adjX": True}),
        ("float adj_y", f(1, 4, 8), f(1, 5, 8), f(1, 4, 5), {"adjY": True}),
        ("float of rank 2", f(4, 8), f(8, 5), f(4, 5), {}),
        ("float by constant", f(1, 4, 8), f(1, 8, 5, values=1), f(1, 4, 5), {}),
        ("float broadcast", f(2, 3, 4, 8), f(3, 8, 5), f(2, 3, 4, 5), {}),
        ("int8", q(1, 4, 8), q(1, 8, 5), q(1, 4, 5), {}),
        ("int8 offset right", q(1, 4, 8), q(1, 8, 5, zero=3), q(1, 4, 5), {}),
        ("int8 offset left", q(1, 4, 8, zero=3), q(1, 8, 5), q(1, 4, 5), {}),
        ("int8 adj_x", q(1, 8, 4), q(1, 8, 5), q(1, 4, 5), {"adjX": True}),
        ("int8 per channel", q(1, 4, 8), q(1, 8, 5, values=1, scale=column, axis=2), q(1, 4, 5), {}),
        ("uint8", q(1, 4, 8, dtype="uint8"), q(1, 8, 5, dtype="uint8"), q(1, 4, 5, dtype="uint8"), {}),
        ("float by int8", f(1, 4, 8), q(1, 8, 5, values=1), f(1, 4, 5), {}),
        ("float by int8 per channel", f(1, 4, 8), q(1, 8, 5, values=1, scale=column, axis=2), f(1, 4, 5), {}),
        (
            "float by int8 per channel adj_y",
            f(1, 4, 8),
            q(1, 5, 8, values=1, scale=column, axis=1),
            f(1, 4, 5),
            {"adjY": True},
        ),
        ("int16", q(1, 4, 8, dtype="int16"), q(1, 8, 5, dtype="int16"), q(1, 4, 5, dtype="int16"), {}),
    ):
        version = 3 if left.dtype == "int16" else 1 if left.dtype == right.dtype == "float32" else 2
        cases.append(case(f"product {name}", "BATCH_MATMUL", version, (left, right), output, **options))
    return cases


def weighted() -> list[Case]:
    """Convolutions and fully connected layers: what their kernels may be."""
    wide, kernel = np.full(6, 0.1), (6, 3, 3, 4)
    bias = Data((6,), "int32", np.zeros(6), np.full(6, 0.01))
    zeros, x, y = f(6, values=np.zeros(6)), f(*A), f(1, 6, 6, 6)
    qx, qy, qk = q(*A), q(1, 6, 6, 6), q(*kernel, values=1, scale=wide)
    deep = q(1, 3, 3, 4, values=1, scale=np.full(4, 0.1), axis=3)
    dense, size = q(5, 8, values=1), ints([1, 16, 16, 6])
    up = {"padding": 1, "strideW": 2, "strideH": 2}
    return [
        case("conv float by int8", "CONV_2D", 5, (x, qk, zeros), y, **CONV),
        case("conv float by int8 without bias", "CONV_2D", 5, (x, qk), y, **CONV),
        case("conv float without bias", "CONV_2D", 1, (x, f(*kernel, values=1)), y, **CONV),
        case("conv float computed kernel", "CONV_2D", 1, (x, f(*kernel), zeros), y, **CONV),
        case("conv int8 without bias", "CONV_2D", 3, (qx, qk), qy, **CONV),
        case(
            "conv int8 offset kernel",
            "CONV_2D",
            3,
            (qx, q(*kernel, values=1, zero=2), Data((6,), "int32", np.zeros(6), np.full(1, 0.01))),
            qy,
            **CONV,
        ),
        case("conv scale 255", "CONV_2D", 3, (qx, qk, bias), q(1, 6, 6, 6, scale=0.01 / 255), **CONV),
        case("conv scale 257", "CONV_2D", 3, (qx, qk, bias), q(1, 6, 6, 6, scale=0.01 / 257), **CONV),
        case("conv tanh", "CONV_2D", 1, (x, f(*kernel, values=1), zeros), y, **CONV, fusedActivationFunction=4),
        case(
            "depthwise float by int8",
            "DEPTHWISE_CONV_2D",
            6,
            (x, deep, f(4, values=1)),
            f(1, 6, 6, 4),
            **CONV,
            depthMultiplier=1,
        ),
        case(
            "depthwise scale 257",
            "DEPTHWISE_CONV_2D",
            3,
            (qx, deep, Data((4,), "int32", np.zeros(4), np.full(4, 0.01))),
            q(1, 6, 6, 4, scale=0.01 / 257),
            **CONV,
            depthMultiplier=1,
        ),
        case(
            "transposed float by int8",
            "TRANSPOSE_CONV",
            3,
            (size, q(6, 2, 2, 4, values=1, scale=wide), x),
            f(1, 16, 16, 6),
            **up,
        ),
        case(
            "transposed scale 257",
            "TRANSPOSE_CONV",
            2,
            (size, q(6, 2, 2, 4, values=1, scale=wide), qx),
            q(1, 16, 16, 6, scale=0.01 / 257),
            **up,
        ),
        case("dense float", "FULLY_CONNECTED", 1, (f(2, 8), f(5, 8, values=1)), f(2, 5)),
        case("dense float computed", "FULLY_CONNECTED", 1, (f(2, 8), f(5, 8)), f(2, 5)),
        case("dense float computed bias", "FULLY_CONNECTED", 1, (f(2, 8), f(5, 8, values=1), f(5)), f(2, 5)),
        case("dense int8", "FULLY_CONNECTED", 4, (q(2, 8), dense), q(2, 5)),
        case("dense int8 computed", "FULLY_CONNECTED", 4, (q(2, 8), q(5, 8)), q(2, 5)),
        case("dense int8 offset kernel", "FULLY_CONNECTED", 4, (q(2, 8), q(5, 8, values=1, zero=2)), q(2, 5)),
        case("dense float by int8", "FULLY_CONNECTED", 3, (f(2, 8), dense), f(2, 5)),
        case("dense scale 257", "FULLY_CONNECTED", 4, (q(2, 8), dense), q(2, 5, scale=0.01 / 257)),
    ]


def shapes_and_options() -> list[Case]:
    x, seven, half = f(*A), f(1, 1, 1, 1, 1, 2, 3), f(*A, dtype="float16")
    single = {**POOL, "filterHeight": 1, "filterWidth": 1}
    return [
        case("softmax beta", "SOFTMAX", 1, (x,), x, beta=0.5),
        case("one to concatenate", "CONCATENATION", 1, (x,), x, axis=3),
        case("split in one", "SPLIT", 1, (ints(1), x), x, numSplits=1),
        case(
            "slice that shrinks",
            "STRIDED_SLICE",
            1,
            (x, axes(0, 0, 0, 0), axes(1, 4, 4, 4), axes(1, 1, 1, 1)),
            f(4, 4, 4),
            shrinkAxisMask=1,
        ),
        case(
            "slice with a mask",
            "STRIDED_SLICE",
            1,
            (x, axes(0, 2, 2, 0), axes(1, 4, 4, 4), axes(1, 1, 1, 1)),
            f(1, 4, 4, 4),
            beginMask=6,
        ),
        case("slice to the end", "SLICE", 1, (x, axes(0, 2, 2, 0), axes(1, -1, 4, 4)), f(1, 6, 4, 4)),
        case("odd blocks", "SPACE_TO_DEPTH", 1, (f(1, 9, 8, 4),), f(1, 4, 4, 16), blockSize=2),
        case("mean of int64 axes", "MEAN", 1, (x, Data((2,), "int64", np.array([1, 2]))), f(1, 1, 1, 4), keepDims=True),
        case("mean of negative axes", "MEAN", 1, (x, axes(-2, -3)), f(1, 1, 1, 4), keepDims=True),
        case("crop by padding", "PAD", 1, (x, ints([[0, 0], [0, -1], [0, 0], [0, 0]])), f(1, 7, 8, 4)),
        case("average of one", "AVERAGE_POOL_2D", 1, (x,), f(*A), **{**single, "strideH": 1, "strideW": 1}),
        case("average of one by 2", "AVERAGE_POOL_2D", 1, (x,), f(1, 4, 4, 4), **single),
        case("maximum of 2 by 3", "MAX_POOL_2D", 1, (x,), f(1, 3, 3, 4), **{**POOL, "strideH": 3, "strideW": 3}),
        case("add of 7 dimensions", "ADD", 1, (seven, seven), seven),
        case("relu of 7 dimensions", "RELU", 1, (seven,), seven),
        case("mean of 7 dimensions", "MEAN", 1, (seven, axes(5)), f(1, 1, 1, 1, 1, 3)),
        case("leak of 0", "LEAKY_RELU", 1, (x,), x, alpha=0.0),
        case("small leak", "LEAKY_RELU", 2, (q(*A),), q(*A), alpha=0.001),
        case("leak of scale 1000", "LEAKY_RELU", 2, (q(*A),), q(*A, scale=0.0001), alpha=0.1),
        case("negative leak", "LEAKY_RELU", 2, (q(*A),), q(*A), alpha=-0.5),
        case("elu int8", "ELU", 1, (q(*A),), q(*A)),
        case("divide tanh", "DIV", 1, (x, x), x, fusedActivationFunction=4),
        case("half relu", "RELU", 1, (half,), half),
        case("half floats computed", "DEQUANTIZE", 1, (half,), x),
        case(
            "no scale to reshape",
            "RESHAPE",
            1,
            (q(*A, scale=[]), axes(1, 64, 4)),
            q(1, 64, 4, scale=[]),
            newShape=[1, 64, 4],
        ),
        case("no scale to pool", "MAX_POOL_2D", 2, (q(*A, scale=[]),), q(1, 4, 4, 4, scale=[]), **POOL),
    ]


def cases() -> list[Case]:
    all_cases = [
        *(
            each
            for dtype in ("int8", "uint8")
            for how in ((0.1, 0), (0.2, 0), (0.1, 3))
            for each in of_two_ranges(dtype, *how)
        ),
        *kernels("int8"),
        *kernels("uint8"),
        *products(),
        *weighted(),
        *shapes_and_options(),
    ]
    assert len({each.name for each in all_cases}) == len(all_cases)
    return all_cases
