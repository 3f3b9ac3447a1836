"""Checks that the rules of several targets share: (op, graph) → why the op is not taken, or None."""

from __future__ import annotations

from pipeline.core.graph import Graph, Op, Tensor
from pipeline.core.rules import Check
from pipeline.tflite.read import WEIGHTED

FLOATS = ("float32", "float16")
BYTES = ("int8", "uint8")

ON_THE_HOST = (
    "logits (`convert --output logits`), whose argmax over the last axis is the mask, the lowest index on ties, on the"
    " host"
)
"""Remedy for an ARG_MAX. It is not applied unasked: the file would not give the mask that the user asked for."""


def data_of(op: Op, graph: Graph) -> Tensor:
    """The activation that the op works on."""
    return graph.tensors[op.inputs[WEIGHTED[op.name][0] if op.name in WEIGHTED else 0]]


def sizes(op: Op, graph: Graph) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(height, width) of the input and of the output."""
    return data_of(op, graph).shape[1:3], graph.tensors[op.outputs[0]].shape[1:3]


def never(op: Op, graph: Graph) -> str | None:
    return "no op of this target: the CPU does it"


def rank_at_most(limit: int) -> Check:
    def check(op: Op, graph: Graph) -> str | None:
        for tensor in (*graph.reads(op), *graph.writes(op)):
            if len(tensor.shape) > limit:
                return f"a tensor of {len(tensor.shape)} dimensions {tensor.shape}; {limit} at most"
        return None

    return check


def fixed_sizes(op: Op, graph: Graph) -> str | None:
    """For runtimes that take a graph only where all its sizes are known.

    For an open batch they assume the size in the file's ``shape`` (tflite/core/subgraph.cc, ModifyGraphWithDelegate;
    LiteRT's GPU accelerator, asked). An open height or width remains unknown.
    """
    if graph.open_beyond_batch:
        for tensor in (*graph.reads(op), *graph.writes(op)):
            if tensor.dynamic:
                return f"tensor {tensor.name} has a size that is not fixed {tensor.shape}"
    if graph.first_computed_size is not None:
        first = graph.tensors[graph.first_computed_size]
        return f"tensor {first.name} gets its size only when the graph runs; the target takes graphs of fixed sizes"
    return None


def batch_of_one(op: Op, graph: Graph) -> str | None:
    shape = data_of(op, graph).shape
    return f"batch {shape[0]}, not 1" if shape and shape[0] != 1 else None


def activation(*allowed: str) -> Check:
    """The fused activation is one of ``allowed`` ('NONE', 'RELU', 'RELU6', ...)."""

    def check(op: Op, graph: Graph) -> str | None:
        fused = op.options.get("fusedActivationFunction", "NONE")
        return None if fused in allowed else f"fused activation {fused}; allowed: {', '.join(allowed)}"

    return check


def constant(*places: int) -> Check:
    """The inputs at ``places`` are constants of the file, or absent."""

    def check(op: Op, graph: Graph) -> str | None:
        for place in places:
            if place < len(op.inputs) and op.inputs[place] >= 0 and not graph.tensors[op.inputs[place]].constant:
                return f"input {place} ({graph.tensors[op.inputs[place]].name}) is computed, not a constant"
        return None

    return check


def from_file(*places: int) -> Check:
    """As ``constant``, also for float16 and sparse constants, which an op of their own unpacks once."""

    def check(op: Op, graph: Graph) -> str | None:
        for place in places:
            at = op.inputs[place] if place < len(op.inputs) else -1
            if at >= 0 and at not in graph.unpacked_constants and not graph.tensors[at].constant:
                return f"input {place} ({graph.tensors[at].name}) is computed, not a constant"
        return None

    return check


def same_dilation(op: Op, graph: Graph) -> str | None:
    height, width = (op.options.get(f"dilation{x}Factor", 1) for x in "HW")
    return None if height == width else f"dilation {height}x{width}; must be the same in both directions"


def not_grouped(op: Op, graph: Graph) -> str | None:
    """A CONV_2D is grouped where its kernel sees only a part of the channels."""
    sees_all = graph.tensors[op.inputs[1]].shape[-1] == data_of(op, graph).shape[-1]
    return None if sees_all else "a grouped convolution"


def window_at_most(area: int, height: int | None = None) -> Check:
    def check(op: Op, graph: Graph) -> str | None:
        rows, columns = op.options["filterHeight"], op.options["filterWidth"]
        if rows * columns > area or (height is not None and rows > height):
            return f"pool window {rows}x{columns}; at most {area} pixels{f', {height} rows' if height else ''}"
        return None

    return check


def not_both_resize_modes(op: Op, graph: Graph) -> str | None:
    both = op.options.get("alignCorners") and op.options.get("halfPixelCenters")
    return "align_corners and half_pixel_centers together" if both else None


def factor(op: Op, graph: Graph) -> tuple[float, float]:
    """A resize's factor (vertical, horizontal): (out − 1) / (in − 1) with align_corners, else out / in."""
    less = 1 if op.options.get("alignCorners") else 0
    old, new = sizes(op, graph)
    return tuple((n - less) / (o - less) if o > less else float(n) for o, n in zip(old, new, strict=True))  # type: ignore[return-value]


def axes_of(op: Op, graph: Graph, place: int = 1) -> tuple[int, ...] | None:
    """The constant axes of a reduction, none of them negative; None where they are computed."""
    if place >= len(op.inputs) or graph.tensors[op.inputs[place]].values is None:
        return None
    rank = len(data_of(op, graph).shape)
    return tuple(int(a) % rank for a in graph.tensors[op.inputs[place]].values or ())


def constant_axes(op: Op, graph: Graph) -> str | None:
    return None if axes_of(op, graph) is not None else "the axes are computed; they must be constant"


def unit_strides(op: Op, graph: Graph) -> str | None:
    values = graph.tensors[op.inputs[3]].values if len(op.inputs) > 3 else None
    return None if values is not None and set(values) == {1} else f"strides {values}; only 1"
