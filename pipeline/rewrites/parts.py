"""What rewrites have in common: an op's name and scale, and kernels of given integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipeline.tflite.edit import GraphEdit

FULL = 127
"""Largest weight: kernels are symmetric int8."""


def output_name(edit: GraphEdit, index: int) -> str:
    name = edit.tensor(edit.op(index).outputs[0]).name
    return name.decode() if isinstance(name, bytes) else str(name)


def int8_scale(edit: GraphEdit, index: int, data_at: int = 0) -> float | None:
    """The scale of the op's data; None where the data is not quantized int8."""
    data = edit.tensor(edit.op(index).inputs[data_at])
    if data.type != schema.TensorType.INT8 or data.quantization is None or data.quantization.scale is None:
        return None
    return float(data.quantization.scale[0])


def kernel_and_bias(
    edit: GraphEdit, name: str, weights: np.ndarray, scales: Any, axis: int, data_scale: float, per_tensor: bool
) -> tuple[int, int]:
    """Adds a kernel of these integers, with one scale per channel or one in all, and a bias; returns their indices.

    The bias is one step of the product's scale, the smallest there is. Without it many means lie exactly between two
    output steps, and runtimes round such ties differently. With it WebGPU gives the same values as XNNPACK.
    """
    scales = np.asarray(scales, np.float64)
    if per_tensor:
        shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
        weights = np.rint(weights * (scales / scales.max()).reshape(shape))
        scales = scales.max(keepdims=True)
    kernel = edit.constant(f"{name}/kernel", weights.astype(np.int8), scales, axis if len(scales) > 1 else 0)
    bias = edit.constant(f"{name}/bias", np.ones(weights.shape[axis], np.int32), scales * data_scale)
    return kernel, bias
