"""A .tflite file as ops and tensors, and the recipe that travels inside it.

Reading never hands the bytes to a runtime: a broken file can end the process there.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipeline.nouns.errors import ArtifactError

RECIPE_KEY = "segquant.recipe"
IDENTIFIER = b"TFL3"
WEIGHTED = {"CONV_2D": (0, 1, 2, 0), "DEPTHWISE_CONV_2D": (0, 1, 2, 3), "TRANSPOSE_CONV": (2, 1, 3, 0)}
"""Op → places of its data, kernel and bias among its inputs, and the kernel's axis of output channels."""


def _names(enum: type) -> dict[int, str]:
    return {v: k for k, v in vars(enum).items() if isinstance(v, int)}


OP_NAMES = _names(schema.BuiltinOperator)
TYPE_NAMES = {v: k.lower() for v, k in _names(schema.TensorType).items()}
PADDINGS = _names(schema.Padding)
ACTIVATIONS = _names(schema.ActivationFunctionType)
TYPE_BITS = {
    "bool": 8, "int2": 2, "int4": 4, "uint4": 4, "float8_e4m3fn": 8, "float8_e5m2": 8, "uint8": 8, "int8": 8,
    "int16": 16, "uint16": 16, "float16": 16, "bfloat16": 16, "int32": 32,
    "uint32": 32, "float32": 32, "int64": 64, "uint64": 64, "float64": 64, "complex64": 64, "complex128": 128,
}  # fmt: skip
NUMBERS = ("int8", "uint8", "int16", "int32", "int64", "float32")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of the file.

    Attributes:
      dtype: 'int8', 'float32', ...
      scale, zero_point: per tensor or per channel; empty where the tensor is not quantized.
      axis: the one that the channels of a per-channel scale lie on.
      constant: whether its values are in the file.
      size_bytes: of the constant values; 0 for activations.
      lowest: smallest value of an int8 constant; None for all others.
      values: of a constant with at most 64 numbers, such as axes and sizes, flattened; None for all others.
    """

    name: str
    shape: tuple[int, ...]
    dynamic: bool
    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int
    constant: bool
    size_bytes: int
    lowest: int | None = None
    values: tuple[float, ...] | None = None

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def activation_bytes(self) -> int:
        """What the tensor needs in memory while it is alive, unpadded."""
        return math.ceil(self.elements * TYPE_BITS.get(self.dtype, 0) / 8)


@dataclasses.dataclass(frozen=True)
class Op:
    """One operator: its place in the file, name, version, the tensors it reads (−1: none) and writes.

    Attributes:
      options: what the schema's table of options for this op holds, under the schema's own names, with 'padding' and
        'fusedActivationFunction' as words.
      custom: whether the name is that of a custom op.
    """

    index: int
    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    custom: bool = False


@dataclasses.dataclass(frozen=True)
class Graph:
    """The first subgraph of a .tflite file.

    Attributes:
      subgraphs: how many the file has.
    """

    ops: tuple[Op, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    metadata: dict[str, bytes]
    subgraphs: int = 1

    def reads(self, op: Op) -> Iterator[Tensor]:
        return (self.tensors[i] for i in op.inputs if i >= 0)

    def writes(self, op: Op) -> Iterator[Tensor]:
        return (self.tensors[i] for i in op.outputs)

    def at_border(self, op: Op) -> bool:
        """Whether an op that changes types does so for the graph's input or output: alone, or with floats between."""
        near = [op]
        for other in self.ops:
            between = (set(other.outputs) & set(op.inputs)) | (set(op.outputs) & set(other.inputs))
            if other.name in ("QUANTIZE", "DEQUANTIZE") and any("float" in self.tensors[i].dtype for i in between):
                near.append(other)
        return any({*one.inputs} & {*self.inputs} or {*one.outputs} & {*self.outputs} for one in near)

    def recipe(self) -> dict[str, Any] | None:
        """What we wrote into the file when it was made; None for a file that is not ours."""
        if RECIPE_KEY not in self.metadata:
            return None
        try:
            return dict(json.loads(self.metadata[RECIPE_KEY]))
        except ValueError:
            raise ArtifactError("the recipe inside the .tflite file is not JSON: convert the network again.") from None


def read(data: bytes, name: str = "the file") -> Graph:
    """Parses ``data``; raises ArtifactError when it is not a whole .tflite file."""
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise ArtifactError(
            f"{name} is not a .tflite file ({len(data)} bytes, no {IDENTIFIER.decode()} mark): give a file that"
            " `convert` wrote."
        )
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        graph = model.subgraphs[0]
        parsed = Graph(
            ops=tuple(_op(i, op, model) for i, op in enumerate(graph.operators)),
            tensors=tuple(_tensor(t, model.buffers) for t in graph.tensors),
            inputs=tuple(int(i) for i in graph.inputs),
            outputs=tuple(int(i) for i in graph.outputs),
            metadata={
                _text(m.name): np.asarray(model.buffers[m.buffer].data, np.uint8).tobytes()
                for m in model.metadata or []
            },
            subgraphs=len(model.subgraphs),
        )
        _check_indices(parsed)
        return parsed
    except (struct.error, IndexError, TypeError, AttributeError, ValueError, KeyError, MemoryError):
        raise ArtifactError(f"{name} is broken or truncated ({len(data)} bytes): convert the network again.") from None


def _check_indices(graph: Graph) -> None:
    """Raises IndexError where an op or the graph names a tensor that is not there; −1 stands for no input."""
    known = range(len(graph.tensors))
    named = {i for op in graph.ops for i in (*(i for i in op.inputs if i != -1), *op.outputs)}
    if not named | {*graph.inputs, *graph.outputs} <= set(known):
        raise IndexError


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _op(index: int, op: Any, model: Any) -> Op:
    code = model.operatorCodes[op.opcodeIndex]
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    name = _text(code.customCode) if code.customCode else OP_NAMES[builtin]
    inputs = () if op.inputs is None else tuple(int(i) for i in op.inputs)
    outputs = () if op.outputs is None else tuple(int(i) for i in op.outputs)
    return Op(index, name, code.version, inputs, outputs, _options(op.builtinOptions), bool(code.customCode))


def _options(table: Any) -> dict[str, Any]:
    given = {} if table is None else dict(vars(table))
    for key, names in (("padding", PADDINGS), ("fusedActivationFunction", ACTIVATIONS)):
        if key in given:
            given[key] = names.get(given[key], str(given[key]))
    return given


def _values(dtype: str, data: Any) -> tuple[float, ...] | None:
    if dtype not in NUMBERS or data is None or not 0 < len(data) <= 64 * np.dtype(dtype).itemsize:
        return None
    return tuple(x.item() for x in np.asarray(data, np.uint8).view(dtype))


def _tensor(tensor: Any, buffers: list[Any]) -> Tensor:
    q = tensor.quantization
    # Buffer 0 is the empty one; some writers leave it out.
    buffer = buffers[tensor.buffer] if tensor.buffer or buffers else schema.BufferT()
    data = buffer.data
    stored = buffer.size if data is None and buffer.offset > 1 else 0 if data is None else len(data)
    dtype = TYPE_NAMES[tensor.type]
    signature = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
    return Tensor(
        name=_text(tensor.name),
        shape=tuple(int(n) for n in (tensor.shape if tensor.shape is not None else ())),
        dynamic=any(n < 0 for n in (signature if signature is not None else ())),
        dtype=dtype,
        scale=tuple(float(s) for s in q.scale) if q is not None and q.scale is not None else (),
        zero_point=tuple(int(z) for z in q.zeroPoint) if q is not None and q.zeroPoint is not None else (),
        axis=int(q.quantizedDimension) if q is not None else 0,
        constant=stored > 0,
        size_bytes=stored,
        lowest=(
            int(np.asarray(data, np.uint8).view(np.int8).min())
            if dtype == "int8" and data is not None and len(data)
            else None
        ),
        values=_values(dtype, data),
    )


def with_per_tensor_kernels(data: bytes) -> bytes:
    """The same int8 graph with one scale for each kernel instead of one per channel, and its biases to match.

    Exact where the kernels were rounded to that one scale before conversion: a channel's own scale is finer, so
    rounding back gives the same integers. The converter's flag for this does nothing on a graph that brings its ranges
    (TensorFlow 2.21).
    """
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    for op in graph.operators:
        name = _op(0, op, model).name
        if name not in WEIGHTED:
            continue
        data_at, kernel_at, bias_at, _ = WEIGHTED[name]
        kernel = graph.tensors[op.inputs[kernel_at]]
        old = np.asarray(kernel.quantization.scale, np.float32)
        scale = old.max()
        shape = [-1 if i == kernel.quantization.quantizedDimension else 1 for i in range(len(kernel.shape))]
        values = np.asarray(model.buffers[kernel.buffer].data, np.uint8).view(np.int8).reshape(kernel.shape)
        rounded = np.clip(np.rint(values * (old / scale).reshape(shape)), -127, 127).astype(np.int8)
        model.buffers[kernel.buffer].data = rounded.view(np.uint8).ravel()
        _one_scale(kernel, scale)
        if len(op.inputs) > bias_at and op.inputs[bias_at] >= 0:
            bias = graph.tensors[op.inputs[bias_at]]
            sums = np.asarray(model.buffers[bias.buffer].data, np.uint8).view(np.int32)
            sums = np.rint(sums * (old / scale).astype(np.float64)).astype(np.int32)
            model.buffers[bias.buffer].data = sums.view(np.uint8)
            _one_scale(bias, scale * graph.tensors[op.inputs[data_at]].quantization.scale[0])
    return packed(model, len(data))


def _one_scale(tensor: Any, scale: float) -> None:
    tensor.quantization.scale = np.asarray([scale], np.float32)
    tensor.quantization.zeroPoint = np.zeros(1, np.int64)
    tensor.quantization.quantizedDimension = 0


def packed(model: Any, about_bytes: int) -> bytes:
    builder = flatbuffers.Builder(about_bytes + (1 << 16))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def with_recipe(data: bytes, recipe: dict[str, Any]) -> bytes:
    """The same file with the recipe as metadata; what it held under our key before is replaced."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(json.dumps(recipe, sort_keys=True).encode(), np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = RECIPE_KEY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [m for m in model.metadata or [] if _text(m.name) != RECIPE_KEY] + [entry]
    return packed(model, len(data))
