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
    given, made = int(edit.graph.inputs[0]), int(edit.graph.outputs[0])
    if edit.tensor(given).type not in FOR_BROWSERS:
        old = edit.tensor(given).quantization
        raw = edit.like(given, "image_uint8", edit.tensor(given).shape)
        edit.tensor(raw).type = schema.TensorType.UINT8
        shifted = schema.QuantizationParametersT()
        shifted.scale, shifted.zeroPoint = old.scale, np.asarray(old.zeroPoint) + INT8_TO_UINT8
        edit.tensor(raw).quantization = shifted
        edit.graph.operators.insert(0, edit.new_op("QUANTIZE", 1, [raw], [given]))
        _rename(edit, "inputs", given, raw)
    if edit.tensor(made).type not in FOR_BROWSERS:
        reals = edit.float_like(made, "reals")
        edit.graph.operators.append(edit.new_op("DEQUANTIZE", 2, [made], [reals]))
        _rename(edit, "outputs", made, reals)
    edit.model.metadata = []
    return edit.to_bytes()


def _rename(edit: GraphEdit, side: str, old: int, new: int) -> None:
    """Makes ``new`` the graph's input or output in the place of ``old``."""
    setattr(edit.graph, side, [new])
    for signature in edit.model.signatureDefs or []:
        for entry in getattr(signature, side):
            if entry.tensorIndex == old:
                entry.tensorIndex = new
