"""Converts a trained network into a checked .tflite file for one target."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import models
from pipeline.convert.parent import Parent, choose_parent
from pipeline.core.artifact import Artifact
from pipeline.core.calibration import Quantization
from pipeline.core.errors import ArtifactError, BadSpec, CompilerError, RunError
from pipeline.core.file_spec import FileSpec, Output, Stride
from pipeline.core.files import unused
from pipeline.core.graph import Graph
from pipeline.core.preprocessing import InputType
from pipeline.core.progress import waiting
from pipeline.core.recipe import Recipe
from pipeline.core.rewrite import AppliedRewrite
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.core.target import FLOAT, CompileResult, Target
from pipeline.core.together import COMPILING, together
from pipeline.heads.shipping import ship, shipped
from pipeline.measure.approximate import effect
from pipeline.quantize.quantize import Quantized, finish, recipe_of
from pipeline.tflite import artifact as artifacts
from pipeline.tflite.apply_rules import apply_rules
from pipeline.tflite.read import read

CHANGED = {
    "about": "author, licence or version in its metadata (the run keeps what it was told last)",
    "parent": "parent (the run's weights changed)",
}
"""What messages call a key of a recipe, where the key alone says too little."""


def spec_for(
    run: Run, target: Target, output: Output, stride: Stride | None, io: InputType | None, say: Say
) -> FileSpec:
    """The spec of the file: what was asked for, by default at full size. Raises BadSpec.

    A mask without a stride becomes int8 logits at stride 8 where the network and the target allow it: segquant_mask.c
    then makes the mask in less time than a resize and argmax in the network, and without rounding.
    """
    as_asked = stride is not None or output != "mask" or (io or target.io[0]) == "float32" or target.weights != "int8"
    if as_asked or not target.exact_mask or models.network(run.config.model.network).logits_stride != 8:
        return target.file_spec(output, stride or 1, io)
    say(
        "mask: the file outputs logits at stride 8, and segquant_mask.c beside it makes the exact mask of them;"
        " output stride 1 (--output-stride 1) puts resize and argmax into the file"
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
    """Makes the artifact of one target in the run, or reuses the existing one.

    ``spec``: what the file takes and outputs, see ``Target.file_spec``; its ``per_tensor`` is ignored, ``source``
    decides it. ``source``: how to quantize, or a parent chosen before, which spares calibrating again and keeps what
    TensorFlow's converter made of it.
    ``force``, ``replace_stale``: replace an artifact that was made otherwise; the second is for artifacts that the user
    did not ask for by name.
    Beside a file of a larger stride lies the C code that makes the mask of its output, except for float logits (see
    ``heads.shipping``). Ops that the target does not support are rewritten where possible (see ``rewrites``).
    Raises BadSpec for a spec that the target does not take, RunError, and ContractViolation naming the op.
    """
    spec = target.file_spec() if spec is None else spec
    target.check(spec)
    parent = source if isinstance(source, Parent) else choose_parent(run, target, source, say)
    spec = dataclasses.replace(spec, per_tensor=parent.per_tensor)
    origin = parent.origin(run)
    path = run.artifacts(target.name) / spec.file_name(run.config.model.network, origin.way)
    wanted = recipe_of(target, spec, parent.ranges, origin)
    existing = _readable(path) if force else _existing(path, say)
    if existing is not None and not force:
        changed = existing.recipe.differences(wanted)
        if not changed:
            return _reuse(existing, say)
        if not replace_stale:
            named = ", ".join(CHANGED.get(key, key) for key in changed)
            raise RunError(f"{path} exists with another {named}: to replace it, force it (--force, or force=True).")
    quantized = _quantize(run, target, parent, wanted, say)
    beside = shipped(path, quantized.data, quantized.recipe)
    artifact = artifacts.write(path, quantized.data, quantized.recipe, beside)
    if existing is not None and existing.compiled is not None and existing.sha256 != artifact.sha256:
        for file in target.files_of(existing.compiled):
            file.unlink(missing_ok=True)
        say(f"removed {existing.compiled.name}, which was compiled from the file before")
    for name in beside:
        say(f"makes the mask of its output: {path.with_name(name)}")
    return artifact


def _readable(path: Path) -> Artifact | None:
    """The artifact that is there; None where there is none that can be used."""
    try:
        return artifacts.open_artifact(path)
    except ArtifactError:
        return None


def _existing(path: Path, say: Say) -> Artifact | None:
    """The artifact that is there; None where there is none, or none that can be used: that is set aside."""
    if not path.exists():
        return None
    try:
        return artifacts.open_artifact(path)
    except ArtifactError as error:
        aside = unused(path.parent, path.name, ".replaced")
        path.rename(aside)
        say(f"{error.message.partition(': run `convert')[0]}: it is made again, and the old file is now {aside.name}")
        return None


def _reuse(existing: Artifact, say: Say) -> Artifact:
    """The artifact as it is, but for TFLite metadata, which are added to a file of a version that wrote none."""
    path = existing.path
    if artifacts.lacks_metadata(existing):
        say(f"{path} exists and was made the same way: reused, with TFLite metadata added")
        existing = artifacts.write(path, path.read_bytes(), existing.recipe)
    elif not artifacts.beside(path).is_file():
        say(f"{path} exists and was made the same way: reused, and its recipe written beside it again")
        artifacts.write_record(existing)
    else:
        say(f"{path} exists and was made the same way: reused")
    ship(existing)
    path.touch()  # so that it counts as the newest artifact
    return existing


def _quantize(run: Run, target: Target, parent: Parent, wanted: Recipe, say: Say) -> Quantized:
    """Reports what was rewritten; measures what approximate rewrites do. Raises BadSpec where one does not fit."""
    spec, origin = wanted.file, wanted.origin
    with waiting(say, f"converting {parent.method} weights for {target.title}"):
        graph = parent.graph(run, spec)
        quantized = finish(graph, parent.ranges, target, spec, origin)
    approximate = [rewrite for rewrite in target.rewrites if not rewrite.exact]
    for rewrite in approximate:
        if rewrite.name not in {applied.rewrite for applied in quantized.applied}:
            raise BadSpec(
                f"the approximate rewrite {rewrite.name} does not fit: {target.title} refuses no op of this network"
                f" that it could replace. It is for {rewrite.needs}. Leave it out."
            )
    for applied in quantized.applied:
        say(_sentence(applied, target))
    say_mask_on_cpu(read(quantized.data), target, say)
    if not approximate:
        return quantized
    exact = dataclasses.replace(target, rewrites=tuple(rewrite for rewrite in target.rewrites if rewrite.exact))
    with waiting(say, "converting without the approximate rewrite, to compare"):
        without = finish(graph, parent.ranges, exact, spec, origin)
    approximation = effect(run, without.data, quantized.data, say)
    return dataclasses.replace(quantized, recipe=dataclasses.replace(quantized.recipe, approximation=approximation))


def _sentence(applied: AppliedRewrite, target: Target) -> str:
    how = next(rewrite.how for rewrite in target.rewrites if rewrite.name == applied.rewrite)
    layer = applied.output.partition(";")[0].rpartition("/")[0]
    return f"rewritten: {applied.op} {layer} into {how} ({applied.why})"


def say_mask_on_cpu(graph: Graph, target: Target, say: Say) -> None:
    """Reports an ARG_MAX that the target leaves to the CPU, and what can take its place."""
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
    folder = artifact.path.parent
    with waiting(say, f"compiling for {target.title}"), together(folder, COMPILING) as stage:
        file = stage / artifact.path.name
        file.write_bytes(artifact.path.read_bytes())
        try:
            compiled = target.compile(file)
        except CompilerError as error:  # it names the files where it saw them
            raise CompilerError(error.message.replace(str(stage), str(folder)), error.details) from None
        file.unlink()
        compiled = dataclasses.replace(compiled, note=compiled.note.replace(str(stage), str(folder)))
        if compiled.path is not None:
            artifact = artifacts.with_compiled(
                artifact, compiled.path, compiled.note, target.files_of(compiled.path)[1:]
            )
    if compiled.path is None and required:
        raise CompilerError(f"{artifact.path} is {compiled.note}")
    return artifact, dataclasses.replace(compiled, path=artifact.compiled if compiled.path else None)


def float_reference(run: Run, spec: FileSpec, say: Say) -> Artifact:
    """The float parent as a .tflite file with the same output and stride, to compare with."""
    return convert(run, FLOAT, say, FLOAT.file_spec(spec.output, spec.stride), replace_stale=True)
