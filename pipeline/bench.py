"""Measures what 8 bits cost: accuracy of the file that ships against its float parent, and the time of both."""

from __future__ import annotations

import dataclasses
import datetime
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pipeline.data import open_dataset
from pipeline.data.decoded import Decoded
from pipeline.evaluate import agreement_percent, confusion, runner_infer
from pipeline.nouns.artifact import Artifact, open_artifact
from pipeline.nouns.device import Connection, How, Runner
from pipeline.nouns.errors import BadSpec, GateFailed, RunError
from pipeline.nouns.files import sha256, write_atomically
from pipeline.nouns.run import Run
from pipeline.nouns.score import Score
from pipeline.targets import targets

Say = Callable[[str], None]
SCHEMA = 1
BLOCK_MS = 50.0


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How latency is measured: two artifacts in turns, block by block, so that both meet the same machine.

    Attributes:
      runs: inferences of each artifact at least.
      seconds: measuring goes on at least this long for the pair.
      max_runs: and no longer than this many.
    """

    runs: int = 50
    seconds: float = 5.0
    max_runs: int = 1000
    warmup_runs: int = 5
    warmup_seconds: float = 0.5

    def __post_init__(self) -> None:
        if self.runs < 1 or self.max_runs < self.runs:
            raise BadSpec(f"--runs {self.runs}: measure at least one and at most {self.max_runs} inferences.")


@dataclasses.dataclass(frozen=True)
class Latency:
    """Milliseconds per inference as measured; ``samples_ms`` are all of them in order."""

    median_ms: float
    p90_ms: float
    min_ms: float
    runs: int
    warmup_runs: int
    threads: int
    init_ms: float
    samples_ms: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Measured:
    """One artifact, measured on one device."""

    file: str
    sha256: str
    size_bytes: int
    score: Score
    latency: Latency
    peak_memory_bytes: int


@dataclasses.dataclass(frozen=True)
class Measurement:
    """An artifact beside its float parent.

    Attributes:
      drop_points: mIoU of the parent minus mIoU of the artifact, percentage points.
      agreement_percent: share of all pixels where both masks have the same class.
      notes: what a reader must know to read the numbers rightly.
    """

    when: str
    target: str
    machine: dict[str, Any]
    data: str
    split: str
    images: int
    parent: Measured
    artifact: Measured
    drop_points: float
    agreement_percent: float
    notes: tuple[str, ...]

    @property
    def speedup(self) -> float:
        return self.parent.latency.median_ms / self.artifact.latency.median_ms

    def to_json(self) -> dict[str, Any]:
        data = {"schema": SCHEMA, **dataclasses.asdict(self), "speedup": self.speedup}
        return dict(json.loads(json.dumps(data)))


def newest_artifact(run: Run, target: str | None) -> Artifact:
    """The artifact that was converted last (for ``target`` if given); raises RunError when there is none."""
    pattern = f"{target or '*'}/*.tflite"
    compiled = tuple(one.compiled_suffix for one in targets().values() if one.compiled_suffix)
    found = [
        path
        for path in (run.path / "artifacts").glob(pattern)
        if path.parent.name != "float32" and not path.name.endswith(compiled)
    ]
    if not found:
        what = f"no artifact for target {target}" if target else "no artifact"
        raise RunError(f"{run.path} has {what} yet: run `python cli.py convert --target {target or 'cpu'}` first.")
    return open_artifact(max(found, key=lambda path: path.stat().st_mtime_ns))


def float_parent(run: Run, artifact: Artifact) -> Artifact | None:
    """The float parent as a file with the same output as ``artifact``; None where it has not been converted yet."""
    checkpoint = sha256(run.float_dir / "best.weights.h5")
    for path in (run.path / "artifacts" / "float32").glob("*.tflite"):
        found = open_artifact(path)
        if found.recipe["output"] == artifact.recipe["output"] and found.recipe["parent"]["sha256"] == checkpoint:
            return found
    return None


def measure_latency(runners: list[Runner], threads: int, protocol: Protocol) -> list[Latency]:
    """Times the runners on their last input, interleaved."""
    blocks, warmups = [], []
    for runner in runners:
        began, warm = time.monotonic(), [float(runner.time(1).samples_ms[0]) for _ in range(protocol.warmup_runs)]
        while time.monotonic() - began < protocol.warmup_seconds:
            warm.append(float(runner.time(1).samples_ms[0]))
        warmups.append(len(warm))
        blocks.append(int(np.clip(BLOCK_MS / min(warm), 1, 20)))
    samples: list[list[float]] = [[] for _ in runners]
    began = time.monotonic()
    while min(map(len, samples)) < protocol.max_runs:
        for i, runner in enumerate(runners):
            samples[i] += runner.time(blocks[i]).samples_ms
        if min(map(len, samples)) >= protocol.runs and time.monotonic() - began >= protocol.seconds:
            break
    return [
        Latency(
            median_ms=float(np.median(s)), p90_ms=float(np.percentile(s, 90)), min_ms=min(s), runs=len(s),
            warmup_runs=warm, threads=threads, init_ms=runner.facts.init_ms or 0.0, samples_ms=tuple(s),
        )
        for s, warm, runner in zip(samples, warmups, runners, strict=True)
    ]  # fmt: skip


def bench(
    run: Run, artifact: Artifact, parent: Artifact, device: Connection, say: Say, *, split: str = "val",
    images: int | None = None, threads: int = 1, protocol: Protocol = Protocol(),
) -> Measurement:  # fmt: skip
    """Scores and times ``artifact`` and its float ``parent`` on ``device``; raises the errors of both."""
    dataset = open_dataset(run.config.data)
    if dataset.classes != run.config.classes:
        raise RunError(f"{run.config.data} has other classes than the run: restore the dataset or make a new run.")
    decoded = Decoded(dataset.splits[split])
    count = len(decoded) if images is None else min(images, len(decoded))
    machine = {**device.describe(), "threads": threads}
    runners: list[Runner] = []
    try:
        for each in (parent, artifact):
            runners.append(device.open(each.path, How(threads, pinned=True)))
        say(f"scoring {count} {split} images of {run.config.data}")
        infers = [runner_infer(runner, run.preprocessing) for runner in runners]
        totals = [np.zeros((len(dataset.classes),) * 2, np.int64) for _ in runners]

        def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for i in range(count):
                image, label = decoded[i]
                masks = [infer(image) for infer in infers]
                for total, mask in zip(totals, masks, strict=True):
                    total += confusion(label, mask, len(dataset.classes))
                yield masks[0], masks[1]

        agreement = agreement_percent(pairs())
        say(f"timing both in turns, {threads} thread{'s' if threads > 1 else ''}")
        latencies = measure_latency(runners, threads, protocol)
        measured = [
            Measured(
                file=str(each.path.relative_to(run.path)), sha256=each.sha256, size_bytes=each.path.stat().st_size,
                score=Score.from_confusion(total, dataset.classes, count), latency=latency,
                peak_memory_bytes=runner.peak_memory_bytes() or 0,
            )
            for each, total, latency, runner in zip((parent, artifact), totals, latencies, runners, strict=True)
        ]  # fmt: skip
    finally:
        for runner in runners:
            runner.close()
    notes = (
        [f"latency is of this machine's CPU, not of {artifact.recipe['target']}"]
        if machine["device"] == "host" and artifact.recipe["target"] != "cpu"
        else []
    )
    if artifact.compiled is not None:
        notes.append(
            f"{artifact.compiled.name} needs its chip: scored and timed through its uncompiled twin"
            f" {artifact.path.name}"
        )
    return Measurement(
        when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), target=artifact.recipe["target"],
        machine=machine, data=run.config.data, split=split, images=count, parent=measured[0], artifact=measured[1],
        drop_points=measured[0].score.miou_percent - measured[1].score.miou_percent, agreement_percent=agreement,
        notes=tuple(notes),
    )  # fmt: skip


def save(run: Run, measurement: Measurement) -> str:
    """Writes the measurement into the run under a new name; returns it."""
    stamp = measurement.when.replace(":", "").replace("-", "").partition("+")[0]
    path = run.measurements / f"bench-{measurement.target}-{stamp}.json"
    number = 2
    while path.exists():
        path, number = path.with_name(f"bench-{measurement.target}-{stamp}-{number}.json"), number + 1
    write_atomically(path, (json.dumps(measurement.to_json(), indent=1) + "\n").encode())
    return str(path)


def check_gates(measurement: Measurement, max_drop: float | None, max_latency_ms: float | None) -> None:
    """Raises GateFailed with a sentence for each limit that the artifact is beyond."""
    failed = []
    if max_drop is not None and measurement.drop_points > max_drop:
        failed.append(f"the drop is {measurement.drop_points:.2f} points, --max-drop allows {max_drop:g}")
    median = measurement.artifact.latency.median_ms
    if max_latency_ms is not None and median > max_latency_ms:
        failed.append(f"the median latency is {median:.2f} ms, --max-latency-ms allows {max_latency_ms:g}")
    if failed:
        raise GateFailed(f"gate failed: {'; '.join(failed)} ({measurement.artifact.file}).")
