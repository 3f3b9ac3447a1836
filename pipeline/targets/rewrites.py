"""The rewrites that targets choose from. Each gives, in 8 bits, what the op gave, or one step beside it.

But for those without ``steps``: they give something else, and stand among a target's ``approximations``.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipeline.nouns.graph_edit import GraphEdit
from pipeline.nouns.rewrite import Rewrite, name_for
from pipeline.targets.rewrite_parts import FULL, int8_scale, kernel_and_bias, output_name

NONE, RELU = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU
SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
AFTER_LOGITS = ("ARG_MAX", "SOFTMAX", "DEQUANTIZE")


def pool_as_mean(edit: GraphEdit, index: int, per_tensor: bool) -> list[Any] | None:
    op = edit.op(index)
    old, options = edit.tensor(op.inputs[0]), op.builtinOptions
    window = (options.filterHeight, options.filterWidth)
    if int8_scale(edit, index) is None or window != tuple(old.shape[1:3]) or options.padding != VALID:
        return None
    axes = edit.constant(f"{output_name(edit, index)}/mean/axes", np.array([1, 2], np.int32))
    return [edit.made("MEAN", 2, [op.inputs[0], axes], op.outputs, "ReducerOptions", keepDims=True)]


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
        edit.made(
            "DEPTHWISE_CONV_2D", 3, [op.inputs[0], kernel, bias], op.outputs, "DepthwiseConv2DOptions",
            padding=VALID, strideH=options.strideH, strideW=options.strideW, depthMultiplier=1,
            dilationHFactor=1, dilationWFactor=1, fusedActivationFunction=options.fusedActivationFunction,
        )
    ]  # fmt: skip


def resize_as_products(edit: GraphEdit, index: int, per_tensor: bool) -> list[Any] | None:
    """Rows, then columns: the axis that is resized becomes the channels of a 1×1 convolution with a fixed matrix."""
    op = edit.op(index)
    scale = int8_scale(edit, index)
    if scale is None:
        return None
    _, old_h, old_w, _ = edit.tensor(op.inputs[0]).shape
    _, new_h, new_w, _ = edit.tensor(op.outputs[0]).shape
    name = name_for(output_name(edit, index), "products")
    ops: list[Any] = []

    def then(
        kind: str, version: int, data: int, more: list[int], suffix: str, shape: Any, table: str, **options: Any
    ) -> int:
        made = edit.like(op.inputs[0], f"{name}/{suffix}", shape)
        ops.append(edit.made(kind, version, [data, *more], [made], table, **options))
        return made

    def transposed(data: int, order: tuple[int, ...], suffix: str) -> int:
        shape = [edit.tensor(data).shape[i] for i in order]
        axes = edit.constant(f"{name}/{suffix}/order", np.array(order, np.int32))
        return then("TRANSPOSE", 2, data, [axes], suffix, shape, "TransposeOptions")

    def product(data: int, matrix: np.ndarray, suffix: str) -> int:
        weights = np.rint(FULL * matrix)
        weights[np.arange(len(matrix)), matrix.argmax(1)] += FULL - weights.sum(1)  # what is flat stays flat
        weights, each = weights.reshape(len(matrix), 1, 1, -1), [1 / FULL] * len(matrix)
        kernel, bias = kernel_and_bias(edit, f"{name}/{suffix}", weights, each, 0, scale, per_tensor)
        return then(
            "CONV_2D", 3, data, [kernel, bias], suffix, [*edit.tensor(data).shape[:3], len(matrix)], "Conv2DOptions",
            padding=VALID, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1, fusedActivationFunction=NONE,
        )  # fmt: skip

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
    """All but the last resize."""
    return None if _makes_logits(edit, index) else resize_as_products(edit, index, per_tensor)


def last_resize_as_chain(edit: GraphEdit, index: int, per_tensor: bool) -> list[Any] | None:
    """The last resize, of half-pixel centres, as doublings, each of half-pixel centres again.

    Two doublings are not one resize by 4: each cuts corners (of its new samples none lies on an old one), and the next
    cuts those that are left. Both keep the centre of the map. A resize that aligns corners has no such chain: a
    doubling that does so makes 2n - 1 of n.
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
        made = op.outputs[0] if step == times else edit.like(x, f"{name}/{1 << step}", (batch, *size, channels))
        shape = edit.constant(f"{name}/size{1 << step}", np.array(size, np.int32))
        ops.append(
            edit.made(
                "RESIZE_BILINEAR", 3, [x, shape], [made], "ResizeBilinearOptions", alignCorners=False,
                halfPixelCenters=True,
            )
        )  # fmt: skip
        x = made
    return ops


def padding_folded(edit: GraphEdit, index: int, per_tensor: bool) -> list[Any] | None:
    """A border of zeros that all readers add themselves, where SAME puts as many before the map as the PAD does."""
    op = edit.op(index)
    old, made = edit.tensor(op.inputs[0]), edit.tensor(op.outputs[0])
    paddings = edit.tensor(op.inputs[1])
    if (
        int8_scale(edit, index) is None or len(old.shape) != 4 or op.outputs[0] in edit.graph.outputs
        or paddings.type != schema.TensorType.INT32 or edit.model.buffers[paddings.buffer].data is None
        or list(old.quantization.zeroPoint) != list(made.quantization.zeroPoint)
    ):  # fmt: skip
        return None
    borders = edit.values(op.inputs[1], np.int32)
    readers = edit.readers_of(op.outputs[0])
    if borders[0].any() or borders[3].any() or not readers:
        return None
    if not all(_pads_itself(edit, reader, op, borders[1:3, 0]) for reader in readers):
        return None
    for reader in readers:
        reads = edit.op(reader)
        reads.inputs, reads.builtinOptions.padding = [op.inputs[0], *reads.inputs[1:]], SAME
    return []


def _pads_itself(edit: GraphEdit, reader: int, pad: Any, before: np.ndarray) -> bool:
    """Whether the op, VALID until now, would with SAME add ``before`` rows and columns in front and give as much."""
    op, name = edit.op(reader), edit.name_of(reader)
    options = op.builtinOptions
    if name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        kernel = edit.tensor(op.inputs[1]).shape[1:3]
        dilations = (options.dilationHFactor, options.dilationWFactor)
        window = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    elif name == "MAX_POOL_2D" and edit.tensor(pad.outputs[0]).quantization.zeroPoint[0] == -128:
        window = [options.filterHeight, options.filterWidth]  # a zero is the lowest code, which never wins
    else:
        return False
    if options.padding != VALID or list(op.inputs).count(pad.outputs[0]) != 1 or op.inputs[0] != pad.outputs[0]:
        return False
    old, new = edit.tensor(pad.inputs[0]).shape[1:3], edit.tensor(op.outputs[0]).shape[1:3]
    return all(
        n == -(-o // s) and b == max(0, (n - 1) * s + w - o) // 2
        for o, n, s, w, b in zip(old, new, (options.strideH, options.strideW), window, before, strict=True)
    )


def _makes_logits(edit: GraphEdit, index: int) -> bool:
    """Whether the op makes the result, but for what turns logits into scores, a mask or another type."""
    made = edit.op(index).outputs[0]
    readers = [edit.name_of(reader) for reader in edit.readers_of(made)]
    return made in edit.graph.outputs or (bool(readers) and set(readers) <= set(AFTER_LOGITS))


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
        ("column", height, (1, height, 1, channels)), ("rows", width, (1, height, width, channels)),
    ):  # fmt: skip
        rows = edit.tensor(x).shape[1]
        weights = np.tile(FULL * np.eye(channels), (times, 1)).reshape(times * channels, 1, 1, channels)
        each = [1 / FULL] * (times * channels)
        kernel, bias = kernel_and_bias(edit, f"{name}/{suffix}", weights, each, 0, scale, per_tensor)
        wide = edit.like(x, f"{name}/{suffix}/wide", (1, rows, 1, times * channels))
        made = edit.like(x, f"{name}/{suffix}", shape)
        size = edit.constant(f"{name}/{suffix}/shape", np.array(shape, np.int32))
        ops += [
            edit.made(
                "CONV_2D", 3, [x, kernel, bias], [wide], "Conv2DOptions", padding=VALID, strideH=1, strideW=1,
                dilationHFactor=1, dilationWFactor=1, fusedActivationFunction=NONE,
            ),
            edit.made("RESHAPE", 1, [wide, size], [made], "ReshapeOptions", newShape=list(shape)),
        ]  # fmt: skip
        x = made
    ops[-1].outputs = op.outputs
    return ops


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
        edit.made(
            "CONV_2D", 3, [op.inputs[0], kernel, *op.inputs[2:]], op.outputs, "Conv2DOptions", padding=options.padding,
            strideH=options.strideH, strideW=options.strideW, dilationHFactor=options.dilationHFactor,
            dilationWFactor=options.dilationWFactor, fusedActivationFunction=options.fusedActivationFunction,
        )
    ]  # fmt: skip


def transposed_without_activation(edit: GraphEdit, index: int, per_tensor: bool) -> list[Any] | None:
    """A ReLU does nothing to codes that stand for 0 and more: where zero point is the lowest code it can go."""
    op = edit.op(index)
    options = op.builtinOptions
    zero_point = edit.tensor(op.outputs[0]).quantization.zeroPoint
    if int8_scale(edit, index, 2) is None or options.fusedActivationFunction != RELU or zero_point[0] != -128:
        return None
    return [
        edit.made(
            "TRANSPOSE_CONV", 3 if len(op.inputs) > 3 else 2, op.inputs, op.outputs, "TransposeConvOptions",
            padding=options.padding, strideH=options.strideH, strideW=options.strideW, fusedActivationFunction=NONE,
        )
    ]  # fmt: skip


def transposed_as_valid(edit: GraphEdit, index: int, per_tensor: bool) -> list[Any] | None:
    """Without padding the result is larger by what SAME cuts off at its borders; a slice cuts it off after."""
    op = edit.op(index)
    options = op.builtinOptions
    if int8_scale(edit, index, 2) is None or options.padding != SAME:
        return None
    shape = list(edit.tensor(op.outputs[0]).shape)
    kernel, old = edit.tensor(op.inputs[1]).shape[1:3], edit.tensor(op.inputs[2]).shape[1:3]
    strides = (options.strideH, options.strideW)
    whole = [(n - 1) * s + max(k, s) for n, s, k in zip(old, strides, kernel, strict=True)]
    cut = [max(0, (n - 1) * s + k - m) // 2 for n, s, k, m in zip(old, strides, kernel, shape[1:3], strict=True)]
    if any(c + m > w for c, m, w in zip(cut, shape[1:3], whole, strict=True)):
        return None
    name = name_for(output_name(edit, index), "valid")
    size = [shape[0], *whole, shape[3]]
    wide = edit.like(op.outputs[0], f"{name}/wide", size)
    begin = [0, *cut, 0]
    bounds = [begin, [b + n for b, n in zip(begin, shape, strict=True)], [1, 1, 1, 1]]
    return [
        edit.made(
            "TRANSPOSE_CONV", 3 if len(op.inputs) > 3 else 2,
            [edit.constant(f"{name}/size", np.array(size, np.int32)), *op.inputs[1:]], [wide], "TransposeConvOptions",
            padding=VALID, strideH=strides[0], strideW=strides[1],
            fusedActivationFunction=options.fusedActivationFunction,
        ),
        edit.made(
            "STRIDED_SLICE", 2,
            [wide, *(edit.constant(f"{name}/slice{i}", np.array(b, np.int32)) for i, b in enumerate(bounds))],
            op.outputs, "StridedSliceOptions",
        ),
    ]  # fmt: skip


POOL_AS_MEAN = Rewrite("mean", ("AVERAGE_POOL_2D",), "a MEAN over rows and columns", 1, pool_as_mean)
POOL_AS_DEPTHWISE = Rewrite(
    "depthwise", ("AVERAGE_POOL_2D",), "a depthwise convolution whose weights are all one number", 1, pool_as_depthwise
)
RESIZE_AS_PRODUCTS = Rewrite(
    "products", ("RESIZE_BILINEAR",), "its two interpolation matrices as 1×1 convolutions, transposes between", 2,
    resize_as_products,
)  # fmt: skip
INNER_RESIZE_AS_PRODUCTS = dataclasses.replace(RESIZE_AS_PRODUCTS, make=inner_resize_as_products)
PIXEL_AS_CONVOLUTIONS = Rewrite(
    "repeats", ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), "two 1×1 convolutions that repeat the one pixel", 0,
    pixel_as_convolutions,
)  # fmt: skip
DILATED_AS_DENSE = Rewrite(
    "dense", ("DEPTHWISE_CONV_2D",), "a convolution whose kernel is diagonal in the channels", 0, dilated_as_dense
)
TRANSPOSED_AS_VALID = Rewrite(
    "valid", ("TRANSPOSE_CONV",), "a transposed convolution without padding, and a slice", 0, transposed_as_valid
)
TRANSPOSED_WITHOUT_ACTIVATION = Rewrite(
    "plain", ("TRANSPOSE_CONV",), "a transposed convolution without its ReLU, which the output's range does already", 0,
    transposed_without_activation,
)  # fmt: skip
PADDING_FOLDED = Rewrite(
    "fold", ("PAD",), "the padding of the ops that read it", 0, padding_folded, always="the op itself is spared"
)
RESIZE_CHAIN = Rewrite(
    "resize-chain", ("RESIZE_BILINEAR",), "a chain of half-pixel resizes by 2, which is not the same", None,
    last_resize_as_chain,
    needs="the last resize of a network with half-pixel centres, by 4, 8 or 16 (one that aligns corners has no chain)",
)  # fmt: skip
