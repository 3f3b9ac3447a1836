"""Converts a trained network into a checked .tflite file for one target."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Callable
from typing import Any

import models
from pipeline.convert.parent import Parent, choose_parent, load_float
from pipeline.core.artifact import Artifact
from pipeline.core.calibration import Quantization
from pipeline.core.errors import BadSpec, CompilerError, RunError
from pipeline.core.files import sha256
from pipeline.core.graph import Graph
from pipeline.core.preprocessing import InputType
from pipeline.core.ranges import ranges_to_json
from pipeline.core.rewrite import Applied
from pipeline.core.run import Run
from pipeline.core.target import Compiled, Target, Weights
from pipeline.heads.shipping import EXACT, NEAREST, ship
from pipeline.measure.approximate import effect
from pipeline.quantize.fold import INPUT_RANGE, Output, Stride, fold
from pipeline.quantize.to_tflite import tflite_bytes
from pipeline.rewrites.apply import rewrite
from pipeline.tflite import artifact as artifacts
from pipeline.tflite.by_rule import by_rule
from pipeline.tflite.read import read
from pipeline.tflite.verify import verify

Say = Callable[[str], None]
Graphs = dict[tuple[Weights, InputType, int], bytes]
"""What TensorFlow's converter made, by what decides it for one parent, output and stride."""

MASKS = {
    "logits": "their argmax over the last axis, the lowest index on ties",
    "scores": "their argmax over the last axis, the lowest index on ties",
    "mask": "int32, as it is",
}
"""What the recipe says of how a file's output becomes a mask."""
OUTCOMES = ("rewritten", "approximated")
"""What a recipe says of the making, and nothing decides."""

FLOAT = Target("float32", "float reference", "float32", ("float32",), source="")
"""The float parent as a file: what every other artifact is compared with."""


def versions() -> dict[str, str]:
    names = ("tensorflow", "tf-keras", "tensorflow-model-optimization", "ai-edge-litert", "numpy")
    return {name: importlib.metadata.version(name) for name in names}


def output_and_stride(
    run: Run, target: Target, output: Output, stride: Stride | None, io: InputType | None, say: Say
) -> tuple[Output, Stride]:  # fmt: skip
    """What the file is to give where the stride was left open: what was asked for, at full size, but for a mask.

    That is made of stride-8 int8 logits, where the network has them and the target says so: segquant_mask.c needs less
    time for it than a resize and argmax in the network, and rounds nothing.
    """
    as_asked = stride is not None or output != "mask" or (io or target.io[0]) == "float32" or target.weights != "int8"
    if as_asked or not target.exact_mask or models.network(run.config.model.network).logits_stride != 8:
        return output, stride or 1
    say(
        "mask: the file gives logits at stride 8, and segquant_mask.c beside it makes the exact mask of them;"
        " --output-stride 1 puts resize and argmax into the file"
    )
    return "logits", 8


def outside(target: Target, output: Output, io: InputType) -> str | None:
    """What makes the mask of full size of an output that is smaller; None for float logits, which nothing ships for."""
    return NEAREST if output == "mask" else EXACT if target.weights == "int8" and io != "float32" else None


def recipe_of(
    run: Run, target: Target, parent: Parent, output: Output, io: InputType, stride: Stride = 1
) -> dict[str, Any]:  # fmt: skip
    """All that decides what the file will be; what was rewritten comes to it once that is known."""
    spec = run.config.model
    strided = {} if stride == 1 else {"output_stride": stride, "postprocess": outside(target, output, io)}
    return {
        **strided,
        "schema": 1,
        "target": target.name,
        "model": dataclasses.asdict(spec),
        "size": spec.size,
        "classes": list(run.config.classes),
        "colours": [list(c) for c in run.config.colours],
        "data": run.config.data.partition(":")[0],
        "preprocessing": run.preprocessing.to_json(),
        "output": output,
        "mask": MASKS[output],
        "io": io,
        "weights": target.weights,
        "per_tensor": parent.per_tensor,
        "level": target.level,
        "rewrites": [one.name for one in target.rewrites],
        "method": parent.method,
        "calibration": parent.calibration,
        "ranges": ranges_to_json(parent.ranges) if parent.ranges else None,
        "versions": versions(),
        "parent": {
            "checkpoint": f"{parent.checkpoint.parent.name}/{parent.checkpoint.name}",
            "sha256": sha256(parent.checkpoint),
        },
    }


def graph_for(
    run: Run, target: Target, parent: Parent, output: Output, stride: Stride, io: InputType, graphs: Graphs
) -> tuple[bytes, tuple[Applied, ...]]:  # fmt: skip
    """The network as the target takes it, a .tflite file without a recipe yet, and what was rewritten in it.

    ``graphs`` keeps what TensorFlow's converter makes of this parent, output and stride for other targets.
    """
    made_from = (target.weights, io, target.argmax_lanes if output == "mask" else 1)
    if made_from not in graphs:
        model = load_float(run, parent.checkpoint)
        model = fold(model, parent.ranges, output, parent.per_tensor, target.argmax_lanes, stride)
        graphs[made_from] = tflite_bytes(model, target.weights, io, parent.per_tensor)
    return rewrite(graphs[made_from], target, parent.per_tensor)


def convert(  # long: to be split
    run: Run, target: Target, say: Say, *, output: Output = "logits", stride: Stride = 1, io: InputType | None = None,
    asked: Quantization = Quantization(), force: bool = False, replace_stale: bool = False,
    parent: Parent | None = None, graphs: Graphs | None = None,
) -> Artifact:  # fmt: skip
    """Makes the artifact of one target in the run, or reuses the one that is there.

    Beside a file with a larger ``stride`` lies the C code that makes the mask of its output, but for float logits (see
    ``heads.shipping``).

    Ops that the target does not take are rewritten where one of its rewrites does the same (see ``rewrite``).
    ``parent`` spares choosing it again, and calibrating, where a target of the same weights has done so; ``graphs``
    keeps what TensorFlow's converter made of that parent for ``output``, and spares its work for the next target.
    One that was made otherwise is replaced with ``force``, or with ``replace_stale`` where nobody asked for it by name.
    Raises BadSpec for an --io the target does not take, RunError, and ContractViolation naming the op.
    """
    io = io or target.io[0]
    if io not in target.io:
        raise BadSpec(f"--io {io} does not fit target {target.name}: it takes {', '.join(target.io)}.")
    parent = parent or choose_parent(run, target, asked, say)
    recipe = recipe_of(run, target, parent, output, io, stride)
    method = parent.method if target.weights == "int8" else target.weights
    what = output if stride == 1 else f"{output}-stride{stride}"
    path = run.artifacts(target.name) / f"{run.config.model.network}-{method}-{what}-{io}.tflite"
    if path.exists() and not force:
        there = artifacts.open_artifact(path)
        if {k: v for k, v in there.recipe.items() if k not in OUTCOMES} == recipe:
            say(f"{path} is there and made the same way: reused")
            ship(there)
            path.touch()  # so that it is the one converted last
            return there
        changed = sorted(k for k in recipe if there.recipe.get(k) != recipe[k])
        if not replace_stale:
            raise RunError(f"{path} exists with another {', '.join(changed)}: pass --force to replace it.")
    say(f"converting {parent.method} weights for {target.title}")
    graphs = {} if graphs is None else graphs
    data, applied = graph_for(run, target, parent, output, stride, io, graphs)
    nearly = [one for one in target.rewrites if not one.exact]
    for wanted in nearly:
        if wanted.name not in {one.rewrite for one in applied}:
            raise BadSpec(
                f"--approximate {wanted.name} does not fit: {target.title} refuses no op of this network that it could"
                f" replace. It is for {wanted.needs}. Leave it out."
            )
    how = {one.name: one.how for one in target.rewrites}
    for one in applied:
        say(
            f"rewritten: {one.op} {one.output.partition(';')[0].rpartition('/')[0]} into {how[one.rewrite]} ({one.why})"
        )
    pinned = [INPUT_RANGE, *parent.ranges.values()] if parent.ranges else []
    graph = read(data)
    verify(graph, target, pinned, parent.per_tensor)
    say_who_makes_the_mask(graph, target, say)
    approximated = None
    if nearly:
        exact = dataclasses.replace(target, rewrites=tuple(one for one in target.rewrites if one.exact))
        approximated = effect(run, graph_for(run, exact, parent, output, stride, io, graphs)[0], data, say)
    outcomes = {"rewritten": [dataclasses.asdict(one) for one in applied], "approximated": approximated}
    artifact = artifacts.write(path, data, {**recipe, **outcomes})
    for file in ship(artifact):
        say(f"to make the mask of its output: {file}")
    return artifact


def say_who_makes_the_mask(graph: Graph, target: Target, say: Say) -> None:
    """Says of an ARG_MAX that the target leaves to the CPU what can be had in its place."""
    for verdict in by_rule(graph, target.rules) if target.rules else ():
        if graph.ops[verdict.op].name == "ARG_MAX" and verdict.outcome != "accelerated" and verdict.remedy:
            say(f"note: the CPU makes the mask, inside the file ({verdict.reason}). In its place: {verdict.remedy}")


def compile_artifact(artifact: Artifact, target: Target, required: bool, say: Say) -> tuple[Artifact, Compiled | None]:
    """Runs the target's compiler where it has one. Raises CompilerError when it fails, or is required and missing."""
    if target.compile is None:
        if required:
            raise CompilerError(f"target {target.name} has no compiler to require: leave --require-compiled out.")
        return artifact, None
    compiled = target.compile(artifact.path)
    if compiled.path is None:
        if required:
            raise CompilerError(f"{artifact.path} is {compiled.note}")
        return artifact, compiled
    return artifacts.with_compiled(artifact, compiled.path, compiled.note), compiled


def float_reference(run: Run, output: Output, stride: Stride, say: Say) -> Artifact:
    """The float parent as a .tflite file with the same output, for comparison."""
    return convert(run, FLOAT, say, output=output, stride=stride, replace_stale=True)
