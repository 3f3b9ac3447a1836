"""Measures what 8 bits cost: accuracy of the file that ships against its float parent, and the time of both."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import io
import json
import os
import queue
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.core.artifact import Artifact
from pipeline.core.compared import Other
from pipeline.core.device import XNNPACK, Connection, Device, How, Runner, Settings
from pipeline.core.errors import ArtifactError, DeviceError, GateFailed
from pipeline.core.files import sha256, write_atomically
from pipeline.core.mask import Grid
from pipeline.core.measurement import HeadsMeasurement, Latency, Measured, Measurement, OnHost, Ratio, Swept
from pipeline.core.preprocessing import Preprocessing
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.core.score import Score
from pipeline.data import dataset_of
from pipeline.data.decoded import Decoded
from pipeline.devices import connect, device
from pipeline.measure.mask_note import mask_note
from pipeline.measure.score import confusion, mask_of
from pipeline.measure.timing import DEFAULT, Protocol, latency_of, measure, ratio_of
from pipeline.targets import targets

Labelled = tuple[np.ndarray, np.ndarray]
"""An image uint8 [h, w, 3] and its label uint8 [h, w]."""
CHUNK = 32
"""Images whose masks are held at once."""
PROGRESS_SECONDS = 10
BUSY = 0.5
"""Load per core from which on a machine is called busy."""
THROTTLED = 0.95
"""Share of its clock that a core has lost when that is worth a note."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to measure, the same on every device.

    Attributes:
      against: another file to time in the same turns.
      threads: the first is that of the measurement, the others are swept after it.
      images: the first so many of the split, None: all.
    """

    run: Run
    artifact: Artifact
    parent: Artifact
    against: Other | None = None
    protocol: Protocol = DEFAULT
    threads: tuple[int, ...] = (1,)
    split: str = "val"
    images: int | None = None


def bench(plan: Plan, names: Sequence[str], settings: Settings, say: Say) -> Iterator[Measurement]:
    """One measurement per device, as they end: side by side on different machines, one at a time on the same.

    A device that fails does not stop the others; the first error is raised when all have ended.
    """
    chosen = {name: device(name)[0] for name in names}  # a wrong name is said before anything is measured
    results: queue.Queue[Measurement | BaseException] = queue.Queue()
    with contextlib.ExitStack() as stack:
        by_machine: dict[str, list[tuple[str, Connection]]] = {}
        for name in names:
            connection = connect(name, settings)
            stack.callback(connection.close)
            by_machine.setdefault(connection.identity, []).append((name, connection))

        def work(of_machine: list[tuple[str, Connection]]) -> None:
            for name, connection in of_machine:

                def tell(text: str, prefix: str = f"{name}: " if len(names) > 1 else "") -> None:
                    say(prefix + text)

                try:
                    with alone_on(connection.identity, tell):
                        results.put(bench_on(plan, chosen[name], name, connection, tell))
                except BaseException as error:
                    results.put(error)

        for of_machine in by_machine.values():
            threading.Thread(target=work, args=[of_machine], daemon=True).start()
        failed: list[BaseException] = []
        for _ in names:
            result = results.get()
            if isinstance(result, Measurement):
                yield result
            else:
                failed.append(result)
                if len(names) > 1:
                    say(f"failed: {result}")
        if failed:
            raise failed[0]


@contextlib.contextmanager
def alone_on(identity: str, say: Say) -> Iterator[None]:
    """Waits until no other measurement of this user runs on the same machine."""
    name = f"segquant-{os.getuid()}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.lock"
    with open(Path(tempfile.gettempdir()) / name, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say(f"waiting: another measurement runs on {identity}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclasses.dataclass
class Loaded:
    """A file on the device, and what is known of it so far.

    Attributes:
      files: it and what belongs to it: its size is theirs together.
    """

    path: Path
    name: str
    sha256: str
    runner: Runner
    threads: int
    files: tuple[Path, ...]
    total: np.ndarray | None = None
    latency: Latency | None = None

    def count(self, samples: Sequence[Labelled], masks: Sequence[tuple[np.ndarray, str]], classes: int) -> None:
        """Adds what ``masks_on`` gave for these samples to the confusions."""
        if self.total is None:
            self.total = np.zeros((classes, classes), np.int64)
        for (_, label), (mask, _) in zip(samples, masks, strict=True):
            self.total += confusion(label, mask, classes)

    def measured(self, classes: tuple[str, ...], images: int) -> Measured:
        memory = None
        with contextlib.suppress(DeviceError):
            memory = self.runner.peak_memory_bytes()
        score = None if self.total is None else Score.from_confusion(self.total, classes, images)
        size_bytes = sum(file.stat().st_size for file in self.files if file.is_file())
        return Measured(self.name, self.sha256, size_bytes, self.runner.facts.runs_on, score, self.latency, memory)


# long: to be split
def bench_on(plan: Plan, kind: Device, name: str, connection: Connection, say: Say) -> Measurement:
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
        kept = None if here is None else run.measurements / "unfinished" / _slug(f"{name}-{artifact.sha256[:12]}")
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
        notes = [*([outside] if outside else []), *_notes(plan, machine, after, loaded, on_host, count)]
    parent, ours = measured[:2]
    assert parent.score and ours.score
    return Measurement(
        when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), target=target,
        protocol=dataclasses.asdict(plan.protocol), machine=machine, machine_after=after, data=run.config.data,
        split=plan.split, images=count, parent=parent, artifact=ours, speedup=ratios[0] if ratios else None,
        against=measured[2] if len(measured) > 2 else None, against_ratio=ratios[2] if len(ratios) > 2 else None,
        sweep=tuple(swept), drop_points=parent.score.miou_percent - ours.score.miou_percent,
        agreement_percent=agreement, on_host=on_host, notes=tuple(notes), unfinished=unfinished,
    )  # fmt: skip


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
    loaded: Sequence[Loaded], here: Runner | None, decoded: Decoded, count: int, classes: int,
    preprocessing: Preprocessing, grid: Grid, kept: Path | None, say: Say,
) -> tuple[float, OnHost | None]:  # fmt: skip
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


def _notes(
    plan: Plan, machine: dict[str, object], after: dict[str, object], loaded: Sequence[Loaded],
    on_host: OnHost | None, count: int,
) -> Iterator[str]:  # fmt: skip
    artifact, target = plan.artifact, plan.artifact.recipe.target
    delegate = targets()[target].delegate if target in targets() else ""
    if loaded[1].runner.facts.runs_on == "XNNPACK" and delegate != XNNPACK:
        yield f"latency is of this device's CPU, not of {target}"
    if plan.against is not None and (ours := plan.run.preprocessing.shape) != plan.against.takes:
        yield (
            f"{plan.against.path} takes an image of shape {list(plan.against.takes)}, the artifact {list(ours)}: their"
            " times are not of the same work"
        )
    if artifact.compiled is not None and loaded[1].path != artifact.compiled:
        yield (
            f"{artifact.compiled.name} is not for this device: scored and timed through its uncompiled twin"
            f" {artifact.path.name}"
        )
    if on_host and artifact.recipe.file.weights == "int8" and on_host.identical_outputs < count:
        yield (
            f"the int8 output differs from LiteRT's on this machine's CPU on"
            f" {count - on_host.identical_outputs} of {count} images; masks agree on"
            f" {on_host.agreement_percent:.3f} % of pixels"
        )
    yield from notes_on_times(machine, after, loaded)


def notes_on_times(
    machine: dict[str, object], after: dict[str, object], loaded: Sequence[Loaded]
) -> Iterator[str]:  # fmt: skip
    """What a reader must know of how the machine was meanwhile."""
    if caution := machine.get("caution"):
        yield str(caution)
    cores, load = machine.get("cores"), machine.get("load_average_1min")
    if isinstance(cores, int) and isinstance(load, float) and load > BUSY * cores:
        yield f"the machine was busy: a load of {load:.1f} on {cores} cores before"
    for each in loaded:
        latency = each.latency
        if latency and not latency.stable:
            yield f"{each.name}: times had not settled after {latency.warmup_runs} warm-up runs"
        if latency and latency.drift_percent:
            word = "slower" if latency.drift_percent > 0 else "faster"
            yield f"{each.name}: drifting, {abs(latency.drift_percent):.1f} % {word} at the end than at the start"
    was, now = machine.get("frequency_mhz"), after.get("frequency_mhz")
    if isinstance(was, float) and isinstance(now, float) and now < THROTTLED * was:
        heat = after.get("temperature_celsius")
        yield f"throttled: {was:.0f} MHz before, {now:.0f} after" + (f", {heat:.0f} °C" if heat else "")


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text)


def save(run: Run, measurement: Measurement | HeadsMeasurement, name: str = "host") -> str:
    """Writes the measurement into the run under a new name; returns it."""
    stamp = measurement.when.replace(":", "").replace("-", "").partition("+")[0]
    kind = "bench" if isinstance(measurement, Measurement) else "heads"
    stem = f"{kind}-{measurement.target}-{stamp}" + ("" if name == "host" else f"-{_slug(name)}")
    path, number = run.measurements / f"{stem}.json", 2
    while path.exists():
        path, number = path.with_name(f"{stem}-{number}.json"), number + 1
    write_atomically(path, (json.dumps(measurement.to_json(), indent=1) + "\n").encode())
    return str(path)


def check_gates(measurement: Measurement, max_drop: float | None, max_latency_ms: float | None) -> None:
    """Raises GateFailed with a sentence for each limit that the artifact is beyond; DeviceError where it is unknown.

    What is no number keeps no limit.
    """
    if measurement.unfinished:
        raise DeviceError(f"{measurement.unfinished} What was measured until then is kept.")
    assert measurement.artifact.latency
    failed = []
    if max_drop is not None and not measurement.drop_points <= max_drop:
        failed.append(f"the drop is {measurement.drop_points:.2f} points, --max-drop allows {max_drop:g}")
    median = measurement.artifact.latency.median_ms
    if max_latency_ms is not None and not median <= max_latency_ms:
        failed.append(f"the median latency is {median:.2f} ms, --max-latency-ms allows {max_latency_ms:g}")
    if failed:
        raise GateFailed(f"gate failed: {'; '.join(failed)} ({measurement.artifact.file}).")
