"""Bilinear resizes in other ops."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from pipeline.core.rewrite import Rewrite, name_for
from pipeline.rewrites.graph import NONE, VALID
from pipeline.rewrites.parts import FULL, int8_scale, kernel_and_bias, output_name
from pipeline.tflite.edit import GraphEdit

AFTER_LOGITS = ("ARG_MAX", "SOFTMAX", "DEQUANTIZE")
"""Ops that turn logits into a mask, scores or another type."""
ONE_BY_ONE = {
    "padding": VALID,
    "strideH": 1,
    "strideW": 1,
    "dilationHFactor": 1,
    "dilationWFactor": 1,
    "fusedActivationFunction": NONE,
}
"""Options of a 1×1 convolution."""


def resize_as_products(edit: GraphEdit, index: int, per_tensor: bool) -> list[Any] | None:
    """Rows, then columns: the axis to resize becomes the channels of a 1×1 convolution with a fixed matrix."""
    op = edit.op(index)
    scale = int8_scale(edit, index)
    if scale is None:
        return None
    _, old_h, old_w, _ = edit.tensor(op.inputs[0]).shape
    _, new_h, new_w, _ = edit.tensor(op.outputs[0]).shape
    name = name_for(output_name(edit, index), "products")
    ops: list[Any] = []

    def then(kind: str, version: int, inputs: list[int], suffix: str, shape: Any, table: str, **options: Any) -> int:
        output = edit.like(op.inputs[0], f"{name}/{suffix}", shape)
        ops.append(edit.new_op(kind, version, inputs, [output], table, **options))
        return output

    def transposed(data: int, order: tuple[int, ...], suffix: str) -> int:
        shape = [edit.tensor(data).shape[i] for i in order]
        axes = edit.constant(f"{name}/{suffix}/order", np.array(order, np.int32))
        return then("TRANSPOSE", 2, [data, axes], suffix, shape, "TransposeOptions")

    def product(data: int, matrix: np.ndarray, suffix: str) -> int:
        weights = np.rint(FULL * matrix)
        weights[np.arange(len(matrix)), matrix.argmax(1)] += FULL - weights.sum(
            1
        )  # each row sums to 1, so a constant map stays constant
        weights, each = weights.reshape(len(matrix), 1, 1, -1), [1 / FULL] * len(matrix)
        kernel, bias = kernel_and_bias(edit, f"{name}/{suffix}", weights, each, 0, scale, per_tensor)
        shape = [*edit.tensor(data).shape[:3], len(matrix)]
        return then("CONV_2D", 3, [data, kernel, bias], suffix, shape, "Conv2DOptions", **ONE_BY_ONE)

    options = op.builtinOptions
    convention = (bool(options.alignCorners), bool(options.halfPixelCenters))
    x = transposed(op.inputs[0], (0, 2, 3, 1), "rows_last")
    x = product(x, interpolation(old_h, new_h, *convention), "rows")
    x = transposed(x, (0, 3, 2, 1), "columns_last")
    x = product(x, interpolation(old_w, new_w, *convention), "columns")
    x = transposed(x, (0, 1, 3, 2), "channels_last")
    ops[-1].outputs = op.outputs
    return ops


def inner_resize_as_products(edit: GraphEdit, index: int, per_tensor: bool) -> list[Any] | None:
    """As ``resize_as_products``, for every resize but the last."""
    return None if _makes_logits(edit, index) else resize_as_products(edit, index, per_tensor)


def last_resize_as_chain(edit: GraphEdit, index: int, per_tensor: bool) -> list[Any] | None:
    """The last resize, with half-pixel centres, as a chain of doublings with half-pixel centres.

    Two doublings are not the same as one resize by 4: no new sample of a doubling lies on an old one, so each smooths
    the map further. Both keep the centre of the map. A resize that aligns corners has no such chain, because a doubling
    that aligns corners makes 2n - 1 samples of n.
    """
    op = edit.op(index)
    options = op.builtinOptions
    if int8_scale(edit, index) is None or not options.halfPixelCenters or options.alignCorners:
        return None
    old, new = (tuple(edit.tensor(i).shape[1:3]) for i in (op.inputs[0], op.outputs[0]))
    times = int(math.log2(max(1, new[0] // old[0])))
    if times < 2 or new != (old[0] << times, old[1] << times) or not _makes_logits(edit, index):
        return None
    name, x = name_for(output_name(edit, index), "resize-chain"), op.inputs[0]
    batch, _, _, channels = edit.tensor(x).shape
    ops: list[Any] = []
    for step in range(1, times + 1):
        size = (old[0] << step, old[1] << step)
        output = op.outputs[0] if step == times else edit.like(x, f"{name}/{1 << step}", (batch, *size, channels))
        shape = edit.constant(f"{name}/size{1 << step}", np.array(size, np.int32))
        ops.append(
            edit.new_op(
                "RESIZE_BILINEAR",
                3,
                [x, shape],
                [output],
                "ResizeBilinearOptions",
                alignCorners=False,
                halfPixelCenters=True,
            )
        )
        x = output
    return ops


def _makes_logits(edit: GraphEdit, index: int) -> bool:
    """Whether the op writes the logits: an output of the graph, or what only AFTER_LOGITS read."""
    output = edit.op(index).outputs[0]
    readers = [edit.name_of(reader) for reader in edit.readers_of(output)]
    return output in edit.graph.outputs or (bool(readers) and set(readers) <= set(AFTER_LOGITS))


def interpolation(old: int, new: int, align_corners: bool, half_pixel: bool) -> np.ndarray:
    """float64 [new, old]: the matrix of a bilinear resize along one axis, each row summing to 1."""
    matrix = np.zeros((new, old))
    step = (old - 1) / (new - 1) if align_corners and new > 1 else old / new
    for i in range(new):
        at = (i + 0.5) * step - 0.5 if half_pixel else i * step
        at = min(max(at, 0.0), old - 1.0)
        low = min(int(at), old - 1)
        matrix[i, low] += 1 - (at - low)
        matrix[i, min(low + 1, old - 1)] += at - low
    return matrix


def pixel_as_convolutions(edit: GraphEdit, index: int, per_tensor: bool) -> list[Any] | None:
    """A resize of one pixel repeats it: down a column of h times the channels, then along rows of w times."""
    op = edit.op(index)
    scale = int8_scale(edit, index)
    _, old_h, old_w, channels = edit.tensor(op.inputs[0]).shape
    if scale is None or (old_h, old_w) != (1, 1):
        return None
    _, height, width, _ = edit.tensor(op.outputs[0]).shape
    name = name_for(output_name(edit, index), "repeats")
    ops: list[Any] = []
    x = op.inputs[0]
    for suffix, times, shape in (
        ("column", height, (1, height, 1, channels)),
        ("rows", width, (1, height, width, channels)),
    ):
        rows = edit.tensor(x).shape[1]
        weights = np.tile(FULL * np.eye(channels), (times, 1)).reshape(times * channels, 1, 1, channels)
        each = [1 / FULL] * (times * channels)
        kernel, bias = kernel_and_bias(edit, f"{name}/{suffix}", weights, each, 0, scale, per_tensor)
        wide = edit.like(x, f"{name}/{suffix}/wide", (1, rows, 1, times * channels))
        output = edit.like(x, f"{name}/{suffix}", shape)
        size = edit.constant(f"{name}/{suffix}/shape", np.array(shape, np.int32))
        ops += [
            edit.new_op("CONV_2D", 3, [x, kernel, bias], [wide], "Conv2DOptions", **ONE_BY_ONE),
            edit.new_op("RESHAPE", 1, [wide, size], [output], "ReshapeOptions", newShape=list(shape)),
        ]
        x = output
    ops[-1].outputs = op.outputs
    return ops


RESIZE_AS_PRODUCTS = Rewrite(
    "products",
    ("RESIZE_BILINEAR",),
    "its two interpolation matrices as 1×1 convolutions, with transposes between them",
    2,
    resize_as_products,
)
INNER_RESIZE_AS_PRODUCTS = dataclasses.replace(RESIZE_AS_PRODUCTS, make=inner_resize_as_products)
PIXEL_AS_CONVOLUTIONS = Rewrite(
    "repeats",
    ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"),
    "two 1×1 convolutions that repeat the one pixel",
    0,
    pixel_as_convolutions,
)
RESIZE_CHAIN = Rewrite(
    "resize-chain",
    ("RESIZE_BILINEAR",),
    "a chain of half-pixel resizes by 2, an approximation",
    None,
    last_resize_as_chain,
    needs="the last resize of a network with half-pixel centres, by 4, 8 or 16 (one that aligns corners has no chain)",
)
