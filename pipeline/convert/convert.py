"""Converts a trained network into a checked .tflite file for one target."""

from __future__ import annotations

import dataclasses

import models
from pipeline.convert.parent import Parent, choose_parent
from pipeline.core.artifact import Artifact
from pipeline.core.calibration import Quantization
from pipeline.core.errors import BadSpec, CompilerError, RunError
from pipeline.core.file_spec import FileSpec, Output, Stride
from pipeline.core.graph import Graph
from pipeline.core.preprocessing import InputType
from pipeline.core.recipe import Recipe
from pipeline.core.rewrite import AppliedRewrite
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.core.target import FLOAT, CompileResult, Target
from pipeline.heads.shipping import ship
from pipeline.measure.approximate import effect
from pipeline.quantize.quantize import Quantized, finish, recipe_of
from pipeline.tflite import artifact as artifacts
from pipeline.tflite.apply_rules import apply_rules
from pipeline.tflite.read import read


def spec_for(
    run: Run, target: Target, output: Output, stride: Stride | None, io: InputType | None, say: Say
) -> FileSpec:
    """What the file is to be where the stride was left open: what was asked for, at full size, but for a mask.

    That is made of stride-8 int8 logits, where the network has them and the target says so: segquant_mask.c needs less
    time for it than a resize and argmax in the network, and rounds nothing. Raises BadSpec.
    """
    as_asked = stride is not None or output != "mask" or (io or target.io[0]) == "float32" or target.weights != "int8"
    if as_asked or not target.exact_mask or models.network(run.config.model.network).logits_stride != 8:
        return target.file_spec(output, stride or 1, io)
    say(
        "mask: the file gives logits at stride 8, and segquant_mask.c beside it makes the exact mask of them;"
        " output stride 1 puts resize and argmax into the file"
    )
    return target.file_spec("logits", 8, io)


def convert(
    run: Run,
    target: Target,
    say: Say,
    spec: FileSpec | None = None,
    *,
    source: Quantization | Parent = Quantization(),
    force: bool = False,
    replace_stale: bool = False,
) -> Artifact:
    """Makes the artifact of one target in the run, or reuses the one that is there.

    ``spec``: what it is to give and take, see ``Target.file_spec``; whether it is per tensor is for ``source`` to say:
    how to quantize, or the parent that was chosen already, which spares choosing it again, and calibrating, and what
    TensorFlow's converter made of it.
    Beside a file with a larger stride lies the C code that makes the mask of its output, but for float logits (see
    ``heads.shipping``).
    Ops that the target does not take are rewritten where one of its rewrites does the same (see ``rewrite``).
    One that was made otherwise is replaced with ``force``, or with ``replace_stale`` where nobody asked for it by name.
    Raises BadSpec for a spec the target does not take, RunError, and ContractViolation naming the op.
    """
    spec = target.file_spec() if spec is None else spec
    target.check(spec)
    parent = source if isinstance(source, Parent) else choose_parent(run, target, source, say)
    spec = dataclasses.replace(spec, per_tensor=parent.per_tensor)
    path = run.artifacts(target.name) / spec.file_name(run.config.model.network, parent.method)
    wanted = recipe_of(target, spec, parent.ranges, parent.origin(run))
    if path.exists() and not force:
        there = artifacts.open_artifact(path)
        changed = there.recipe.differences(wanted)
        if not changed:
            say(f"{path} is there and made the same way: reused")
            ship(there)
            path.touch()  # so that it is the one converted last
            return there
        if not replace_stale:
            raise RunError(
                f"{path} exists with another {', '.join(changed)}: to replace it, force it (--force, or force=True)."
            )
    say(f"converting {parent.method} weights for {target.title}")
    made = _made(run, target, parent, wanted, say)
    artifact = artifacts.write(path, made.data, made.recipe)
    for file in ship(artifact):
        say(f"to make the mask of its output: {file}")
    return artifact


def _made(run: Run, target: Target, parent: Parent, wanted: Recipe, say: Say) -> Quantized:
    """The file, and all that is worth saying of it; what a rewrite does that is not equal is measured."""
    spec, origin = wanted.file, wanted.origin
    graph = parent.graph(run, spec)
    made = finish(graph, parent.ranges, target, spec, origin)
    nearly = [one for one in target.rewrites if not one.exact]
    for asked in nearly:
        if asked.name not in {one.rewrite for one in made.applied}:
            raise BadSpec(
                f"the approximate rewrite {asked.name} does not fit: {target.title} refuses no op of this network that"
                f" it could replace. It is for {asked.needs}. Leave it out."
            )
    for one in made.applied:
        say(_rewritten(one, target))
    say_who_makes_the_mask(read(made.data), target, say)
    if not nearly:
        return made
    exact = dataclasses.replace(target, rewrites=tuple(one for one in target.rewrites if one.exact))
    without = finish(graph, parent.ranges, exact, spec, origin)
    approximated = effect(run, without.data, made.data, say)
    return dataclasses.replace(made, recipe=dataclasses.replace(made.recipe, approximation=approximated))


def _rewritten(one: AppliedRewrite, target: Target) -> str:
    how = next(each.how for each in target.rewrites if each.name == one.rewrite)
    return f"rewritten: {one.op} {one.output.partition(';')[0].rpartition('/')[0]} into {how} ({one.why})"


def say_who_makes_the_mask(graph: Graph, target: Target, say: Say) -> None:
    """Says of an ARG_MAX that the target leaves to the CPU what can be had in its place."""
    for verdict in apply_rules(graph, target.rules) if target.rules else ():
        if graph.ops[verdict.op].name == "ARG_MAX" and verdict.outcome != "accelerated" and verdict.remedy:
            say(f"note: the CPU makes the mask, inside the file ({verdict.reason}). In its place: {verdict.remedy}")


def compile_artifact(
    artifact: Artifact, target: Target, required: bool, say: Say
) -> tuple[Artifact, CompileResult | None]:
    """Runs the target's compiler where it has one. Raises CompilerError when it fails, or is required and missing."""
    if target.compile is None:
        if required:
            raise CompilerError(f"target {target.name} has no compiler: do not require a compiled file.")
        return artifact, None
    compiled = target.compile(artifact.path)
    if compiled.path is None:
        if required:
            raise CompilerError(f"{artifact.path} is {compiled.note}")
        return artifact, compiled
    return artifacts.with_compiled(artifact, compiled.path, compiled.note), compiled


def float_reference(run: Run, spec: FileSpec, say: Say) -> Artifact:
    """The float parent as a .tflite file with the same output and stride, for comparison."""
    return convert(run, FLOAT, say, FLOAT.file_spec(spec.output, spec.stride), replace_stale=True)
