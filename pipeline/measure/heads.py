"""Measures each way to the full-size mask of a network: mIoU and latency, with what makes it outside the file."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import tempfile
from pathlib import Path

import models
from pipeline.convert.parent import load_float, parent_of
from pipeline.core.artifact import Artifact
from pipeline.core.device import How, Settings
from pipeline.core.errors import BadSpec, CompilerError
from pipeline.core.file_spec import FileSpec, Output, Stride
from pipeline.core.files import sha256
from pipeline.core.mask import Grid
from pipeline.core.measurement import Head, HeadsMeasurement
from pipeline.core.preprocessing import InputType
from pipeline.core.recipe import Recipe
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.core.target import Target
from pipeline.data import dataset_of
from pipeline.data.decoded import Decoded
from pipeline.devices import connect, device
from pipeline.heads.native import compiler
from pipeline.measure.alone import alone_on
from pipeline.measure.loaded import Loaded
from pipeline.measure.notes import notes_on_times
from pipeline.measure.on_device import CHUNK, masks_on
from pipeline.measure.timing import Protocol, latency_of, measure, ratio_of
from pipeline.quantize.quantize import quantize
from pipeline.targets import target as target_named

STRIDES: tuple[Stride, ...] = (8, 4, 2, 1)


@dataclasses.dataclass(frozen=True)
class Way:
    """A file, and what makes the full-size mask of its output.

    Attributes:
      outside: what makes it, in words; None where the output is that mask.
      alone: only the file is timed; its mask is another way's.
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
    """What there is for a network whose logits have ``coarsest`` pixels to a sample before their last resize."""
    first: Stride = next(stride for stride in STRIDES if stride <= coarsest)
    logits = target.file_spec("logits", first, io, per_tensor)
    found = [Way(logits, None, alone=True)]
    if logits.postprocess:
        found.append(Way(logits, logits.postprocess))
    masks = [target.file_spec("mask", s, io, per_tensor) for s in reversed(STRIDES) if s <= coarsest]
    return found + [Way(spec, spec.postprocess) for spec in masks]


def target_of(recipe: Recipe) -> Target:
    """The target that a recipe names, with the rewrites that it allowed."""
    found = target_named(recipe.target).at_level(recipe.level).with_weights(recipe.file.weights)
    known = {one.name: one for one in (*found.approximations, *found.rewrites)}
    return dataclasses.replace(found, rewrites=tuple(known[name] for name in recipe.rewrites if name in known))


def bench_heads(  # long: to be split
    run: Run,
    artifact: Artifact,
    name: str,
    settings: Settings,
    protocol: Protocol,
    threads: int,
    images: int | None,
    say: Say,
) -> HeadsMeasurement:
    """Makes every head of the artifact's network and quantization, scores and times them in turns on one device.

    Raises BadSpec for a network without a last resize, CompilerError where the device runs compiled files and their
    compiler is missing, and the errors of converting and of the device.
    """
    recipe, spec = artifact.recipe, run.config.model
    coarsest = models.network(spec.network).logits_stride
    if coarsest == 1:
        raise BadSpec(f"--heads: the logits of {spec.network} are of full size: bench its artifact without --heads.")
    target, kind = target_of(recipe), device(name)[0]
    wanted = ways(target, recipe.file.io, coarsest, recipe.file.per_tensor)
    network = load_float(run, parent_of(run, artifact).checkpoint)
    makes_masks = kind.makes_masks and compiler() is not None
    dataset = dataset_of(run)
    decoded = Decoded(dataset.splits["val"])
    count = len(decoded) if images is None else min(images, len(decoded))
    grid = Grid(run.preprocessing.height, run.preprocessing.width, spec.resize)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="segquant-heads-")))
        files: dict[FileSpec, Path] = {}
        for way in wanted:
            if way.spec not in files:
                say(f"converting {way.output} at stride {way.stride}")
                file = folder / f"{way.output}-stride{way.stride}.tflite"
                file.write_bytes(quantize(network, recipe.ranges, target, way.spec).data)
                files[way.spec] = compiled(file, target) if target.name in kind.runs_compiled else file
        connection = connect(name, settings)
        stack.callback(connection.close)
        stack.enter_context(alone_on(connection.identity, say))
        loaded = []
        for way in wanted:
            file = files[way.spec]
            here = grid if makes_masks and way.outside else None
            runner = connection.open(file, How(threads, target.name, pinned=True, mask=here, delegate=target.delegate))
            stack.callback(runner.close)
            loaded.append(Loaded(file, way.name, sha256(file), runner, threads, target.files_of(file)))
        machine = {**connection.describe(), "threads": threads}
        say(f"scoring {count} val images of {run.config.data}")
        for begin in range(0, count, CHUNK):
            samples = [decoded[i] for i in range(begin, min(begin + CHUNK, count))]
            for way, each in zip(wanted, loaded, strict=True):
                if not way.alone:
                    masks = masks_on(each.runner, [image for image, _ in samples], run.preprocessing, grid)
                    each.count(samples, masks, len(dataset.classes))
        say(f"timing {len(wanted)} heads in turns, {threads} thread{'s' if threads > 1 else ''}")
        timed = measure([each.runner for each in loaded], protocol)
        for each, blocks in zip(loaded, timed, strict=True):
            each.latency = latency_of(blocks, each.runner, threads)
        after = connection.state()
        heads = tuple(
            Head(
                way.output,
                way.stride,
                way.outside,
                makes_masks or way.outside is None,
                each.measured(dataset.classes, count),
                ratio_of(blocks, timed[0]),
            )
            for way, each, blocks in zip(wanted, loaded, timed, strict=True)
        )
        up_to_the_file = (
            []
            if makes_masks
            else ["times are up to the file's output: no C code of ours runs on this device, or no C compiler is here"]
        )
        return HeadsMeasurement(
            when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            target=target.name,
            artifact=str(artifact.path.relative_to(run.path)),
            artifact_sha256=artifact.sha256,
            protocol=dataclasses.asdict(protocol),
            machine=machine,
            machine_after=after,
            data=run.config.data,
            split="val",
            images=count,
            heads=heads,
            notes=(*up_to_the_file, *notes_on_times(machine, after, loaded)),
        )


def compiled(file: Path, target: Target) -> Path:
    """What the target's compiler makes of it; raises CompilerError where that is not here."""
    assert target.compile is not None
    made = target.compile(file)
    if made.path is None:
        raise CompilerError(f"--heads: each is {made.note}")
    return made.path
