"""Which op of the file each line of a profile is of.

LiteRT's own kernels name their op. XNNPACK runs each piece of the graph in the order of its ops (the delegate defines
its nodes in that order, xnnpack_delegate.cc, and xnn_create_runtime keeps it), some of them fused into others, left out
or made of two kernels. So the lines of a piece are laid along its ops by kind, and a line counts as an op's where every
longest way to do that gives it to that op alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pipeline.core.graph import Graph
from pipeline.core.profile import Line
from pipeline.tflite.partitions import partitions

KERNELS = {
    "CONV_2D": ("Convolution", "Fully Connected", "Constant Pad"),
    "DEPTHWISE_CONV_2D": ("Convolution", "Constant Pad"),
    "FULLY_CONNECTED": ("Fully Connected", "Dynamic Fully"),
    "TRANSPOSE_CONV": ("Deconvolution",),
    "ADD": ("Add",),
    "SUB": ("Subtract",),
    "MUL": ("Multiply",),
    "DIV": ("Divide",),
    "RELU": ("Clamp",),
    "RELU6": ("Clamp",),
    "RELU_N1_TO_1": ("Clamp",),
    "RESIZE_BILINEAR": ("Resize Bilinear",),
    "AVERAGE_POOL_2D": ("Average Pooling", "Global Average"),
    "MAX_POOL_2D": ("Max Pooling",),
    "MEAN": ("Mean", "Global Average"),
    "SUM": ("Sum",),
    "PAD": ("Constant Pad",),
    "SOFTMAX": ("Softmax",),
    "LOGISTIC": ("Sigmoid",),
    "TANH": ("Tanh",),
    "HARD_SWISH": ("HardSwish",),
    "LEAKY_RELU": ("Leaky ReLU",),
    "PRELU": ("PReLU",),
    "ELU": ("ELU",),
    "QUANTIZE": ("Convert", "Invalid Unary"),
    "DEQUANTIZE": ("Convert",),
    "TRANSPOSE": ("Transpose",),
    "DEPTH_TO_SPACE": ("Depth To Space", "Transpose"),
    "SPACE_TO_DEPTH": ("Space To Depth", "Transpose"),
    "CONCATENATION": ("Copy", "Concatenate"),
    "RESHAPE": ("Copy", "Static Reshape"),
    "SPLIT": ("Copy", "Slice", "Even Split"),
    "SLICE": ("Slice", "Copy"),
    "STRIDED_SLICE": ("Slice", "Copy"),
    "BATCH_MATMUL": ("Batch Matrix Multiply",),
}
"""What XNNPACK's names for an op begin with (operator-type-defs.inc in google/XNNPACK)."""
CLAMPED = "Clamp"
"""A fused activation can be a kernel of its own, after its op."""
MOST_PAIRS = 4_000_000
"""Of lines and ops in one piece: their number decides how long it takes to lay them along each other, here 10 s."""
SEVERAL = ("CONCATENATION", "SPLIT")
"""Ops that are one kernel for each of their parts."""


def ops_of_lines(graph: Graph, lines: Sequence[Line]) -> list[int | None]:
    """The op of each line, None where that cannot be told."""
    ops: list[int | None] = [None if line.delegated else line.node for line in lines]
    outside = {line.node for line in lines if not line.delegated}
    if not outside <= set(range(len(graph.ops))):
        return [None] * len(lines)
    pieces = partitions(graph, [op.index not in outside for op in graph.ops])
    groups = _groups(lines)
    if len(groups) != len(pieces):
        return ops
    for (start, end), piece in zip(groups, pieces, strict=True):
        ops[start:end] = _along(graph, [line.kernel for line in lines[start:end]], piece)
    return ops


def _groups(lines: Sequence[Line]) -> list[tuple[int, int]]:
    """Where the lines of each delegated piece begin and end: places count from 0 within a piece."""
    starts = [i for i, line in enumerate(lines) if line.delegated and (i == 0 or not _follows(lines[i - 1], line))]
    ends = [
        next((i for i in range(s + 1, len(lines)) if not _follows(lines[i - 1], lines[i])), len(lines)) for s in starts
    ]
    return list(zip(starts, ends, strict=True))


def _follows(before: Line, line: Line) -> bool:
    return before.delegated and line.delegated and line.node == before.node + 1


def _along(graph: Graph, kernels: list[str], piece: list[int]) -> list[int | None]:
    def fits(kernel: str, index: int) -> bool:
        op = graph.ops[index]
        fused = op.options.get("fusedActivationFunction", "NONE") != "NONE" and op.name not in KERNELS["RELU"]
        return kernel.startswith((*KERNELS.get(op.name, ()), *((CLAMPED,) if fused else ())))

    def several(index: int, first: str, second: str) -> bool:
        """Whether two lines in a row may be of one op."""
        return graph.ops[index].name in SEVERAL or (second.startswith(CLAMPED) and not first.startswith(CLAMPED))

    n, m = len(kernels), len(piece)
    if n * m > MOST_PAIRS:
        return [None] * n
    matches = [[fits(kernel, index) for index in piece] for kernel in kernels]
    stays = [[several(index, *pair) for index in piece] for pair in pairwise(kernels)]
    # best[i][j]: lines told of the first i, by the first j ops; last[i][j]: with line i−1 given to op j−1.
    # The same from the end.
    none = -n - 1
    before = [[0] * (m + 1) for _ in range(n + 1)]
    ends_at = [[none] * (m + 1) for _ in range(n + 1)]
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            if matches[i - 1][j - 1]:
                continued = ends_at[i - 1][j] if i > 1 and stays[i - 2][j - 1] else none
                ends_at[i][j] = 1 + max(before[i - 1][j - 1], continued)
            before[i][j] = max(before[i - 1][j], before[i][j - 1], ends_at[i][j])
    after = [[0] * (m + 1) for _ in range(n + 1)]
    begins_at = [[none] * (m + 1) for _ in range(n + 1)]
    for i in range(n - 1, -1, -1):
        for j in range(m - 1, -1, -1):
            if matches[i][j]:
                continued = begins_at[i + 1][j] if i + 1 < n and stays[i][j] else none
                begins_at[i][j] = 1 + max(after[i + 1][j + 1], continued)
            after[i][j] = max(after[i + 1][j], after[i][j + 1], begins_at[i][j])
    most = before[n][m]
    ops: list[int | None] = []
    for i in range(n):
        can = [j for j in range(m) if matches[i][j] and ends_at[i + 1][j + 1] + begins_at[i][j] - 1 == most]
        without = max(before[i][j] + after[i + 1][j] for j in range(m + 1))
        ops.append(piece[can[0]] if len(can) == 1 and without < most else None)
    return ops
