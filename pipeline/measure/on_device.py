"""Scores and times an artifact beside its float parent on one device."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import io
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.core.artifact import Artifact
from pipeline.core.device import Connection, Device, How, Runner
from pipeline.core.errors import ArtifactError, DeviceError
from pipeline.core.files import sha256, write_atomically
from pipeline.core.mask import Grid
from pipeline.core.measurement import Measurement, OnHost, Ratio, Swept
from pipeline.core.preprocessing import Preprocessing
from pipeline.core.say import Say
from pipeline.data import dataset_of
from pipeline.data.decoded import Decoded
from pipeline.devices import connect
from pipeline.heads.full_size import mask_of
from pipeline.measure.loaded import Loaded
from pipeline.measure.mask_note import mask_note
from pipeline.measure.notes import notes_of
from pipeline.measure.plan import BenchPlan
from pipeline.measure.saved import slug
from pipeline.measure.timing import latency_of, measure, ratio_of
from pipeline.targets import targets

CHUNK = 32
"""Images whose masks are held at once."""
PROGRESS_SECONDS = 10


# long: to be split
def bench_on(plan: BenchPlan, kind: Device, name: str, connection: Connection, say: Say) -> Measurement:
    """Scores and times the plan's files on one device; raises the errors of both."""
    run, artifact, threads = plan.run, plan.artifact, plan.threads[0]
    dataset = dataset_of(run)
    decoded = Decoded(dataset.splits[plan.split])
    count = len(decoded) if plan.images is None else min(plan.images, len(decoded))
    known = targets()
    notes, ratios, swept, unfinished, on_host = [], list[Ratio](), [], "", None
    with contextlib.ExitStack() as stack:

        def load(path: Path, called: str, digest: str, made_for: str, n: int = threads) -> Loaded:
            meant = known.get(made_for)  # a file to compare with may name a target that is not registered here
            delegate, files = (meant.delegate, meant.files_of(path)) if meant else ("", (path,))
            runner = connection.open(path, How(n, made_for, pinned=True, delegate=delegate))
            stack.callback(runner.close)
            return Loaded(path, called, digest, runner, n, files)

        def pair(n: int) -> list[Loaded]:
            file = path_on(kind, artifact)
            digest = artifact.sha256 if file == artifact.path else sha256(file)
            called = [str(path.relative_to(run.path)) for path in (plan.parent.path, file)]
            parent = load(plan.parent.path, called[0], plan.parent.sha256, "cpu", n)
            return [parent, load(file, called[1], digest, target, n)]

        target = artifact.recipe.target
        loaded = pair(threads)
        machine = {**connection.describe(), "threads": threads}  # only now it may know what runs them
        here = None
        if (kind.name, connection.identity) != ("host", "host"):
            here = connect("host").open(artifact.path, How(2))
            stack.callback(here.close)
        say(f"scoring {count} {plan.split} images of {run.config.data}")
        kept = None if here is None else run.measurements / "unfinished" / slug(f"{name}-{artifact.sha256[:12]}")
        grid = Grid(run.preprocessing.height, run.preprocessing.width, run.config.model.resize)
        agreement, on_host = _score(
            loaded, here, decoded, count, len(dataset.classes), run.preprocessing, grid, kept, say
        )
        first = decoded[0][0]
        inputs = [run.preprocessing.tensor(first, each.runner.facts.input_dtype) for each in loaded]  # type: ignore[arg-type]
        shown = [each.runner.infer(image) for each, image in zip(loaded, inputs, strict=True)]
        outside = mask_note(artifact, shown[1], grid, connection.identity == "host")
        try:
            if plan.against:
                other = plan.against
                loaded.append(load(other.path, str(other.path), other.sha256, other.target))
            say(f"timing {len(loaded)} files in turns, {threads} thread{'s' if threads > 1 else ''}")
            timed = measure([each.runner for each in loaded], plan.protocol)
            for each, blocks in zip(loaded, timed, strict=True):
                each.latency = latency_of(blocks, each.runner, threads)
            ratios = [ratio_of(blocks, timed[1]) for blocks in timed]
            for n in plan.threads[1:]:
                say(f"timing both in turns, {n} threads")
                both = pair(n)
                times = measure([each.runner for each in both], plan.protocol)
                first_ms, second_ms = (latency_of(t, each.runner, n) for t, each in zip(times, both, strict=True))
                swept.append(Swept(n, first_ms, second_ms, ratio_of(*times)))
        except DeviceError as error:
            unfinished = str(error)
        after = {}
        with contextlib.suppress(DeviceError):
            after = connection.state()
        measured = [each.measured(dataset.classes, count) for each in loaded]
        notes = [*([outside] if outside else []), *notes_of(plan, machine, after, loaded, on_host, count)]
    parent, ours = measured[:2]
    assert parent.score and ours.score
    return Measurement(
        when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        target=target,
        protocol=dataclasses.asdict(plan.protocol),
        machine=machine,
        machine_after=after,
        data=run.config.data,
        split=plan.split,
        images=count,
        parent=parent,
        artifact=ours,
        speedup=ratios[0] if ratios else None,
        against=measured[2] if len(measured) > 2 else None,
        against_ratio=ratios[2] if len(ratios) > 2 else None,
        sweep=tuple(swept),
        drop_points=parent.score.miou_percent - ours.score.miou_percent,
        agreement_percent=agreement,
        on_host=on_host,
        notes=tuple(notes),
        unfinished=unfinished,
    )


def path_on(kind: Device, artifact: Artifact) -> Path:
    """The compiled file where the device runs such; raises ArtifactError where it was not compiled."""
    if artifact.recipe.target not in kind.runs_compiled:
        return artifact.path
    if artifact.compiled is None:
        raise ArtifactError(
            f"{artifact.path} is not compiled, and {kind.name} runs compiled files: `python cli.py convert --target"
            f" {artifact.recipe.target} --require-compiled` says what is missing."
        )
    return artifact.compiled


def _score(  # long: to be split
    loaded: Sequence[Loaded],
    here: Runner | None,
    decoded: Decoded,
    count: int,
    classes: int,
    preprocessing: Preprocessing,
    grid: Grid,
    kept: Path | None,
    say: Say,
) -> tuple[float, OnHost | None]:
    """Fills in the confusions; gives the share of pixels on which both masks agree, in percent, and the same on host.

    What came back from a device is kept until all has, so that a repeated command goes on.
    """
    same = pixels = same_here = identical = 0
    told = time.monotonic()
    for begin in range(0, count, CHUNK):
        samples = [decoded[i] for i in range(begin, min(begin + CHUNK, count))]
        images = [image for image, _ in samples]
        try:
            results = [
                masks_on(each.runner, images, preprocessing, grid, kept and kept / each.sha256[:12]) for each in loaded
            ]
        except DeviceError as error:
            raise DeviceError(f"{error} {begin} of {count} images are done: repeat the command to go on.") from None
        for each, masks in zip(loaded, results, strict=True):
            each.count(samples, masks, classes)
        parents, ours = results[:2]
        same += sum(int((a == b).sum()) for (a, _), (b, _) in zip(parents, ours, strict=True))
        pixels += sum(mask.size for mask, _ in ours)
        if here is not None:
            for (mask, digest), (mask_here, digest_here) in zip(
                ours, masks_on(here, images, preprocessing, grid, None), strict=True
            ):
                same_here += int((mask == mask_here).sum())
                identical += digest == digest_here
        if time.monotonic() - told > PROGRESS_SECONDS:
            told = time.monotonic()
            say(f"scored {begin + len(samples)} of {count} images")
    if kept is not None:
        shutil.rmtree(kept, ignore_errors=True)
    total = max(1, pixels)
    return 100 * same / total, None if here is None else OnHost(100 * same_here / total, identical)


def masks_on(
    runner: Runner, images: Sequence[np.ndarray], preprocessing: Preprocessing, grid: Grid, kept: Path | None = None
) -> list[tuple[np.ndarray, str]]:
    """(mask at the image's size, sha256 of the output) of each image; those that ``kept`` holds are not run again."""
    files = [kept and kept / f"{hashlib.sha256(image.tobytes()).hexdigest()[:16]}.npz" for image in images]
    there: dict[int, tuple[np.ndarray, str]] = {}
    for i, file in enumerate(files):
        if file and file.is_file():
            with np.load(file, allow_pickle=False) as held:
                there[i] = held["mask"], str(held["output"])
    missing = [i for i in range(len(images)) if i not in there]
    inputs = (preprocessing.tensor(images[i], runner.facts.input_dtype) for i in missing)  # type: ignore[arg-type]
    for i, output in zip(missing, runner.infer_many(inputs), strict=True):
        if output.ndim not in (3, 4):
            raise ArtifactError(f"the output has shape {output.shape}: expected [1, h, w] or [1, h, w, classes].")
        height, width = images[i].shape[:2]
        there[i] = mask_of(output, height, width, grid), hashlib.sha256(output.tobytes()).hexdigest()
        if file := files[i]:
            packed = io.BytesIO()
            np.savez_compressed(packed, mask=there[i][0], output=there[i][1])
            write_atomically(file, packed.getvalue())
    return [there[i] for i in range(len(images))]
