"""More single-op models, for what a GPU takes in floats: op × attribute × shape. One output each."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tests.support.single_ops import (
    RELU,
    RELU6,
    SAME,
    TANH,
    VALID,
    Case,
    Data,
    argmax,
    axes,
    concatenated,
    conv,
    mean,
    padded,
    plain,
    pool,
    resize,
    softmax,
    transposed,
)

IMAGE = (1, 16, 16, 8)
FLOAT = "float32"


def of(op: str, *inputs: Data, output: Data | None = None, version: int = 1, name: str = "", **options: Any) -> Case:
    return Case(name or op.lower().replace("_", " "), op, version, inputs, output or inputs[0], options)


def image(*shape: int, dtype: str = FLOAT) -> Data:
    return Data(shape or IMAGE, dtype)


def numbers(*shape: int) -> Data:
    """A float constant."""
    return Data(shape, FLOAT, np.random.default_rng(1).uniform(0.5, 2, shape))


def vector(*values: float, dtype: str = "int32") -> Data:
    """A constant vector; of one value: a scalar."""
    return Data((len(values),) if len(values) > 1 else (), dtype, np.asarray(values, dtype))


def with_options(case: Case, **options: Any) -> Case:
    return dataclasses.replace(case, options={**case.options, **options})


def computed(case: Case, place: int) -> Case:
    """The same op with an input that is computed, not constant."""
    inputs = list(case.inputs)
    inputs[place] = dataclasses.replace(inputs[place], values=None)
    return dataclasses.replace(case, inputs=tuple(inputs))


def half(case: Case) -> Case:
    return dataclasses.replace(
        case,
        inputs=tuple(dataclasses.replace(d, dtype="float16") if d.dtype == FLOAT else d for d in case.inputs),
        output=dataclasses.replace(case.output, dtype="float16"),
    )


def convolutions() -> list[Case]:
    return [
        conv("float 1x1 stride 2", FLOAT, kernel=1, stride=2),
        conv("float 1x1", FLOAT, kernel=1),
        conv("1x1 stride 2", kernel=1, stride=2),
        conv("1x1 stride 3", kernel=1, stride=3, size=(15, 17)),
        conv("1x1 stride 2 per tensor", kernel=1, stride=2, per_tensor=True),
        conv("1x1 stride 2 depthwise", kernel=1, stride=2, op="DEPTHWISE_CONV_2D"),
        conv("float conv tanh", FLOAT, fused=TANH),
        conv("float conv relu6", FLOAT, fused=RELU6),
        conv("float conv n1", FLOAT, fused=2),
        conv("float conv sign bit", FLOAT, fused=5),
        conv("float dilated", FLOAT, dilation=4, size=(32, 32)),
        conv("float grouped", FLOAT, groups=2),
        conv("float depthwise multiplier", FLOAT, op="DEPTHWISE_CONV_2D", channels=(8, 16)),
        conv("float depthwise multiplier of 1", FLOAT, op="DEPTHWISE_CONV_2D", channels=(1, 16)),
        computed(conv("float kernel computed", FLOAT), 1),
        computed(conv("float bias computed", FLOAT), 2),
        computed(conv("float depthwise kernel computed", FLOAT, op="DEPTHWISE_CONV_2D"), 1),
        computed(transposed("float transposed kernel computed", dtype=FLOAT), 1),
        transposed("float transposed relu", dtype=FLOAT, fused=RELU),
        transposed("float transposed x8", stride=8, kernel=16, dtype=FLOAT),
        half(conv("half", FLOAT)),
        of("FULLY_CONNECTED", image(1, 32), numbers(10, 32), output=image(1, 10), keepNumDims=False),
        of(
            "FULLY_CONNECTED",
            image(1, 4, 4, 32),
            numbers(10, 32),
            output=image(1, 4, 4, 10),
            keepNumDims=True,
            version=5,
            name="fully connected of an image",
        ),
        of("BATCH_MATMUL", image(1, 4, 8), image(1, 8, 6), output=image(1, 4, 6)),
    ]


def arithmetic() -> list[Case]:
    cases = []
    for op in ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"):
        cases.append(of(op, image(), image(), name=f"{op.lower()} of two"))
    for what, other in {
        "a scalar": numbers(),
        "channels": numbers(8),
        "an image of channels": numbers(1, 1, 1, 8),
        "a constant image": numbers(*IMAGE),
        "a plane": numbers(1, 16, 16, 1),
        "rows": numbers(1, 16, 1, 8),
        "computed channels": image(1, 1, 1, 8),
        "a computed plane": image(1, 16, 16, 1),
        "a computed row": image(1, 16, 1, 1),
        "computed rows": image(1, 16, 1, 8),
        "a vector": image(8),
    }.items():
        cases.append(of("MUL", image(), other, name=f"multiply by {what}"))
    cases += [
        of("ADD", image(1, 1, 1, 8), image(), output=image(), name="add channels first"),
        of("ADD", image(1, 16, 1, 8), image(1, 1, 16, 8), output=image(), name="add rows to columns"),
        of("ADD", image(), image(), name="add tanh", fusedActivationFunction=TANH),
        of("ADD", image(), image(), name="add sign bit", fusedActivationFunction=5),
        of("ADD", image(dtype="int32"), image(dtype="int32"), name="add int32"),
        of("ADD", image(dtype="int64"), image(dtype="int64"), name="add int64"),
        of("POW", image(), image(), name="power"),
    ]
    for op in (
        "ABS",
        "CEIL",
        "COS",
        "ELU",
        "EXP",
        "FLOOR",
        "HARD_SWISH",
        "LOG",
        "LOGISTIC",
        "NEG",
        "RELU",
        "RELU6",
        "RELU_N1_TO_1",
        "RELU_0_TO_1",
        "ROUND",
        "RSQRT",
        "SIGN",
        "SIN",
        "SQRT",
        "SQUARE",
        "TANH",
        "GELU",
        "LOG_SOFTMAX",
        "L2_NORMALIZATION",
        "ZEROS_LIKE",
    ):
        cases.append(of(op, image(), name=f"float {op.lower()}"))
    cases += [
        of("LEAKY_RELU", image(), name="float leaky relu", alpha=0.1),
        of("PRELU", image(), numbers(1, 1, 8)),
        of("CUMSUM", image(), vector(1)),
        of("FLOOR_DIV", image(), image()),
        of("FLOOR_MOD", image(), image()),
    ]
    return cases


def choices() -> list[Case]:
    truth = Data(IMAGE, "bool")
    cases = [
        of(op, image(), image(), output=truth) for op in ("LESS", "GREATER", "EQUAL", "NOT_EQUAL", "GREATER_EQUAL")
    ]
    return [
        *cases,
        of("SELECT_V2", truth, image(), image(), output=image()),
        of("SELECT", truth, image(), image(), output=image()),
        of("LOGICAL_AND", truth, truth),
        of("LOGICAL_NOT", truth),
        of("WHERE", truth, output=Data((8, 4), "int64")),
        of("GATHER", image(), axes(1, 3, 5), output=image(1, 16, 16, 3), axis=3),
        of(
            "GATHER",
            image(8, 4),
            Data((1, 16, 16), "int32"),
            output=image(1, 16, 16, 4),
            axis=0,
            name="gather computed",
        ),
        of("GATHER_ND", image(), Data((2, 4), "int32", np.asarray([[0, 1, 2, 3], [0, 2, 3, 4]])), output=image(2)),
        of("SCATTER_ND", Data((2, 1), "int32", [[1], [3]]), image(2, 8), axes(16, 8), output=image(16, 8)),
        of(
            "ONE_HOT",
            Data((1, 16, 16), "int32"),
            vector(8),
            vector(1.0, dtype=FLOAT),
            vector(0.0, dtype=FLOAT),
            output=image(),
            axis=-1,
        ),
        of("ARG_MIN", image(), axes(3), output=Data((1, 16, 16), "int32"), outputType=2),
        of("TOPK_V2", image(1, 16), vector(1), output=image(1, 1), name="top 1"),
        of("CAST", image(), output=Data(IMAGE, "int32"), name="cast to int32", inDataType=0, outDataType=2),
        of("CAST", image(), output=Data(IMAGE, "uint8"), name="cast to uint8", inDataType=0, outDataType=3),
        of("CAST", image(), output=Data(IMAGE, "int64"), name="cast to int64", inDataType=0, outDataType=4),
        of("CAST", Data(IMAGE, "int32"), output=image(), name="cast from int32", inDataType=2, outDataType=0),
        of("CAST", Data(IMAGE, "int64"), output=image(), name="cast from int64", inDataType=4, outDataType=0),
        of("CAST", Data(IMAGE, "bool"), output=image(), name="cast from bool", inDataType=6, outDataType=0),
        argmax("argmax float int64", "int64", dtype=FLOAT),
        argmax("argmax float rows", "int32", axis=1, dtype=FLOAT),
        argmax("argmax float 200", "int32", 200, dtype=FLOAT),
        argmax("argmax of 5", "int32", 5, dtype=FLOAT),
        argmax("argmax of 5 rows", "int32", 5, axis=1, dtype=FLOAT),
        argmax("argmax of 11 bytes", "int32", 11),
        of("REVERSE_V2", image(1, 16, 16, 5), axes(3), name="reverse 5 channels"),
    ]


def shapes() -> list[Case]:
    def cut(name: str, begin: Any, end: Any, step: Any, shape: tuple[int, ...], **masks: int) -> Case:
        return of(
            "STRIDED_SLICE", image(), axes(*begin), axes(*end), axes(*step), output=image(*shape), name=name, **masks
        )

    return [
        cut("cut", (0, 1, 2, 0), (1, 9, 10, 8), (1, 1, 1, 1), (1, 8, 8, 8)),
        cut("cut every second", (0, 0, 0, 0), (1, 16, 16, 8), (1, 2, 2, 1), (1, 8, 8, 8)),
        cut("cut channels", (0, 0, 0, 2), (1, 16, 16, 6), (1, 1, 1, 1), (1, 16, 16, 4)),
        cut("cut and shrink", (0, 0, 0, 0), (1, 1, 16, 8), (1, 1, 1, 1), (1, 16, 8), shrinkAxisMask=2),
        cut("cut with new axis", (0, 0, 0, 0), (1, 16, 16, 8), (1, 1, 1, 1), (1, 1, 16, 16, 8), newAxisMask=2),
        cut("cut with ellipsis", (0, 0), (0, 4), (1, 1), (1, 16, 16, 4), ellipsisMask=1),
        cut("cut with begin mask", (0, 5, 5, 0), (1, 16, 16, 8), (1, 1, 1, 1), (1, 16, 16, 8), beginMask=6),
        cut("cut with end mask", (0, 5, 5, 0), (1, 6, 6, 8), (1, 1, 1, 1), (1, 11, 11, 8), endMask=6),
        cut("cut backwards", (0, 15, 0, 0), (1, -17, 16, 8), (1, -1, 1, 1), IMAGE),
        computed(cut("cut computed", (0, 1, 2, 0), (1, 9, 10, 8), (1, 1, 1, 1), (1, 8, 8, 8)), 1),
        of("SLICE", image(), axes(0, 1, 2, 0), axes(1, 8, 8, 8), output=image(1, 8, 8, 8)),
        of("SLICE", image(), axes(0, 1, 2, 0), axes(1, -1, 8, -1), output=image(1, 15, 8, 8), name="slice to the end"),
        computed(
            of("SLICE", image(), axes(0, 1, 2, 0), axes(1, 8, 8, 8), output=image(1, 8, 8, 8), name="slice computed"), 1
        ),
        of("RESHAPE", image(), axes(1, 256, 8), output=image(1, 256, 8), newShape=[1, 256, 8], name="float reshape"),
        of("RESHAPE", image(), axes(1, 4, 4, 16, 8), output=image(1, 4, 4, 16, 8), name="reshape to 5"),
        of("RESHAPE", image(), axes(1, 2, 8, 4, 4, 8), output=image(1, 2, 8, 4, 4, 8), name="reshape to 6"),
        of("RESHAPE", image(), axes(2048), output=image(2048), name="reshape to 1"),
        of("RESHAPE", image(), axes(256, 8), output=image(256, 8), name="reshape to 2"),
        of("SQUEEZE", image(1, 1, 1, 8), output=image(1, 8), squeezeDims=[1, 2]),
        of("EXPAND_DIMS", image(1, 16, 8), vector(1), output=image(1, 1, 16, 8)),
        of("TRANSPOSE", image(), axes(0, 3, 1, 2), output=image(1, 8, 16, 16), name="float transpose"),
        of("TRANSPOSE", image(1, 16, 8), axes(0, 2, 1), output=image(1, 8, 16), name="transpose of 3"),
        of("TRANSPOSE", image(1, 4, 4, 4, 8), axes(0, 1, 3, 2, 4), output=image(1, 4, 4, 4, 8), name="transpose of 5"),
        of(
            "TRANSPOSE",
            image(1, 2, 4, 4, 4, 8),
            axes(0, 1, 3, 2, 4, 5),
            output=image(1, 2, 4, 4, 4, 8),
            name="transpose of 6",
        ),
        computed(of("TRANSPOSE", image(), axes(0, 3, 1, 2), output=image(1, 8, 16, 16), name="transpose computed"), 1),
        of("PACK", image(1, 16, 8), image(1, 16, 8), output=image(1, 2, 16, 8), valuesCount=2, axis=1),
        of("PACK", image(), image(), output=image(1, 2, 16, 16, 8), valuesCount=2, axis=1, name="pack to 5"),
        of("TILE", image(), axes(1, 2, 2, 1), output=image(1, 32, 32, 8)),
        of("BROADCAST_TO", image(1, 1, 1, 8), axes(1, 16, 16, 8), output=image()),
        of("SPACE_TO_DEPTH", image(), output=image(1, 8, 8, 32), blockSize=2),
        of("DEPTH_TO_SPACE", image(), output=image(1, 32, 32, 2), blockSize=2),
        of("SPACE_TO_BATCH_ND", image(), axes(2, 2), Data((2, 2), "int32", np.zeros((2, 2))), output=image(4, 8, 8, 8)),
        of("BATCH_TO_SPACE_ND", image(4, 8, 8, 8), axes(2, 2), Data((2, 2), "int32", np.zeros((2, 2))), output=image()),
        of(
            "MIRROR_PAD",
            image(),
            Data((4, 2), "int32", [[0, 0], [1, 1], [1, 1], [0, 0]]),
            output=image(1, 18, 18, 8),
            mode=0,
        ),
        of(
            "PADV2",
            image(),
            Data((4, 2), "int32", [[0, 0], [1, 1], [1, 1], [0, 0]]),
            vector(0.5, dtype=FLOAT),
            output=image(1, 18, 18, 8),
        ),
        of("REVERSE_V2", image(), axes(1)),
        of("SHAPE", image(), output=Data((4,), "int32")),
        padded("float pad batch", ((1, 0), (0, 0), (0, 0), (0, 0)), FLOAT),
        padded("float pad depth", ((0, 0), (0, 0), (0, 0), (2, 3)), FLOAT),
        computed(padded("float pad computed", ((0, 0), (1, 1), (1, 1), (0, 0)), FLOAT), 1),
        concatenated("float concatenate 12", 12, FLOAT),
        concatenated("float concatenate 3-D", 2, FLOAT, (1, 8, 8)),
        with_options(concatenated("float concatenate relu", 2, FLOAT), fusedActivationFunction=RELU),
        of("CONCATENATION", image(), image(), output=image(1, 32, 16, 8), axis=1, name="concatenate rows"),
        of("CONCATENATION", image(), image(), output=image(2, 16, 16, 8), axis=0, name="concatenate batch"),
        of(
            "CONCATENATION",
            image(1, 4, 4, 4, 8),
            image(1, 4, 4, 4, 8),
            output=image(1, 4, 4, 4, 16),
            axis=4,
            name="concatenate 5-D",
        ),
    ]


def reductions() -> list[Case]:
    two = image(2, 16, 16, 8)
    return [
        mean("float mean rows", (1,), dtype=FLOAT),
        mean("float mean depth", (3,), dtype=FLOAT),
        mean("float mean all", (1, 2, 3), dtype=FLOAT),
        mean("float mean without dims", (1, 2), False, FLOAT),
        computed(mean("float mean computed", (1, 2), dtype=FLOAT), 1),
        of("MEAN", two, axes(0), output=image(1, 16, 16, 8), keepDims=True, name="mean of the batch"),
        of("SUM", image(), axes(1, 2), output=image(1, 1, 1, 8), keepDims=True),
        of("REDUCE_MAX", image(), axes(1, 2), output=image(1, 1, 1, 8), keepDims=True),
        resize("float bilinear half", (8, 8), (16, 16), half=True, dtype=FLOAT),
        resize("float bilinear align", (8, 8), (15, 15), align=True, dtype=FLOAT),
        resize("float bilinear both", (8, 8), (16, 16), align=True, half=True, dtype=FLOAT),
        resize("float nearest", (8, 8), (16, 16), op="RESIZE_NEAREST_NEIGHBOR", dtype=FLOAT),
        resize("float nearest half", (8, 8), (24, 24), half=True, op="RESIZE_NEAREST_NEIGHBOR", dtype=FLOAT),
        resize("float nearest align", (8, 8), (15, 15), align=True, op="RESIZE_NEAREST_NEIGHBOR", dtype=FLOAT),
        computed(resize("float bilinear computed", (8, 8), (16, 16), dtype=FLOAT), 1),
        pool("float average 1x1 stride 2", "AVERAGE_POOL_2D", (1, 1), (2, 2), dtype=FLOAT),
        pool("float average same", "AVERAGE_POOL_2D", (3, 3), (2, 2), SAME, dtype=FLOAT),
        pool("float maximum same", "MAX_POOL_2D", (3, 3), (2, 2), SAME, dtype=FLOAT),
        with_options(
            pool("float maximum relu", "MAX_POOL_2D", (2, 2), (2, 2), VALID, dtype=FLOAT), fusedActivationFunction=RELU
        ),
        with_options(softmax("float softmax beta", IMAGE, FLOAT), beta=2.0),
        softmax("float softmax 2-D", (1, 10), FLOAT),
        softmax("float softmax of 300", (1, 300, 300, 8), FLOAT),
        half(plain("half add", "ADD", FLOAT, inputs=2)),
        plain("float16 weights", "DEQUANTIZE", "float16", 1, output=image()),
        of("DEQUANTIZE", Data((8, 8), "float16", np.ones((8, 8))), output=image(8, 8), name="constant float16 weights"),
        plain("int16 add", "ADD", "int16", inputs=2),
        plain("int16 relu", "RELU", "int16"),
        of("QUANTIZE", image(), output=Data(IMAGE, "uint8", zero_point=128), name="quantize to uint8"),
        of("DEQUANTIZE", Data(IMAGE, "uint8", zero_point=128), output=image(), name="dequantize uint8"),
        of("ADD", two, two, name="add of batch 2"),
        of("RELU", image(1, 2, 4, 4, 8), name="relu of 5"),
        of("RELU", image(8), name="relu of 1"),
        of("RELU", image(1, 2, 2, 4, 4, 8), name="relu of 6"),
    ]


def gpu_cases() -> list[Case]:
    cases = [*convolutions(), *arithmetic(), *choices(), *shapes(), *reductions()]
    assert len({case.name for case in cases}) == len(cases)
    return cases
