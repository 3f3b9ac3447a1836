"""Reads a .tflite file as ops and tensors, and the recipe inside it.

No runtime sees the bytes: a broken file can end a runtime's process.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipeline.core.errors import ArtifactError
from pipeline.core.files import read_regular, sha256
from pipeline.core.graph import BORDER as BORDER
from pipeline.core.graph import RECIPE_KEY as RECIPE_KEY
from pipeline.core.graph import TYPE_BITS as TYPE_BITS
from pipeline.core.graph import Graph as Graph
from pipeline.core.graph import Op as Op
from pipeline.core.graph import Tensor as Tensor
from pipeline.core.recipe import Recipe
from pipeline.tflite.bounds import TooMuch, check_decoded_size

IDENTIFIER = b"TFL3"
WEIGHTED = {"CONV_2D": (0, 1, 2, 0), "DEPTHWISE_CONV_2D": (0, 1, 2, 3), "TRANSPOSE_CONV": (2, 1, 3, 0)}
"""Op → input indices of its data, kernel and bias, and the kernel's axis of output channels."""


def _names(enum: type) -> dict[int, str]:
    return {v: k for k, v in vars(enum).items() if isinstance(v, int)}


OP_NAMES = _names(schema.BuiltinOperator)
TYPE_NAMES = {v: k.lower() for v, k in _names(schema.TensorType).items()}
PADDINGS = _names(schema.Padding)
ACTIVATIONS = _names(schema.ActivationFunctionType)
NUMBERS = ("int8", "uint8", "int16", "int32", "int64", "float32")
BROKEN = (
    struct.error,
    IndexError,
    TypeError,
    AttributeError,
    ValueError,
    KeyError,
    MemoryError,
    OverflowError,
)
"""Exceptions that reading a damaged flatbuffer raises."""
MOST_BYTES = 1 << 30
"""Of one file; larger ones do not fit into the memory of a small machine beside what is read of them."""
MOST_OPS, MOST_TENSORS, MOST_LINKS = 20_000, 100_000, 400_000
"""Of the first subgraph; links are inputs and outputs of ops. Networks have hundreds to a few thousands of ops, and all
that is worked out for each op takes 20 s for so many."""
MOST_DIMENSIONS = 254
"""TensorFlow's limit (TensorShape::MaxDimensions)."""
MOST_ELEMENTS = 1 << 62
"""LiteRT counts a tensor's bytes in 64 bits."""
LONGEST_NAME = 4096
"""Of names in characters; the rest of a longer one is cut off, as reasons repeat it for each op."""


_LAST: dict[str, Graph] = {}
"""The graph that was read last, by the sha256 of its file: a command reads one file for each target, and more often."""


def read(data: bytes, name: str = "the file") -> Graph:
    """Parses ``data``; raises ArtifactError when it is not a complete .tflite file."""
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise ArtifactError(
            f"{name} is not a .tflite file ({len(data)} bytes, no {IDENTIFIER.decode()} mark): give a file that"
            " `convert` wrote."
        )
    digest = sha256(data)
    if (graph := _LAST.get(digest)) is None:
        with _refusing(name, len(data)):
            check_decoded_size(data)
            graph = _Reader(data).graph()
        _LAST.clear()
        _LAST[digest] = graph
    return graph


def read_file(file: Path) -> tuple[bytes, Graph]:
    """The bytes and the graph of a .tflite file; raises ArtifactError."""
    try:
        data = read_regular(file, MOST_BYTES)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ArtifactError(f"{file} cannot be read ({why}): name a .tflite file.") from None
    return data, read(data, str(file))


@contextlib.contextmanager
def _refusing(name: str, size_bytes: int) -> Iterator[None]:
    """Errors of a damaged flatbuffer become an ArtifactError."""
    try:
        yield
    except TooMuch as error:
        raise ArtifactError(
            f"{name} is broken or beyond what is read ({size_bytes} bytes): {error}. Convert the network again."
        ) from None
    except BROKEN:
        raise ArtifactError(f"{name} is broken or truncated ({size_bytes} bytes): convert the network again.") from None


class _Reader:
    """Reads the first subgraph of a file whose decoded size was checked; each buffer and op code once."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._model = schema.Model.GetRootAs(data, 0)
        self._codes: dict[int, tuple[str, int, bool]] = {}
        self._contents: dict[int, tuple[np.ndarray | None, int]] = {}

    def graph(self) -> Graph:
        if not self._model.SubgraphsLength():  # the accessor does not look
            raise IndexError
        stored = self._model.Subgraphs(0)
        _at_most(MOST_OPS, stored.OperatorsLength(), "ops")
        _at_most(MOST_TENSORS, stored.TensorsLength(), "tensors")
        operators = [stored.Operators(i) for i in range(stored.OperatorsLength())]
        links = sum(op.InputsLength() + op.OutputsLength() for op in operators)
        _at_most(MOST_LINKS, links, "inputs and outputs of ops")
        ops = (self._op(i, op) for i, op in enumerate(operators))
        tensors = (self._tensor(stored.Tensors(i)) for i in range(stored.TensorsLength()))
        parsed = Graph(
            ops=tuple(ops),
            tensors=tuple(tensors),
            inputs=self._indices(stored.InputsAsNumpy()),
            outputs=self._indices(stored.OutputsAsNumpy()),
            metadata=self._metadata(),
            subgraphs=self._model.SubgraphsLength(),
        )
        _check_indices(parsed)
        return parsed

    def _indices(self, vector: Any) -> tuple[int, ...]:
        """A vector of the file; flatbuffers returns 0 for an absent one."""
        if isinstance(vector, int):
            return ()
        return tuple(vector.tolist())

    def _metadata(self) -> dict[str, bytes]:
        buffers: dict[int, bytes] = {}
        metadata = {}
        for i in range(self._model.MetadataLength()):
            entry = self._model.Metadata(i)
            if entry.Buffer() not in buffers:
                content, _ = self._content(entry.Buffer())
                buffers[entry.Buffer()] = b"" if content is None else content.tobytes()
            metadata[_text(entry.Name())] = buffers[entry.Buffer()]
        return metadata

    def _content(self, index: int) -> tuple[np.ndarray | None, int]:
        """A buffer's bytes and their count. In large files they lie behind the flatbuffer, at an offset."""
        if index not in self._contents:
            if not 0 <= index < self._model.BuffersLength():
                raise IndexError
            buffer = self._model.Buffers(index)
            data = None if buffer.DataIsNone() else buffer.DataAsNumpy()
            if data is None and buffer.Offset() > 1:
                if buffer.Offset() + buffer.Size() > len(self._data):
                    raise IndexError
                data = np.frombuffer(self._data, np.uint8, buffer.Size(), buffer.Offset())
            self._contents[index] = data, 0 if data is None else len(data)
        return self._contents[index]

    def _code(self, index: int) -> tuple[str, int, bool]:
        """Name, version, and whether it is a custom op."""
        if index not in self._codes:
            if not 0 <= index < self._model.OperatorCodesLength():
                raise IndexError
            code = schema.OperatorCodeT.InitFromObj(self._model.OperatorCodes(index))
            name = name_of(code)
            self._codes[index] = name, code.version, _builtin(code) == schema.BuiltinOperator.CUSTOM
        return self._codes[index]

    def _op(self, index: int, stored: Any) -> Op:
        name, version, custom = self._code(stored.OpcodeIndex())
        inputs, outputs = self._indices(stored.InputsAsNumpy()), self._indices(stored.OutputsAsNumpy())
        op = schema.OperatorT.InitFromObj(stored)
        return Op(index, name, version, inputs, outputs, _options(op.builtinOptions or op.builtinOptions2), custom)

    def _tensor(self, stored: Any) -> Tensor:
        shape, signature = self._indices(stored.ShapeAsNumpy()), self._indices(stored.ShapeSignatureAsNumpy())
        name, dtype = _text(stored.Name()), TYPE_NAMES[stored.Type()]
        # Buffer 0 means no buffer, whatever it holds.
        content, stored_bytes = self._content(stored.Buffer()) if stored.Buffer() else (None, 0)
        if stored.ExternalBuffer():
            stored_bytes = self._external_bytes(stored.ExternalBuffer())
        _check_elements(name, shape)
        q = stored.Quantization()
        scale = () if q is None or q.ScaleIsNone() else self._indices(q.ScaleAsNumpy())
        zero_point = () if q is None or q.ZeroPointIsNone() else self._indices(q.ZeroPointAsNumpy())
        signature = signature if len(signature) == len(shape) else shape
        open_axes = tuple(axis for axis, size in enumerate(signature) if size < 0)
        return Tensor(
            name=name,
            shape=shape,
            dynamic=bool(open_axes),
            dtype=dtype,
            scale=scale,
            zero_point=zero_point if scale else (),
            axis=q.QuantizedDimension() if q is not None else 0,
            constant=stored_bytes > 0,
            size_bytes=stored_bytes,
            lowest=_lowest(content) if dtype == "int8" else None,
            values=_values(dtype, content),
            open_axes=open_axes,
        )

    def _external_bytes(self, number: int) -> int:
        """The size of a constant that is stored in a file of its own."""
        for i in range(self._model.ExternalBuffersLength()):
            if self._model.ExternalBuffers(i).Id() == number:
                return int(self._model.ExternalBuffers(i).Length())
        raise IndexError


def _at_most(most: int, count: int, what: str) -> None:
    if count > most:
        raise TooMuch(f"its first graph has {count:,} {what}, and {most:,} are the most")


def _lowest(content: np.ndarray | None) -> int | None:
    return None if content is None or not len(content) else int(content.view(np.int8).min())


def _check_elements(name: str, shape: tuple[int, ...]) -> None:
    """Raises ArtifactError for a tensor that is too large for any memory, dimensions of 0 left aside."""
    if len(shape) > MOST_DIMENSIONS:
        raise ArtifactError(
            f"tensor {name!r} has {len(shape)} dimensions, and {MOST_DIMENSIONS} are the most: the file is broken;"
            " convert the network again."
        )
    elements = 1
    for size in shape:
        elements *= max(1, abs(size))
        if elements > MOST_ELEMENTS:
            raise ArtifactError(
                f"tensor {name!r} of {len(shape)} dimensions has more elements than fit in any memory: the file is"
                " broken; convert the network again."
            )


def _check_indices(graph: Graph) -> None:
    """Raises IndexError where an op or the graph refers to a tensor that does not exist; −1 means no input."""
    known = range(len(graph.tensors))
    used = {i for op in graph.ops for i in (*(i for i in op.inputs if i != -1), *op.outputs)}
    if not used | {*graph.inputs, *graph.outputs} <= set(known):
        raise IndexError


def _text(value: Any) -> str:
    if value is None:
        return ""
    return (value[:LONGEST_NAME].decode("utf-8", "replace") if isinstance(value, bytes) else str(value))[:LONGEST_NAME]


def _builtin(code: Any) -> int:
    """Old files store the number in a field of 8 bits, new ones in another or in both; the larger one counts."""
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def name_of(code: Any) -> str:
    """The name of an entry of the file's op codes: the schema's, or the custom op's own."""
    builtin = _builtin(code)
    return (_text(code.customCode) if builtin == schema.BuiltinOperator.CUSTOM else "") or OP_NAMES[builtin]


def _options(table: Any) -> dict[str, Any]:
    options = {} if table is None else dict(vars(table))
    for key, names in (("padding", PADDINGS), ("fusedActivationFunction", ACTIVATIONS)):
        if key in options:
            options[key] = names.get(options[key], str(options[key]))
    return options


def _values(dtype: str, data: Any) -> tuple[float, ...] | None:
    if dtype not in NUMBERS or data is None or not 0 < len(data) <= 64 * np.dtype(dtype).itemsize:
        return None
    return tuple(x.item() for x in np.asarray(data, np.uint8).view(dtype))


def unpacked_model(data: bytes) -> Any:
    """The file as the schema's own objects; constants stored behind the flatbuffer are moved into them.

    Raises ArtifactError for a file that ``read`` refuses as broken.
    """
    with _refusing("the file", len(data)):
        check_decoded_size(data)
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        if not model.subgraphs:
            raise IndexError
    model.buffers = model.buffers or []
    for buffer in model.buffers:
        if buffer.data is None and 1 < buffer.offset <= len(data) - buffer.size:
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def with_stored_sizes(data: bytes) -> bytes:
    """The same file without open sizes: each is fixed at that of ``shape``, which a runtime assumes by default."""
    model = unpacked_model(data)
    for graph in model.subgraphs:
        for tensor in graph.tensors or ():
            tensor.shapeSignature = None
    return packed(model, len(data))


def with_per_tensor_kernels(data: bytes) -> bytes:
    """The same int8 graph with one scale for each kernel instead of one per channel, and biases to match.

    Exact where the kernels were rounded to that one scale before conversion: a channel's own scale is finer, so
    rounding back gives the same integers. The converter's flag for this has no effect on a graph that has its own
    ranges (TensorFlow 2.21).
    """
    model = unpacked_model(data)
    graph = model.subgraphs[0]
    for op in graph.operators:
        name = name_of(model.operatorCodes[op.opcodeIndex])
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


def with_recipe(data: bytes, recipe: Recipe) -> bytes:
    """The same file with the recipe as metadata; an earlier recipe is replaced."""
    model = unpacked_model(data)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(recipe.dumps().encode(), np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = RECIPE_KEY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [m for m in model.metadata or [] if _text(m.name) != RECIPE_KEY] + [entry]
    return packed(model, len(data))
