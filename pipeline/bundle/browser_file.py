"""The same network for LiteRT.js, which has arrays of uint8, int32 and float32 alone."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipeline.tflite.edit import GraphEdit

FOR_BROWSERS = {schema.TensorType.UINT8, schema.TensorType.INT32, schema.TensorType.FLOAT32}
INT8_TO_UINT8 = 128
"""Between the zero points of one range in both types."""


def browser_file(data: bytes) -> bytes:
    """The file with one op more at each end that is int8: it takes uint8 and gives the reals that int8 stands for.

    Each of the 256 values has a real of its own, so that nothing is lost. Metadata, which speak of the ends as they
    were, are left out.
    """
    edit = GraphEdit(data)
    input_index, output_index = int(edit.graph.inputs[0]), int(edit.graph.outputs[0])
    if edit.tensor(input_index).type not in FOR_BROWSERS:
        old = edit.tensor(input_index).quantization
        raw = edit.like(input_index, "image_uint8", edit.tensor(input_index).shape)
        edit.tensor(raw).type = schema.TensorType.UINT8
        shifted = schema.QuantizationParametersT()
        shifted.scale, shifted.zeroPoint = old.scale, np.asarray(old.zeroPoint) + INT8_TO_UINT8
        edit.tensor(raw).quantization = shifted
        edit.graph.operators.insert(0, edit.new_op("QUANTIZE", 1, [raw], [input_index]))
        _rename(edit, "inputs", input_index, raw)
    if edit.tensor(output_index).type not in FOR_BROWSERS:
        reals = edit.float_like(output_index, "reals")
        edit.graph.operators.append(edit.new_op("DEQUANTIZE", 2, [output_index], [reals]))
        _rename(edit, "outputs", output_index, reals)
    edit.model.metadata = []
    return edit.to_bytes()


def _rename(edit: GraphEdit, side: str, old: int, new: int) -> None:
    """Makes ``new`` the graph's input or output in the place of ``old``."""
    setattr(edit.graph, side, [new])
    for signature in edit.model.signatureDefs or []:
        for entry in getattr(signature, side):
            if entry.tensorIndex == old:
                entry.tensorIndex = new
