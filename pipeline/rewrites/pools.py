"""Average pools in other ops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pipeline.core.rewrite import Rewrite, name_for
from pipeline.rewrites.graph import VALID
from pipeline.rewrites.parts import FULL, int8_scale, kernel_and_bias, output_name
from pipeline.tflite.edit import GraphEdit


def pool_as_mean(edit: GraphEdit, index: int, per_tensor: bool) -> list[Any] | None:
    op = edit.op(index)
    old, options = edit.tensor(op.inputs[0]), op.builtinOptions
    window = (options.filterHeight, options.filterWidth)
    if int8_scale(edit, index) is None or window != tuple(old.shape[1:3]) or options.padding != VALID:
        return None
    axes = edit.constant(f"{output_name(edit, index)}/mean/axes", np.array([1, 2], np.int32))
    return [edit.new_op("MEAN", 2, [op.inputs[0], axes], op.outputs, "ReducerOptions", keepDims=True)]


def pool_as_depthwise(edit: GraphEdit, index: int, per_tensor: bool) -> list[Any] | None:
    op = edit.op(index)
    options = op.builtinOptions
    scale = int8_scale(edit, index)
    if scale is None or options.padding != VALID:
        return None
    channels = edit.tensor(op.inputs[0]).shape[3]
    window = (options.filterHeight, options.filterWidth)
    each = 1 / (FULL * math.prod(window))
    name = name_for(output_name(edit, index), "depthwise")
    kernel, bias = kernel_and_bias(
        edit, name, np.full((1, *window, channels), FULL), [each] * channels, 3, scale, per_tensor
    )
    return [
        edit.new_op(
            "DEPTHWISE_CONV_2D",
            3,
            [op.inputs[0], kernel, bias],
            op.outputs,
            "DepthwiseConv2DOptions",
            padding=VALID,
            strideH=options.strideH,
            strideW=options.strideW,
            depthMultiplier=1,
            dilationHFactor=1,
            dilationWFactor=1,
            fusedActivationFunction=options.fusedActivationFunction,
        )
    ]


POOL_AS_MEAN = Rewrite("mean", ("AVERAGE_POOL_2D",), "a MEAN over rows and columns", 1, pool_as_mean)
POOL_AS_DEPTHWISE = Rewrite(
    "depthwise", ("AVERAGE_POOL_2D",), "a depthwise convolution whose weights are all one number", 1, pool_as_depthwise
)
