"""PADs that the convolutions and pools behind them take over."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipeline.core.rewrite import Rewrite
from pipeline.rewrites.graph import SAME, VALID
from pipeline.rewrites.parts import int8_scale
from pipeline.tflite.edit import GraphEdit


def padding_folded(edit: GraphEdit, index: int, per_tensor: bool) -> list[Any] | None:
    """A border of zeros that all readers add themselves, where SAME adds as many rows and columns as the PAD."""
    op = edit.op(index)
    old, wide = edit.tensor(op.inputs[0]), edit.tensor(op.outputs[0])
    paddings = edit.tensor(op.inputs[1])
    if (
        int8_scale(edit, index) is None
        or len(old.shape) != 4
        or op.outputs[0] in edit.graph.outputs
        or paddings.type != schema.TensorType.INT32
        or edit.model.buffers[paddings.buffer].data is None
        or list(old.quantization.zeroPoint) != list(wide.quantization.zeroPoint)
    ):
        return None
    borders = edit.values(op.inputs[1], np.int32)
    readers = edit.readers_of(op.outputs[0])
    if borders[0].any() or borders[3].any() or not readers:
        return None
    if not all(_pads_itself(edit, reader, op, borders[1:3, 0]) for reader in readers):
        return None
    for reader in readers:
        other = edit.op(reader)
        other.inputs, other.builtinOptions.padding = [op.inputs[0], *other.inputs[1:]], SAME
    return []


def _pads_itself(edit: GraphEdit, reader: int, pad: Any, before: np.ndarray) -> bool:
    """Whether the op, which is VALID now, would with SAME add ``before`` rows and columns and keep its output size."""
    op, name = edit.op(reader), edit.name_of(reader)
    options = op.builtinOptions
    if name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        kernel = edit.tensor(op.inputs[1]).shape[1:3]
        dilations = (options.dilationHFactor, options.dilationWFactor)
        window = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    elif name == "MAX_POOL_2D" and edit.tensor(pad.outputs[0]).quantization.zeroPoint[0] == -128:
        window = [options.filterHeight, options.filterWidth]  # the zeros are the lowest code, which never wins
    else:
        return False
    if options.padding != VALID or list(op.inputs).count(pad.outputs[0]) != 1 or op.inputs[0] != pad.outputs[0]:
        return False
    old, new = edit.tensor(pad.inputs[0]).shape[1:3], edit.tensor(op.outputs[0]).shape[1:3]
    return all(
        n == -(-o // s) and b == max(0, (n - 1) * s + w - o) // 2
        for o, n, s, w, b in zip(old, new, (options.strideH, options.strideW), window, before, strict=True)
    )


PADDING_FOLDED = Rewrite(
    "fold", ("PAD",), "the padding of the ops that read it", 0, padding_folded, always="it saves the op"
)
