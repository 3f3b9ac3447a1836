"""Tells op by op where a file's inference spends its time on this machine, and what the machine could attain."""

from __future__ import annotations

from pathlib import Path

from pipeline.devices import connect, host_profile
from pipeline.devices.xnnpack_lines import ops_of_lines
from pipeline.inspect import BORDER, macs
from pipeline.nouns.errors import ArtifactError
from pipeline.nouns.files import sha256
from pipeline.nouns.profile import OpTime, Peaks, Profile, Timed
from pipeline.nouns.tflite import Graph, Op, read

STAGES = {
    "ltd": "learning to downsample", "gfe1": "global features, 1/16", "gfe2": "global features, 1/32",
    "gfe3": "global features, 1/32", "ppm": "pyramid pooling", "fusion": "feature fusion", "head": "classifier",
    "logits": "upsampling", "scores": "upsampling", "mask": "upsampling",
}  # fmt: skip
"""What the first word of a layer's name stands for (models/fast_scnn.py); other words stand for themselves."""


def profile(file: Path, threads: int, runs: int) -> Profile:
    """Raises ArtifactError for a file that is none or that LiteRT cannot profile."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read ({error.strerror}): name a .tflite file.") from None
    graph = read(data, str(file))
    machine = connect("host").describe()
    timed = host_profile.profile(file, threads, runs)
    peaks = host_profile.peaks(threads)
    return Profile(
        file=str(file), sha256=sha256(data), machine=machine, threads=threads, runs=runs, total_ms=timed.total_ms,
        between_ms=timed.between_ms, plain_ms=timed.plain_ms,
        ops=tuple(times_of_ops(graph, timed, peaks)), peaks=peaks,
    )  # fmt: skip


def times_of_ops(graph: Graph, timed: Timed, peaks: Peaks) -> list[OpTime]:
    """Every op, and after them each line of which the op cannot be told. All times add up to those of the lines."""
    of_line = ops_of_lines(graph, timed.lines)
    stages = stages_of(graph)

    def row(op: Op) -> OpTime:
        lines = [line for line, index in zip(timed.lines, of_line, strict=True) if index == op.index]
        ms, count, moved = sum(line.ms for line in lines), macs(op, graph), moved_bytes(op, graph)
        return OpTime(
            index=op.index, op=op.name, layer=layer_of(op, graph), stage=stages[op.index],
            kernels=tuple(line.kernel for line in lines), measured_ms=ms, measured_share=ms / timed.total_ms,
            macs=count, moved_bytes=moved,
            attainable_ms=peaks.attainable_ms(count, moved, in_int8(op, graph)) if lines else 0.0,
        )  # fmt: skip

    untold = [line for line, index in zip(timed.lines, of_line, strict=True) if index is None]
    return [
        *map(row, graph.ops),
        *(OpTime(None, "", "", "", (x.kernel,), x.ms, x.ms / timed.total_ms, 0, 0, 0.0) for x in untold),
    ]


def moved_bytes(op: Op, graph: Graph) -> int:
    """Its constants, what it reads and what it writes, each tensor once and unpadded."""
    tensors = [graph.tensors[i] for i in {i for i in (*op.inputs, *op.outputs) if i >= 0}]
    return sum(t.size_bytes if t.constant else t.activation_bytes for t in tensors)


def in_int8(op: Op, graph: Graph) -> bool:
    return any(t.dtype in ("int8", "uint8") for t in graph.reads(op) if not t.constant)


def layer_of(op: Op, graph: Graph) -> str:
    """What it writes is named after the network and the layer: 'fast_scnn/ltd_conv_relu/Relu;…' → 'ltd_conv_relu'."""
    name = next((t.name for t in graph.writes(op)), "").partition(";")[0]
    parts = name.split("/")
    return parts[1] if len(parts) > 1 and parts[1] else parts[0]


def stages_of(graph: Graph) -> list[str]:
    """Each op's stage: the first word of its layer's name, in words where STAGES has it.

    An op whose result has no layer's name, as those at the network's border, goes with what it reads, or reads it.
    """
    made_by = {i: op.index for op in graph.ops for i in op.outputs}
    found = ["" for _ in graph.ops]
    for op in graph.ops:
        word = layer_of(op, graph).partition("_")[0]
        before = next((made_by[i] for i in op.inputs if i in made_by), None)
        if op.name in BORDER and graph.at_border(op):
            found[op.index] = "input" if all(one.name in BORDER for one in graph.ops[: op.index]) else "output"
        elif not any("/" in t.name for t in graph.writes(op)) and before is not None:
            found[op.index] = found[before]
        else:
            found[op.index] = STAGES.get(word, word)
    return found
