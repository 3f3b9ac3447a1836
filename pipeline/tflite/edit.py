"""Edits the graph of a .tflite file: replaces ops by others, and adds constants and activations for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipeline.tflite.read import OP_NAMES, packed, unpacked_model

TYPES = {"int8": schema.TensorType.INT8, "int32": schema.TensorType.INT32, "float32": schema.TensorType.FLOAT32}


class GraphEdit:
    """The first subgraph of a file while it is edited; indices of ops and tensors are those of the file."""

    def __init__(self, data: bytes) -> None:
        self.model = unpacked_model(data)
        self.graph = self.model.subgraphs[0]
        self._replaced: dict[int, list[Any]] = {}
        self._size_bytes = len(data)

    def op(self, index: int) -> Any:
        return self.graph.operators[index]

    def tensor(self, index: int) -> Any:
        return self.graph.tensors[index]

    def values(self, index: int, dtype: type) -> np.ndarray:
        """A constant's values in its shape."""
        tensor = self.tensor(index)
        return np.asarray(self.model.buffers[tensor.buffer].data, np.uint8).view(dtype).reshape(tensor.shape)

    def name_of(self, index: int) -> str:
        code = self.model.operatorCodes[self.op(index).opcodeIndex]
        return OP_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def readers_of(self, tensor: int) -> list[int]:
        """The ops that read a tensor."""
        return [i for i, op in enumerate(self.graph.operators) if tensor in op.inputs]

    def constant(self, name: str, values: np.ndarray, scale: Sequence[float] | None = None, axis: int = 0) -> int:
        """Adds an int8 or int32 constant, quantized symmetrically where ``scale`` is given; returns its index."""
        buffer = schema.BufferT()
        buffer.data = np.ascontiguousarray(values).view(np.uint8).ravel()
        self.model.buffers.append(buffer)
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(values.shape), TYPES[values.dtype.name]
        tensor.buffer = len(self.model.buffers) - 1
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.asarray(scale, np.float32)
            tensor.quantization.zeroPoint = np.zeros(len(tensor.quantization.scale), np.int64)
            tensor.quantization.quantizedDimension = axis
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def like(self, index: int, name: str, shape: Sequence[int]) -> int:
        """Adds an activation with the type and range of tensor ``index``; returns the new index."""
        old, tensor = self.tensor(index), schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.quantization = name, list(shape), old.type, old.quantization
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def float_like(self, index: int, name: str) -> int:
        """Adds a float32 activation with the shape of tensor ``index``; returns the new index."""
        new = self.like(index, name, self.tensor(index).shape)
        self.tensor(new).type, self.tensor(new).quantization = schema.TensorType.FLOAT32, None
        return new

    def new_op(
        self, name: str, version: int, inputs: Sequence[int], outputs: Sequence[int], table: str = "", **options: Any
    ) -> Any:
        """A new op for ``replace``; ``options`` are fields of the schema's ``table``."""
        builtin = getattr(schema.BuiltinOperator, name)
        codes = self.model.operatorCodes
        opcode = next(
            (
                i
                for i, c in enumerate(codes)
                if max(c.builtinCode, c.deprecatedBuiltinCode) == builtin and c.version == version
            ),
            None,
        )
        if opcode is None:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
            codes.append(code)
            opcode = len(codes) - 1
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = opcode, list(inputs), list(outputs)
        if table:
            op.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            op.builtinOptions = getattr(schema, f"{table}T")()
            for key, value in options.items():
                setattr(op.builtinOptions, key, value)
        return op

    def replace(self, index: int, ops: Sequence[Any]) -> None:
        self._replaced[index] = list(ops)

    def to_bytes(self) -> bytes:
        """The file with the replacements; ops, tensors and constants that nothing reads any more are left out."""
        operators = [new for i, op in enumerate(self.graph.operators) for new in self._replaced.get(i, [op])]
        ends = {*map(int, self.graph.inputs), *map(int, self.graph.outputs)}
        needed = ends | {int(i) for op in operators for i in op.inputs}
        operators = [op for op in operators if any(int(i) in needed for i in op.outputs)]
        used = sorted(ends | {int(i) for op in operators for i in (*op.inputs, *op.outputs) if i >= 0})
        place = {-1: -1, **{old: new for new, old in enumerate(used)}}
        for op in operators:
            op.inputs = [place[int(i)] for i in op.inputs]
            op.outputs = [place[int(i)] for i in op.outputs]
        self.graph.operators = operators
        self.graph.inputs = [place[int(i)] for i in self.graph.inputs]
        self.graph.outputs = [place[int(i)] for i in self.graph.outputs]
        for signature in self.model.signatureDefs or []:
            for entry in (*signature.inputs, *signature.outputs):
                entry.tensorIndex = place[entry.tensorIndex]
        self.graph.tensors = [self.graph.tensors[i] for i in used]
        kept = {t.buffer for t in self.graph.tensors} | {m.buffer for m in self.model.metadata or []}
        for i, buffer in enumerate(self.model.buffers):
            if i not in kept:
                buffer.data = None
        return packed(self.model, self._size_bytes)
