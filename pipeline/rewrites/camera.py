"""Rewrites of how a camera's bytes enter the network: the same numbers, in less time."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipeline.core.rewrite import Rewrite, name_for
from pipeline.rewrites.parts import int8_scale, output_name
from pipeline.tflite.edit import GraphEdit

NONE, SAME, VALID = schema.ActivationFunctionType.NONE, schema.Padding.SAME, schema.Padding.VALID
GROUP, FEW_CHANNELS = 4, 4


def bytes_through_float(edit: GraphEdit, index: int, per_tensor: bool) -> list[Any] | None:
    """Each byte becomes its float, and that float the same byte again: the values do not change."""
    op = edit.op(index)
    types = {edit.tensor(i).type for i in (op.inputs[0], op.outputs[0])}
    ranges = [edit.tensor(i).quantization.scale[0] for i in (op.inputs[0], op.outputs[0])]
    if types != {schema.TensorType.UINT8, schema.TensorType.INT8} or ranges[0] != ranges[1]:
        return None
    values = edit.float_like(op.inputs[0], f"{name_for(output_name(edit, index), 'float')}/values")
    return [
        edit.new_op("DEQUANTIZE", 3, op.inputs, [values], "DequantizeOptions"),
        edit.new_op("QUANTIZE", 2, [values], op.outputs, "QuantizeOptions"),
    ]


# long: one kernel's layout, from beginning to end
def pixels_as_channels(edit: GraphEdit, index: int, per_tensor: bool) -> list[Any] | None:
    """Groups of pixels of a row become channels, and so do the output columns of each group; bytes keep their order.

    A kernel of 3 columns and stride 2 reaches one pixel into the next group, so the new kernel has 2 columns, with
    weight 0 for pixels that it does not reach. SAME pads an even row on its right alone, in both forms.
    """
    op = edit.op(index)
    options = op.builtinOptions
    _, height, width, channels = edit.tensor(op.inputs[0]).shape
    _, new_height, new_width, filters = edit.tensor(op.outputs[0]).shape
    kernel = edit.tensor(op.inputs[1])
    dilations = (options.dilationHFactor, options.dilationWFactor)
    if (
        int8_scale(edit, index) is None
        or channels > FEW_CHANNELS
        or width % GROUP
        or kernel.shape[2] != 3
        or options.strideW != 2
        or options.padding != SAME
        or dilations != (1, 1)
        or kernel.shape[3] != channels
    ):
        return None
    old = edit.values(op.inputs[1], np.int8)
    columns = GROUP // 2
    weights = np.zeros((columns, filters, kernel.shape[1], 2, GROUP, channels), np.int8)
    for column in range(columns):
        for tap in range(3):
            group, pixel = divmod(2 * column + tap, GROUP)
            weights[column, :, :, group, pixel] = old[:, :, tap]
    weights = weights.reshape(columns * filters, kernel.shape[1], 2, GROUP * channels)
    name = name_for(output_name(edit, index), "groups")

    def repeated(at: int, suffix: str, values: np.ndarray) -> int:
        scales = edit.tensor(op.inputs[at]).quantization.scale
        return edit.constant(f"{name}/{suffix}", values, list(scales) * (1 if len(scales) == 1 else columns))

    inputs = [repeated(1, "kernel", weights)]
    if len(op.inputs) > 2:
        inputs.append(repeated(2, "bias", np.tile(edit.values(op.inputs[2], np.int32), columns)))
    wide = (1, height, width // GROUP, GROUP * channels)
    narrow = (1, new_height, width // GROUP, columns * filters)
    grouped = edit.like(op.inputs[0], f"{name}/pixels", wide)
    result = edit.like(op.outputs[0], f"{name}/columns", narrow)
    sizes = [
        edit.constant(f"{name}/size{i}", np.array(s, np.int32))
        for i, s in enumerate((wide, edit.tensor(op.outputs[0]).shape))
    ]
    return [
        edit.new_op("RESHAPE", 1, [op.inputs[0], sizes[0]], [grouped], "ReshapeOptions", newShape=list(wide)),
        edit.new_op(
            "CONV_2D",
            3,
            [grouped, *inputs],
            [result],
            "Conv2DOptions",
            padding=SAME,
            strideH=options.strideH,
            strideW=1,
            dilationHFactor=1,
            dilationWFactor=1,
            fusedActivationFunction=options.fusedActivationFunction,
        ),
        edit.new_op(
            "RESHAPE",
            1,
            [result, sizes[1]],
            op.outputs,
            "ReshapeOptions",
            newShape=[1, new_height, new_width, filters],
        ),
    ]


BYTES_THROUGH_FLOAT = Rewrite(
    "float", ("QUANTIZE",), "a DEQUANTIZE and a QUANTIZE, which XNNPACK runs in one pass", 0, bytes_through_float
)
PIXELS_AS_CHANNELS = Rewrite(
    "groups",
    ("CONV_2D",),
    "a convolution over groups of 4 pixels of a row, as channels",
    0,
    pixels_as_channels,
    always="AMX multiplies 64 channels at a time, and the image has 3",
)
