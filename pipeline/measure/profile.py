"""Profiles an inference on this machine's CPU op by op, and compares it with what the machine could attain."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.core.errors import ArtifactError
from pipeline.core.files import sha256
from pipeline.core.graph import BORDER, Graph, Op
from pipeline.core.profile import Line, OpTime, Peaks, Profile, RuntimeProfile
from pipeline.devices import connect
from pipeline.drivers import host_profile
from pipeline.drivers.xnnpack_lines import ops_of_lines
from pipeline.measure.inspect import notes_on, opened
from pipeline.targets import target
from pipeline.tflite.apply_rules import apply_rules
from pipeline.tflite.macs import macs
from pipeline.tflite.read import with_stored_sizes

OUTPUT = {"scores": "output", "mask": "output"}
"""Stages of the layers that ``fold`` puts behind any network's logits."""


def profile(file: Path, threads: int, runs: int) -> Profile:
    """Raises ArtifactError for a file that is not a .tflite file or that LiteRT cannot profile."""
    data, graph = opened(file)
    machine = connect("host").describe()
    try:
        timed = _timed(data, file, graph, threads, runs)
    except ArtifactError as error:
        raise _explained(error, file, graph) from None
    peaks = host_profile.peaks(threads)
    return Profile(
        file=str(file),
        sha256=sha256(data),
        machine=machine,
        threads=threads,
        runs=runs,
        total_ms=timed.total_ms,
        between_ms=timed.between_ms,
        plain_ms=timed.plain_ms,
        ops=tuple(times_of_ops(graph, timed, peaks)),
        peaks=peaks,
        notes=notes_on(graph),
    )


def _timed(data: bytes, file: Path, graph: Graph, threads: int, runs: int) -> RuntimeProfile:
    """The profiler needs fixed sizes: a file that leaves some open runs as a copy with the sizes that it stores."""
    if not any(tensor.dynamic for tensor in graph.tensors):
        return host_profile.profile(file, threads, runs)
    with tempfile.TemporaryDirectory(prefix="profile-") as scratch:
        copy = Path(scratch) / file.name
        copy.write_bytes(with_stored_sizes(data))
        try:
            return host_profile.profile(copy, threads, runs)
        except ArtifactError as error:
            raise ArtifactError(str(error).replace(str(copy), str(file))) from None


def _explained(error: ArtifactError, file: Path, graph: Graph) -> ArtifactError:
    """An error that names the op that LiteRT's rules for CPUs refuse, or the open size; else the error itself."""
    rules = target("cpu").rules
    refused = next((v for v in apply_rules(graph, rules) if v.outcome == "refused"), None) if rules else None
    sizes = graph.computed_sizes
    if refused is None and sizes:
        return ArtifactError(
            f"{error} Tensor {graph.tensors[min(sizes)].name} gets its size only when the network runs, which"
            " LiteRT's profiler does not support: convert from a function in which all sizes are fixed."
        )
    if refused is None:
        return error
    op = graph.ops[refused.op]
    return ArtifactError(
        f"LiteRT does not run {file}: op {op.index} {op.name}, {refused.reason}. Try: {refused.remedy}."
    )


def times_of_ops(graph: Graph, timed: RuntimeProfile, peaks: Peaks) -> list[OpTime]:
    """Every op, then each line that cannot be attributed to one op. The times add up to those of the lines."""
    of_line = ops_of_lines(graph, timed.lines)
    stages = stages_of(graph, words_of(graph))
    lines_of: dict[int | None, list[Line]] = {}
    for line, index in zip(timed.lines, of_line, strict=True):
        lines_of.setdefault(index, []).append(line)

    def row(op: Op) -> OpTime:
        lines = lines_of.get(op.index, [])
        ms, count, moved = sum(line.ms for line in lines), macs(op, graph), moved_bytes(op, graph)
        return OpTime(
            index=op.index,
            op=op.name,
            layer=layer_of(op, graph),
            stage=stages[op.index],
            kernels=tuple(line.kernel for line in lines),
            measured_ms=ms,
            measured_share=ms / timed.total_ms,
            macs=count,
            moved_bytes=moved,
            attainable_ms=peaks.attainable_ms(count, moved, in_int8(op, graph)) if lines else 0.0,
        )

    return [
        *map(row, graph.ops),
        *(
            OpTime(None, "", "", "", (x.kernel,), x.ms, x.ms / timed.total_ms, 0, 0, 0.0)
            for x in lines_of.get(None, [])
        ),
    ]


def moved_bytes(op: Op, graph: Graph) -> int:
    """Bytes of the op's constants, inputs and outputs, each tensor once and without padding."""
    tensors = [graph.tensors[i] for i in {i for i in (*op.inputs, *op.outputs) if i >= 0}]
    return sum(t.size_bytes if t.constant else t.activation_bytes for t in tensors)


def in_int8(op: Op, graph: Graph) -> bool:
    return any(t.dtype in ("int8", "uint8") for t in graph.reads(op) if not t.constant)


def layer_of(op: Op, graph: Graph) -> str:
    """From the name of the op's output, NETWORK/LAYER/…: 'fast_scnn/ltd_conv_relu/Relu;…' → 'ltd_conv_relu'."""
    name = next((t.name for t in graph.writes(op)), "").partition(";")[0]
    parts = name.split("/")
    return parts[1] if len(parts) > 1 and parts[1] else parts[0]


def words_of(graph: Graph) -> Mapping[str, str]:
    """``Network.stages`` of the network in the file's recipe, and OUTPUT; {} for a file without a recipe."""
    try:
        recipe = graph.recipe()
    except ArtifactError:
        recipe = None
    if recipe is None or recipe.origin is None:
        return {}
    from models import networks  # loads TensorFlow, which a file without a recipe does not need

    named = networks().get(recipe.origin.model.network)
    return {**OUTPUT, **(named.stages if named else {})}


def stages_of(graph: Graph, words: Mapping[str, str]) -> list[str]:
    """Each op's stage: the first word of its layer's name, in plain words where ``words`` has them.

    Conversions at the network's border belong to the input or the output; another op whose output has no layer's name
    belongs to the stage of the op before it.
    """
    producer = {i: op.index for op in graph.ops for i in op.outputs}
    stages = ["" for _ in graph.ops]
    first = next((op.index for op in graph.ops if op.name not in BORDER), len(graph.ops))
    for op in graph.ops:
        word = layer_of(op, graph).partition("_")[0]
        before = next((producer[i] for i in op.inputs if i in producer), None)
        if op.name in BORDER and graph.at_border(op):
            stages[op.index] = "input" if op.index < first else "output"
        elif not any("/" in t.name for t in graph.writes(op)) and before is not None:
            stages[op.index] = stages[before]
        else:
            stages[op.index] = words.get(word, word)
    return stages
