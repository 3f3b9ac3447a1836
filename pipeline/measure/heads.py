"""Measures each way to the full-size mask of a network: mIoU, and latency with what makes the mask outside the file."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import tempfile
from collections.abc import Sequence
from pathlib import Path

import models
from pipeline.convert.parent import load_float, parent_of
from pipeline.core.device import Device, DeviceOptions, RunnerOptions
from pipeline.core.errors import BadSpec, CompilerError
from pipeline.core.file_spec import FileSpec, Output, Stride
from pipeline.core.files import sha256
from pipeline.core.measurement import Head, HeadsMeasurement
from pipeline.core.preprocessing import InputType
from pipeline.core.progress import track
from pipeline.core.recipe import Recipe
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.core.target import Target
from pipeline.devices import connect, device
from pipeline.heads.native import compiler
from pipeline.measure.alone import alone_on
from pipeline.measure.evaluation import EvaluationSet, predict
from pipeline.measure.loaded import Loaded
from pipeline.measure.notes import notes_on_times
from pipeline.measure.plan import HeadsPlan
from pipeline.measure.time_plan import time_in_turns
from pipeline.measure.timing import ratio_of
from pipeline.quantize.quantize import quantize
from pipeline.targets import target as target_named

STRIDES: tuple[Stride, ...] = (8, 4, 2, 1)
NO_MASK = "times are up to the file's output: our C code does not run on this device, or this machine has no C compiler"


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to a full-size mask: a file, and what makes the mask of its output.

    Attributes:
      outside: what makes the mask outside the file, in words; None where the output is that mask.
      alone: only the file is timed, and no mask is made or scored: another way has the same file.
    """

    spec: FileSpec
    outside: str | None
    alone: bool = False

    @property
    def output(self) -> Output:
        return self.spec.output

    @property
    def stride(self) -> Stride:
        return self.spec.stride

    @property
    def name(self) -> str:
        if self.alone:
            return f"{self.output} of stride {self.stride}, no mask made"
        if self.output != "mask":
            return f"{self.output} of stride {self.stride}, exact mask in C"
        if self.stride == 1:
            return "resize and argmax in the file"
        return f"argmax at stride {self.stride} in the file, nearest x{self.stride} in C"


def ways(target: Target, io: InputType, coarsest: int, per_tensor: bool = False) -> list[Way]:
    """All ways for a network whose logits have ``coarsest`` pixels to a sample before their last resize."""
    first: Stride = next(stride for stride in STRIDES if stride <= coarsest)
    logits = target.file_spec("logits", first, io, per_tensor)
    by_logits = [Way(logits, None, alone=True)]
    if logits.postprocess:
        by_logits.append(Way(logits, logits.postprocess))
    masks = [target.file_spec("mask", s, io, per_tensor) for s in reversed(STRIDES) if s <= coarsest]
    return by_logits + [Way(spec, spec.postprocess) for spec in masks]


def target_of(recipe: Recipe) -> Target:
    """The target that a recipe names, with the rewrites that it allowed."""
    target = target_named(recipe.target).with_level(recipe.level).with_weights(recipe.file.weights)
    known = {rewrite.name: rewrite for rewrite in (*target.approximations, *target.rewrites)}
    return dataclasses.replace(target, rewrites=tuple(known[name] for name in recipe.rewrites if name in known))


def bench_heads(plan: HeadsPlan, name: str, options: DeviceOptions, say: Say) -> HeadsMeasurement:
    """Makes every head of the artifact's network and quantization, scores and times them in turns on one device.

    Raises BadSpec for a network without a last resize, CompilerError where the device runs compiled files and their
    compiler is missing, and the errors of converting and of the device.
    """
    run, artifact, kind = plan.run, plan.artifact, device(name)[0]
    target = target_of(artifact.recipe)
    wanted = ways(target, artifact.recipe.file.io, _coarsest(run), artifact.recipe.file.per_tensor)
    evaluation = EvaluationSet.of(run, "val", plan.images)
    mask_on_device = evaluation.grid if kind.makes_masks and compiler() is not None else None
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="segquant-heads-")))
        files = _convert(plan, wanted, target, kind, folder, say)
        connection = connect(name, options)
        stack.callback(connection.close)
        stack.enter_context(alone_on(connection.identity, say))

        loaded = []
        for way in wanted:
            file, mask = files[way.spec], mask_on_device if way.outside else None
            how = RunnerOptions(plan.threads, target.name, pinned=True, mask=mask, delegate=target.delegate)
            runner = connection.open(file, how)
            stack.callback(runner.close)
            loaded.append(Loaded(file, way.name, sha256(file), runner, plan.threads, target.files_of(file)))
        machine = {**connection.describe(), "threads": plan.threads}
        say(f"scoring {evaluation.count} val images of {run.config.data}")
        _score(wanted, loaded, evaluation, say)
        say(f"timing {len(wanted)} heads in turns, {plan.threads} thread{'s' if plan.threads > 1 else ''}")
        timed = time_in_turns(loaded, plan.protocol, say)

        machine_after = connection.state()
        heads = []
        for way, each, blocks in zip(wanted, loaded, timed, strict=True):
            included = mask_on_device is not None or way.outside is None
            measured = each.measured(evaluation.classes, evaluation.count)
            heads.append(Head(way.output, way.stride, way.outside, included, measured, ratio_of(blocks, timed[0])))
        return HeadsMeasurement(
            when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            target=target.name,
            artifact=str(artifact.path.relative_to(run.path)),
            artifact_sha256=artifact.sha256,
            protocol=dataclasses.asdict(plan.protocol),
            machine=machine,
            machine_after=machine_after,
            data=run.config.data,
            split="val",
            images=evaluation.count,
            heads=tuple(heads),
            notes=(*([] if mask_on_device else [NO_MASK]), *notes_on_times(machine, machine_after, loaded)),
        )


def _coarsest(run: Run) -> int:
    """Pixels to a sample of the logits before the network's last resize."""
    network = run.config.model.network
    stride = models.network(network).logits_stride
    if stride == 1:
        raise BadSpec(f"the logits of {network} are of full size: bench its artifact without --heads.")
    return stride


def _convert(
    plan: HeadsPlan, wanted: Sequence[Way], target: Target, kind: Device, folder: Path, say: Say
) -> dict[FileSpec, Path]:
    """A file for each spec, of the artifact's own weights and ranges; compiled where the device runs such."""
    network = load_float(plan.run, parent_of(plan.run, plan.artifact).checkpoint)
    files: dict[FileSpec, Path] = {}
    specs = list(dict.fromkeys(way.spec for way in wanted))
    for spec in track(say, specs, "converting", len(specs), "files"):
        say(f"converting {spec.output} at stride {spec.stride}")
        file = folder / f"{spec.output}-stride{spec.stride}.tflite"
        file.write_bytes(quantize(network, plan.artifact.recipe.ranges, target, spec).data)
        files[spec] = compiled(file, target) if target.name in kind.runs_compiled else file
    return files


def compiled(file: Path, target: Target) -> Path:
    """What the target's compiler makes of a file; raises CompilerError where the compiler is missing."""
    assert target.compile is not None
    result = target.compile(file)
    if result.path is None:
        raise CompilerError(f"this device runs compiled files, and each head is {result.note}")
    return result.path


def _score(wanted: Sequence[Way], loaded: Sequence[Loaded], evaluation: EvaluationSet, say: Say) -> None:
    for samples in evaluation.chunks(say):
        for way, each in zip(wanted, loaded, strict=True):
            if not way.alone:
                each.count(samples, predict(each.runner, samples, evaluation), len(evaluation.classes))
