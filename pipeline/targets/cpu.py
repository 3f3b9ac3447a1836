"""Plain CPUs through XNNPACK, LiteRT's default delegate. What it leaves runs in LiteRT's own kernels, there too."""

from __future__ import annotations

import importlib.metadata
import json
import math
import subprocess
import sys
from pathlib import Path

from pipeline.nouns.rules import Check, Rule, Rules, Verdict
from pipeline.nouns.target import Answer, Target
from pipeline.nouns.tflite import Graph, Op
from pipeline.targets.camera_rewrites import BYTES_THROUGH_FLOAT
from pipeline.targets.checks import (
    FLOATS,
    activation,
    constant,
    constant_axes,
    data_of,
    fixed_sizes,
    from_file,
    unit_strides,
)
from pipeline.targets.rewrites import PADDING_FOLDED

SOURCE = "tflite/delegates/xnnpack/xnnpack_delegate.cc"
WORKER = Path(__file__).with_name("xnnpack_worker.py")
TIMEOUT_SECONDS = 300


def ask(file: Path, graph: Graph) -> Answer:
    """Which ops LiteRT hands to XNNPACK on this machine."""
    by = f"LiteRT {importlib.metadata.version('ai-edge-litert')}"
    try:
        done = subprocess.run(
            [sys.executable, str(WORKER), str(file)], capture_output=True, text=True, timeout=TIMEOUT_SECONDS,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Answer(None, f"{by} did not load the file in {TIMEOUT_SECONDS} s")
    if done.returncode != 0:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["nothing"]
        return Answer(None, f"{by} cannot load the file (exit code {done.returncode}): {said[-1]}")
    inside = in_pieces(graph, json.loads(done.stdout.splitlines()[-1]))
    return Answer(
        tuple(
            Verdict(op.index, "accelerated", "", by, by) if op.index in inside
            else Verdict(op.index, "falls back", "left to LiteRT's own kernel", by, by)
            for op in graph.ops
        ),
        f"{by}, XNNPACK",
    )  # fmt: skip


def in_pieces(graph: Graph, pieces: list[dict[str, list[int]]]) -> set[int]:
    """Ops between the inputs and the outputs of the delegate's pieces."""
    made_by = {i: op for op in graph.ops for i in op.outputs}
    found: set[int] = set()
    for piece in pieces:
        borders, open_ends = set(piece["inputs"]), list(piece["outputs"])
        while open_ends:
            op = made_by.get(open_ends.pop())
            if op is not None and op.index not in found:
                found.add(op.index)
                open_ends += [i for i in op.inputs if i >= 0 and i not in borders]
    return found


def one_range(op: Op, graph: Graph) -> str | None:
    """Quantized data keeps its range on the way through."""
    ranges = {(t.scale, t.zero_point) for t in (*graph.reads(op), *graph.writes(op)) if t.dtype in ("int8", "uint8")}
    return None if len(ranges) < 2 else "its inputs and its output have different ranges"


def inputs_at_most(limit: int) -> Check:
    def check(op: Op, graph: Graph) -> str | None:
        return None if len(op.inputs) <= limit else f"{len(op.inputs)} inputs; {limit} at most"

    return check


def pieces_at_most(limit: int) -> Check:
    def check(op: Op, graph: Graph) -> str | None:
        return None if len(op.outputs) <= limit else f"{len(op.outputs)} pieces; {limit} at most"

    return check


def ratios(low: float, high: float, product: bool = False, top: bool = False) -> Check:
    """Quantized: each input's scale, or their ``product``, by the output's; ``high`` itself only with ``top``."""

    def check(op: Op, graph: Graph) -> str | None:
        made = graph.tensors[op.outputs[0]]
        scales = [t.scale[0] for t in graph.reads(op) if t.scale]
        if not made.scale or not scales:
            return None
        for scale in [math.prod(scales)] if product else scales:
            ratio = scale / made.scale[0]
            if not (low <= ratio < high or (top and ratio == high)):
                return f"scales in by scale out: {ratio:.4g}; {low:.4g} to {high:.4g} only"
        return None

    return check


def rank_of_4(op: Op, graph: Graph) -> str | None:
    shape = data_of(op, graph).shape
    return None if len(shape) == 4 else f"data of {len(shape)} dimensions; 4 only"


def keeps_sign(op: Op, graph: Graph) -> str | None:
    old, new = data_of(op, graph).dtype, graph.tensors[op.outputs[0]].dtype
    return None if old in ("float32", new) else f"from {old} to {new}; from float32, or within one type"


FUSED = activation("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
INT8 = ("int8", "uint8")
BOTH = ("float32", *INT8)
ONLY_FLOAT = ("float32",)
FLOAT_ONLY = (
    "ABS", "CEIL", "COS", "DIV", "EXP", "FLOOR", "GELU", "LOG", "MAXIMUM", "MINIMUM", "NEG", "ROUND", "RSQRT", "SIN",
    "SQRT", "SQUARE", "SQUARED_DIFFERENCE",
)  # fmt: skip


def taken(*checks: Check, reads: tuple[str, ...] = BOTH, writes: tuple[str, ...] = (), remedy: str = "") -> Rule:
    return Rule(reads, SOURCE, checks=checks, writes=writes, remedy=remedy)


CPU = Target(
    name="cpu",
    title="CPU, LiteRT with XNNPACK",
    weights="int8",
    io=("uint8", "int8", "float32"),  # uint8 first: camera frames and MediaPipe plug in as they are
    source="LiteRT runs what its own converter writes",
    rules=Rules(
        ops={
            "CONV_2D": taken(FUSED, from_file(1, 2)), "DEPTHWISE_CONV_2D": taken(FUSED, from_file(1, 2)),
            "TRANSPOSE_CONV": taken(from_file(0, 1, 3)), "FULLY_CONNECTED": taken(FUSED, from_file(1)),
            "ADD": taken(FUSED, ratios(2**-10, 2**8)), "SUB": taken(FUSED, ratios(2**-10, 2**8)),
            "MUL": taken(FUSED, ratios(2**-16, 2**8, product=True)),
            "CONCATENATION": taken(activation("NONE"), inputs_at_most(5)),
            # Not rewritten: XNNPACK takes Fast-SCNN's pools as depthwise convolutions, and the network at 360x480 then
            # 1.14 times as long (interleaved, one thread, Xeon with VNNI) as with LiteRT's own kernel beside it.
            "AVERAGE_POOL_2D": taken(FUSED, reads=ONLY_FLOAT, remedy="a MEAN, where the window is the whole map"),
            "MAX_POOL_2D": taken(FUSED, one_range),
            "MEAN": taken(constant_axes), "SUM": taken(constant_axes),
            "REDUCE_MAX": taken(constant_axes), "REDUCE_MIN": taken(constant_axes),
            "RESIZE_BILINEAR": taken(rank_of_4, constant(1), one_range),
            "SOFTMAX": taken(reads=ONLY_FLOAT, remedy="logits in place of scores (`--output logits`)"),
            "LOGISTIC": taken(), "TANH": taken(), "ELU": taken(), "LEAKY_RELU": taken(),
            "RELU": taken(reads=ONLY_FLOAT), "RELU6": taken(reads=ONLY_FLOAT), "RELU_N1_TO_1": taken(reads=ONLY_FLOAT),
            "HARD_SWISH": taken(reads=ONLY_FLOAT),
            "PAD": taken(constant(1), one_range), "RESHAPE": taken(one_range), "TRANSPOSE": taken(constant(1)),
            "SLICE": taken(constant(1, 2)),
            "STRIDED_SLICE": taken(constant(1, 2), unit_strides), "SPLIT": taken(constant(0), pieces_at_most(4)),
            "DEPTH_TO_SPACE": taken(), "SPACE_TO_DEPTH": taken(), "PRELU": taken(constant(1), reads=ONLY_FLOAT),
            "DENSIFY": taken(constant(0)), **{op: taken(reads=ONLY_FLOAT) for op in FLOAT_ONLY},
            # A camera's uint8 is 10 times as fast through XNNPACK as through LiteRT's own kernel (Xeon, one thread).
            "QUANTIZE": taken(keeps_sign, ratios(2**-8, 2**7, top=True), writes=INT8),
            "DEQUANTIZE": taken(reads=(*INT8, *FLOATS), writes=ONLY_FLOAT),
        },
        source=SOURCE,
        everywhere=(fixed_sizes,),
    ),
    rewrites=(BYTES_THROUGH_FLOAT, PADDING_FOLDED),
    ask=ask,
    exact_mask=True,  # results/heads.json
)  # fmt: skip
