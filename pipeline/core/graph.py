"""A network as a runtime sees it: ops that read and write tensors."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.core.errors import ArtifactError
from pipeline.core.recipe import Recipe

RECIPE_KEY = "segquant.recipe"
TYPE_BITS = {
    "bool": 8,
    "int2": 2,
    "int4": 4,
    "uint4": 4,
    "float8_e4m3fn": 8,
    "float8_e5m2": 8,
    "uint8": 8,
    "int8": 8,
    "int16": 16,
    "uint16": 16,
    "float16": 16,
    "bfloat16": 16,
    "int32": 32,
    "uint32": 32,
    "float32": 32,
    "int64": 64,
    "uint64": 64,
    "float64": 64,
    "complex64": 64,
    "complex128": 128,
}
BORDER = ("QUANTIZE", "DEQUANTIZE")
COMPUTED = frozenset({"WHERE", "UNIQUE", "IF", "WHILE", "CALL", "STABLEHLO_WHILE", "STABLEHLO_CASE"})
"""Ops whose output sizes are known only after they ran."""
SIZED_BY = {
    "RESHAPE": (1,),
    "RESIZE_BILINEAR": (1,),
    "RESIZE_NEAREST_NEIGHBOR": (1,),
    "TRANSPOSE_CONV": (0,),
    "CONV_3D_TRANSPOSE": (0,),
    "BROADCAST_TO": (1,),
    "FILL": (0,),
    "TILE": (1,),
    "PAD": (1,),
    "PADV2": (1,),
    "MIRROR_PAD": (1,),
    "SLICE": (1, 2),
    "STRIDED_SLICE": (1, 2, 3),
    "TRANSPOSE": (1,),
    "MEAN": (1,),
    "SUM": (1,),
    "REDUCE_MAX": (1,),
    "REDUCE_MIN": (1,),
    "REDUCE_PROD": (1,),
    "REDUCE_ANY": (1,),
    "REDUCE_ALL": (1,),
    "EXPAND_DIMS": (1,),
    "SPLIT": (0,),
    "SPLIT_V": (1, 2),
    "ARG_MAX": (1,),
    "ARG_MIN": (1,),
    "ONE_HOT": (1,),
    "RANGE": (0, 1, 2),
    "TOPK_V2": (1,),
    "BATCH_TO_SPACE_ND": (1, 2),
    "SPACE_TO_BATCH_ND": (1, 2),
    "SPARSE_TO_DENSE": (1,),
    "SCATTER_ND": (2,),
    "RANDOM_UNIFORM": (0,),
    "RANDOM_STANDARD_NORMAL": (0,),
    "MULTINOMIAL": (1,),
    "SEGMENT_SUM": (1,),
}
"""Op → the inputs that set the size of its output; where one of them is computed, the size is known only at run time
(tflite/kernels/*.cc, the calls of SetTensorToDynamic)."""


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of the file.

    Attributes:
      dtype: 'int8', 'float32', ...
      scale, zero_point: per tensor or per channel; empty where the tensor is not quantized.
      axis: the axis of the channels of a per-channel scale.
      constant: whether its values are in the file.
      size_bytes: of the constant values; 0 for activations.
      lowest: smallest value of an int8 constant; None for other tensors.
      values: of a constant with at most 64 numbers, such as axes and sizes, flattened; None for other tensors.
      open_axes: axes whose size the file leaves open; ``shape`` has the sizes that a runtime assumes for them.
      dynamic: whether there are open axes.
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
    open_axes: tuple[int, ...] = ()

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def activation_bytes(self) -> int:
        """Memory that the tensor needs while it is alive, unpadded."""
        return -(-self.elements * TYPE_BITS.get(self.dtype, 0) // 8)

    @property
    def range(self) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """Scales and zero points; a zero point that the file leaves out is 0."""
        return self.scale, self.zero_point or (0,) * len(self.scale)


@dataclasses.dataclass(frozen=True)
class Op:
    """One operator: its index in the file, name, version, and the tensors that it reads (−1: absent) and writes.

    Attributes:
      options: the op's options under the schema's own names, with 'padding' and 'fusedActivationFunction' as words.
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

    @property
    def input_tensor(self) -> Tensor:
        """What the graph takes, the first of several; raises ArtifactError for a graph that takes nothing."""
        return self._end(self.inputs, "input")

    @property
    def output_tensor(self) -> Tensor:
        """What the graph gives, the first of several; raises ArtifactError for a graph that gives nothing."""
        return self._end(self.outputs, "output")

    def _end(self, indices: tuple[int, ...], what: str) -> Tensor:
        if not indices:
            raise ArtifactError(f"the .tflite file has no {what}, so it cannot be run: convert the network again.")
        return self.tensors[indices[0]]

    def reads(self, op: Op) -> Iterator[Tensor]:
        return (self.tensors[i] for i in op.inputs if i >= 0)

    def writes(self, op: Op) -> Iterator[Tensor]:
        return (self.tensors[i] for i in op.outputs)

    @functools.cached_property
    def writers(self) -> dict[int, tuple[Op, ...]]:
        """Tensor → the ops that write it; one in a valid file."""
        return self._by_tensor("outputs")

    @functools.cached_property
    def readers(self) -> dict[int, tuple[Op, ...]]:
        """Tensor → the ops that read it."""
        return self._by_tensor("inputs")

    def _by_tensor(self, side: str) -> dict[int, tuple[Op, ...]]:
        by_tensor: dict[int, list[Op]] = {}
        for op in self.ops:
            for i in dict.fromkeys(getattr(op, side)):
                by_tensor.setdefault(i, []).append(op)
        return {i: tuple(ops) for i, ops in by_tensor.items()}

    @functools.cached_property
    def dependencies(self) -> tuple[frozenset[int], ...]:
        """For each op, the indices of the ops whose outputs it reads."""
        writer = {i: op.index for op in self.ops for i in op.outputs}
        return tuple(frozenset(writer[i] for i in op.inputs if i in writer) for op in self.ops)

    @functools.cached_property
    def unpacked_constants(self) -> frozenset[int]:
        """Tensors that hold a constant of the file in another form: float16 or sparse weights, unpacked once."""
        return frozenset(
            op.outputs[0]
            for op in self.ops
            if op.name in ("DEQUANTIZE", "DENSIFY") and op.outputs and all(t.constant for t in self.reads(op))
        )

    @functools.cached_property
    def computed_sizes(self) -> frozenset[int]:
        """Tensors whose size is known only at run time; the ops are followed in the file's order."""
        tensors: set[int] = set()
        for op in self.ops:
            sizes = [op.inputs[at] for at in SIZED_BY.get(op.name, ()) if at < len(op.inputs)]
            computed = op.name in COMPUTED or any(i >= 0 and not self.tensors[i].constant for i in sizes)
            if op.name != "SHAPE" and (computed or any(i in tensors for i in op.inputs)):
                tensors.update(op.outputs)
        return frozenset(tensors)

    @functools.cached_property
    def first_computed_size(self) -> int | None:
        """The first of ``computed_sizes``."""
        return min(self.computed_sizes, default=None)

    @functools.cached_property
    def variable_types(self) -> dict[int, frozenset[str]]:
        """Tensor that names a variable → the types in which ops read and write it."""
        types: dict[int, set[str]] = {}
        for op in self.ops:
            values = {"READ_VARIABLE": op.outputs, "ASSIGN_VARIABLE": op.inputs[1:]}.get(op.name)
            if values and op.inputs:
                types.setdefault(op.inputs[0], set()).add(self.tensors[values[0]].dtype)
        return {i: frozenset(held) for i, held in types.items()}

    @functools.cached_property
    def open_beyond_batch(self) -> bool:
        """Whether an input leaves an axis open besides its first: then no size in the graph is known."""
        return any(axis != 0 for i in self.inputs for axis in self.tensors[i].open_axes)

    @functools.cached_property
    def _border(self) -> frozenset[int]:
        """Ops that read an input of the graph or write an output of it."""
        ends = {*self.inputs}, {*self.outputs}
        return frozenset(
            op.index for op in self.ops if not ends[0].isdisjoint(op.inputs) or not ends[1].isdisjoint(op.outputs)
        )

    def at_border(self, op: Op) -> bool:
        """Whether an op that changes types converts the graph's input or output, directly or with floats between."""
        if op.index in self._border:
            return True
        written, only_read = self._ends_of_border_ops
        writes = {*op.outputs}
        near = (writes & only_read) | ({*op.inputs} - writes) & written
        return any(i >= 0 and "float" in self.tensors[i].dtype for i in near)

    @functools.cached_property
    def _ends_of_border_ops(self) -> tuple[frozenset[int], frozenset[int]]:
        """The tensors that ops that change types write at the graph's border, and those that they only read."""
        ops = [op for op in self.ops if op.name in BORDER and op.index in self._border]
        written = frozenset(i for op in ops for i in op.outputs)
        return written, frozenset(i for op in ops for i in {*op.inputs} - {*op.outputs})

    def recipe(self) -> Recipe | None:
        """The recipe that `convert` wrote into the file; None for a file of another program.

        Raises ArtifactError for a recipe that cannot be read.
        """
        return Recipe.loads(self.metadata[RECIPE_KEY]) if RECIPE_KEY in self.metadata else None
