"""Dilated and transposed convolutions in other ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.core.rewrite import Rewrite, name_for
from pipeline.rewrites.graph import NONE, RELU, SAME, VALID
from pipeline.rewrites.parts import int8_scale, output_name
from pipeline.tflite.edit import GraphEdit


def dilated_as_dense(edit: GraphEdit, index: int, per_tensor: bool) -> list[Any] | None:
    op = edit.op(index)
    options, scale = op.builtinOptions, int8_scale(edit, index)
    if (
        scale is None
        or options.depthMultiplier not in (0, 1)
        or max(options.dilationHFactor, options.dilationWFactor) < 2
    ):
        return None
    old = edit.tensor(op.inputs[1])
    weights = edit.values(op.inputs[1], np.int8)
    _, height, width, channels = weights.shape
    dense = np.zeros((channels, height, width, channels), np.int8)
    dense[np.arange(channels), :, :, np.arange(channels)] = weights[0].transpose(2, 0, 1)
    kernel = edit.constant(f"{output_name(edit, index)}/dense/kernel", dense, old.quantization.scale, 0)
    return [
        edit.new_op(
            "CONV_2D",
            3,
            [op.inputs[0], kernel, *op.inputs[2:]],
            op.outputs,
            "Conv2DOptions",
            padding=options.padding,
            strideH=options.strideH,
            strideW=options.strideW,
            dilationHFactor=options.dilationHFactor,
            dilationWFactor=options.dilationWFactor,
            fusedActivationFunction=options.fusedActivationFunction,
        )
    ]


def transposed_without_activation(edit: GraphEdit, index: int, per_tensor: bool) -> list[Any] | None:
    """Where the zero point is the lowest code, every code stands for 0 or more, and the ReLU changes nothing."""
    op = edit.op(index)
    options = op.builtinOptions
    zero_point = edit.tensor(op.outputs[0]).quantization.zeroPoint
    if int8_scale(edit, index, 2) is None or options.fusedActivationFunction != RELU or zero_point[0] != -128:
        return None
    return [
        edit.new_op(
            "TRANSPOSE_CONV",
            3 if len(op.inputs) > 3 else 2,
            op.inputs,
            op.outputs,
            "TransposeConvOptions",
            padding=options.padding,
            strideH=options.strideH,
            strideW=options.strideW,
            fusedActivationFunction=NONE,
        )
    ]


def transposed_as_valid(edit: GraphEdit, index: int, per_tensor: bool) -> list[Any] | None:
    """Without padding the result is larger by the borders that SAME cuts off; a slice cuts them off afterwards."""
    op = edit.op(index)
    options = op.builtinOptions
    if int8_scale(edit, index, 2) is None or options.padding != SAME:
        return None
    shape = list(edit.tensor(op.outputs[0]).shape)
    kernel, old = edit.tensor(op.inputs[1]).shape[1:3], edit.tensor(op.inputs[2]).shape[1:3]
    strides = (options.strideH, options.strideW)
    full = [(n - 1) * s + max(k, s) for n, s, k in zip(old, strides, kernel, strict=True)]
    cut = [max(0, (n - 1) * s + k - m) // 2 for n, s, k, m in zip(old, strides, kernel, shape[1:3], strict=True)]
    if any(c + m > f for c, m, f in zip(cut, shape[1:3], full, strict=True)):
        return None
    name = name_for(output_name(edit, index), "valid")
    size = [shape[0], *full, shape[3]]
    wide = edit.like(op.outputs[0], f"{name}/wide", size)
    begin = [0, *cut, 0]
    bounds = [begin, [b + n for b, n in zip(begin, shape, strict=True)], [1, 1, 1, 1]]
    return [
        edit.new_op(
            "TRANSPOSE_CONV",
            3 if len(op.inputs) > 3 else 2,
            [edit.constant(f"{name}/size", np.array(size, np.int32)), *op.inputs[1:]],
            [wide],
            "TransposeConvOptions",
            padding=VALID,
            strideH=strides[0],
            strideW=strides[1],
            fusedActivationFunction=options.fusedActivationFunction,
        ),
        edit.new_op(
            "STRIDED_SLICE",
            2,
            [wide, *(edit.constant(f"{name}/slice{i}", np.array(b, np.int32)) for i, b in enumerate(bounds))],
            op.outputs,
            "StridedSliceOptions",
        ),
    ]


DILATED_AS_DENSE = Rewrite(
    "dense", ("DEPTHWISE_CONV_2D",), "a convolution whose kernel is diagonal in the channels", 0, dilated_as_dense
)
TRANSPOSED_AS_VALID = Rewrite(
    "valid", ("TRANSPOSE_CONV",), "a transposed convolution without padding, and a slice", 0, transposed_as_valid
)
TRANSPOSED_WITHOUT_ACTIVATION = Rewrite(
    "plain",
    ("TRANSPOSE_CONV",),
    "a transposed convolution without its ReLU, which the output's range makes redundant",
    0,
    transposed_without_activation,
)
