"""The forms of each op that Arm's Ethos-U NPUs run, as Vela 5.2.0 reports them (`vela --supported-ops-report`)."""

from __future__ import annotations

import math

from pipeline.core.graph import Graph, Op
from pipeline.core.rules import Check, Rule, Rules
from pipeline.tflite.checks import axes_of, batch_of_one, constant, data_of, factor, sizes

SOURCE = "Vela 5.2.0, supported-ops report"
SMALL = ("int8", "uint8", "int16")
INTEGERS = (*SMALL, "int32")


def quantized(op: Op, graph: Graph) -> str | None:
    """Every 8- or 16-bit activation has exactly one scale."""
    for tensor in (*graph.reads(op), *graph.writes(op)):
        if not tensor.constant and tensor.dtype in SMALL and len(tensor.scale) != 1:
            return f"tensor {tensor.name} has {len(tensor.scale) or 'no'} scales; it must have exactly one"
    return None


def open_batch_only(op: Op, graph: Graph) -> str | None:
    """Vela compiles an open batch for the size stored in the file. No other size may be open, and none computed."""
    for i in (*op.inputs, *op.outputs):
        if i >= 0 and (i in graph.computed_sizes or any(graph.tensors[i].open_axes)):
            return f"tensor {graph.tensors[i].name} has a size that is not fixed {graph.tensors[i].shape}"
    return None


def byte_kernel(op: Op, graph: Graph) -> str | None:
    kernel = graph.tensors[op.inputs[1]]
    if not kernel.constant:
        return "the kernel is computed; it must be constant"
    return None if kernel.dtype in ("int8", "uint8") else f"the kernel is {kernel.dtype}; it must be int8 or uint8"


def convolution_stride(op: Op, graph: Graph) -> str | None:
    """At most 3; more without dilation where nothing is padded: VALID, or a SAME that adds nothing."""
    strides = [op.options.get(f"stride{x}", 1) for x in "HW"]
    dilations = [op.options.get(f"dilation{x}Factor", 1) for x in "HW"]
    if max(strides) <= 3 or (max(dilations) == 1 and not pads(op, graph)):
        return None
    return f"stride {strides[0]}x{strides[1]}; at most 3, or more without dilation and padding"


def pads(op: Op, graph: Graph) -> bool:
    """Whether the op pads its input; dilation is left out of account."""
    if op.options["padding"] == "VALID":
        return False
    window = (
        (op.options["filterHeight"], op.options["filterWidth"])
        if "filterHeight" in op.options
        else graph.tensors[op.inputs[1]].shape[1:3]
    )
    old, new = sizes(op, graph)
    return any((n - 1) * op.options[f"stride{x}"] + k > o for n, o, k, x in zip(new, old, window, "HW", strict=True))


def depthwise_stride(op: Op, graph: Graph) -> str | None:
    strides = [op.options.get(f"stride{x}", 1) for x in "HW"]
    return None if max(strides) <= 3 else f"stride {strides[0]}x{strides[1]}; at most 3"


def average_window(op: Op, graph: Graph) -> str | None:
    height, width = op.options["filterHeight"], op.options["filterWidth"]
    if op.options["padding"] == "VALID":
        fits, allowed = height <= 256 and height * width <= 256 * 256, "256 rows and 65536 pixels"
    else:
        fits, allowed = max(height, width) <= 8, "8x8 with SAME padding"
    return None if fits else f"pool window {height}x{width}; at most {allowed}"


def maximum_window(op: Op, graph: Graph) -> str | None:
    height, width = op.options["filterHeight"], op.options["filterWidth"]
    fits = height <= 256 and height * width <= 256 * 256
    return None if fits else f"pool window {height}x{width}; at most 256 rows and 65536 pixels"


def small_reduction(op: Op, graph: Graph) -> str | None:
    axes, data = axes_of(op, graph), data_of(op, graph)
    if axes is None:
        return "the axes are computed; they must be constant"
    if len(data.shape) == 4 and 3 in axes and 1 not in data.shape[1:]:
        return f"reduces over the channels of {data.shape}; allowed only where height, width or channels are 1"
    lengths = [data.shape[a] for a in axes]
    most = {"int8": 1 << 24, "uint8": 1 << 23}.get(data.dtype, 1 << 16)
    if max(lengths, default=1) >= 4096 or math.prod(lengths) > most:
        return f"reduces {math.prod(lengths)} values; fewer than 4096 along each axis and at most {most} in all"
    return batch_of_one(op, graph)


def softmax_plane(op: Op, graph: Graph) -> str | None:
    shape = data_of(op, graph).shape
    rows = math.prod(shape[:-1])
    return None if rows < 65536 else f"softmax of {rows} vectors; fewer than 65536"


def depth_at_most_127(op: Op, graph: Graph) -> str | None:
    shape, axis = data_of(op, graph).shape, graph.tensors[op.inputs[1]].values
    if axis is None or int(axis[0]) % len(shape) != len(shape) - 1:
        return "the argmax is not over the channels; the axis must be constant and the last one"
    return None if shape[-1] <= 127 else f"{shape[-1]} channels; at most 127"


def resize_of(factors: tuple[int, ...], half_pixel: tuple[int, ...]) -> Check:
    """U55 and U65: one factor for both directions, out of ``factors``, or ``half_pixel`` with half-pixel centres."""

    def check(op: Op, graph: Graph) -> str | None:
        old, new = sizes(op, graph)
        if old == (1, 1) or old == new:
            return None
        vertical, horizontal = factor(op, graph)
        allowed = half_pixel if op.options.get("halfPixelCenters") else factors
        one_row = (new[1] == 1 and old[1] == 1) or (new[0] == 1 and old[0] == 1)
        if vertical != horizontal and not one_row:
            return f"factors {vertical:.4g} and {horizontal:.4g}; must be the same, one of {allowed}"
        at = max(vertical, horizontal)
        return None if at in allowed else f"factor {at:.4g}; one of {allowed}"

    return check


def power_of_two_resize(op: Op, graph: Graph) -> str | None:
    """U85: each factor a power of two, 1024 at most (2048 with align_corners)."""
    if op.options.get("alignCorners") and op.options.get("halfPixelCenters"):
        return "both align_corners and half_pixel_centers; at most one of the two"
    old, new = sizes(op, graph)
    if old == (1, 1) or old == new:
        return None
    most = 2048 if op.options.get("alignCorners") else 1024
    for at in factor(op, graph):
        if at > most or at < 1 or at != int(at) or int(at) & (int(at) - 1):
            factors = " and ".join(f"{x:.4g}" for x in factor(op, graph))
            return f"factors {factors}; each must be a power of two, at most {most}"
    return None


def transposed_stride(op: Op, graph: Graph) -> str | None:
    kernel, data = graph.tensors[op.inputs[1]], graph.tensors[op.inputs[2]]
    strides = (op.options["strideH"], op.options["strideW"])
    narrow = (kernel.shape[1] == 1 and data.shape[1] == 1, kernel.shape[2] == 1 and data.shape[2] == 1)
    if strides in ((1, 1), (2, 2)) or (strides == (1, 2) and narrow[0]) or (strides == (2, 1) and narrow[1]):
        return None
    return f"stride {strides[0]}x{strides[1]}; 1x1 or 2x2, and 1x2 for a height of 1, 2x1 for a width of 1"


def transposed_shape(op: Op, graph: Graph) -> str | None:
    kernel, (old, new) = graph.tensors[op.inputs[1]], sizes(op, graph)
    for i, name in enumerate("HW"):
        stride = op.options[f"stride{name}"]
        grown = 0 if op.options["padding"] == "SAME" else kernel.shape[i + 1] - stride
        if new[i] != old[i] * stride + max(0, grown):
            return (
                f"output {new[0]}x{new[1]} from input {old[0]}x{old[1]}; it must be input times stride, and with"
                " VALID padding plus the kernel minus the stride"
            )
    return None


def same_ranges(op: Op, graph: Graph) -> str | None:
    ranges = {t.range for t in (*graph.reads(op), *graph.writes(op))}
    return None if len(ranges) == 1 else "the inputs and the output have different ranges; they must have the same"


def taken(*checks: Check, reads: tuple[str, ...] = SMALL, writes: tuple[str, ...] = (), remedy: str = "") -> Rule:
    """The rule of an op whose 8- and 16-bit activations are quantized."""
    return Rule(reads, SOURCE, checks=(quantized, *checks), writes=writes, remedy=remedy)


RESIZE_REMEDY = "sizes that differ by factors that the NPU takes, or a smaller output"
WINDOW_REMEDY = "a MEAN, or pools of smaller windows"
SHARED = {
    "ADD": taken(reads=INTEGERS),
    "SUB": taken(reads=INTEGERS),
    "MUL": taken(reads=INTEGERS),
    "FULLY_CONNECTED": taken(byte_kernel, constant(2)),
    "AVERAGE_POOL_2D": taken(average_window, convolution_stride, remedy=WINDOW_REMEDY),
    "MAX_POOL_2D": taken(maximum_window, convolution_stride),
    "CONCATENATION": taken(),
    "MEAN": taken(small_reduction),
    "PAD": taken(constant(1)),
    "RELU": taken(),
    "RELU6": taken(),
    "RELU_N1_TO_1": taken(),
    "LOGISTIC": taken(),
    "TANH": taken(),
    "HARD_SWISH": taken(reads=("int8", "uint8")),
    "LEAKY_RELU": taken(),
    "SOFTMAX": taken(softmax_plane, remedy="logits in place of scores (`--output logits`)"),
    "SUM": taken(),
    "REDUCE_MAX": taken(),
    "REDUCE_MIN": taken(),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": taken(),
    "RESHAPE": taken(reads=INTEGERS),
    "SQUEEZE": taken(),
    "EXPAND_DIMS": taken(),
    "STRIDED_SLICE": taken(constant(1, 2, 3)),
    "SLICE": taken(constant(1, 2)),
    "MAXIMUM": taken(same_ranges),
    "MINIMUM": taken(same_ranges),
    "SPLIT": taken(),
    "PACK": taken(),
    "UNPACK": taken(),
    "TRANSPOSE": taken(constant(1)),
    "QUANTIZE": taken(reads=SMALL, writes=SMALL, remedy="an int8 input (`--io int8`)"),
}
U55 = Rules(
    ops={
        **SHARED,
        "CONV_2D": taken(byte_kernel, constant(2), convolution_stride),
        "DEPTHWISE_CONV_2D": taken(byte_kernel, constant(2), depthwise_stride),
        "TRANSPOSE_CONV": taken(byte_kernel, constant(3), transposed_stride, transposed_shape),
        "RESIZE_BILINEAR": taken(resize_of((2, 4, 8), (2,)), remedy=RESIZE_REMEDY),
        "RESIZE_NEAREST_NEIGHBOR": taken(resize_of((2, 4, 8), (2, 4, 8)), remedy=RESIZE_REMEDY),
        "ARG_MAX": taken(depth_at_most_127, writes=("int32", "int64")),
    },
    source=SOURCE,
    everywhere=(open_batch_only,),
)
U85 = Rules(
    ops={
        **SHARED,
        "CONCATENATION": taken(reads=INTEGERS),
        "PACK": taken(reads=INTEGERS),
        "CONV_2D": taken(byte_kernel, constant(2)),
        "DEPTHWISE_CONV_2D": taken(byte_kernel, constant(2)),
        "TRANSPOSE_CONV": taken(byte_kernel, constant(3)),
        "RESIZE_BILINEAR": taken(power_of_two_resize, remedy=RESIZE_REMEDY),
        "RESIZE_NEAREST_NEIGHBOR": taken(),
        "ARG_MAX": taken(writes=("int32", "int64")),
    },
    source=SOURCE,
    everywhere=(open_batch_only,),
)
