"""Everything that a run directory holds for a report. What cannot be read is named, and stops nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipeline.core.agreement import Agreement
from pipeline.core.artifact import Artifact
from pipeline.core.command import as_called
from pipeline.core.errors import SegquantError
from pipeline.core.files import newest_first, sha256
from pipeline.core.from_json import from_json
from pipeline.core.graph import Graph
from pipeline.core.inspection import Inspection
from pipeline.core.json_file import BadJson, load, load_as, made
from pipeline.core.measurement import HeadsMeasurement, Measurement
from pipeline.core.profile import Profile
from pipeline.core.run import Run, open_run
from pipeline.core.target import FLOAT
from pipeline.core.training import FloatResult, HistoryEntry, QatResult, Training
from pipeline.gate.checks import Gated
from pipeline.measure.saved import AGREE, BENCH, GATE, HEADS, INSPECT, PROFILE
from pipeline.targets import targets
from pipeline.tflite.artifact import open_artifact
from pipeline.tflite.read import read_file

Noun = TypeVar("Noun")
_Measured = tuple[str, str, str, int]
"""The sha256 of a file, a device and a split."""
QAT = "quantization-aware training"
"""The title of that training."""
MOST_PIXELS = 2**53
"""A count beyond this is none: no set of images has so many."""


@dataclasses.dataclass(frozen=True)
class Shipped:
    """An artifact of the run, its size with all that belongs to it, and its graph."""

    name: str
    artifact: Artifact
    size_bytes: int
    graph: Graph

    @property
    def target(self) -> str:
        return self.artifact.recipe.target


@dataclasses.dataclass(frozen=True)
class Trained:
    """A training of the run.

    Attributes:
      title: which network.
      result: None while it goes on.
    """

    title: str
    history: tuple[HistoryEntry, ...]
    result: FloatResult | QatResult | None


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """One run.

    Attributes:
      label: its name, unlike those of the other runs.
      artifacts: one for each file, the newest of a target first.
      benches: of each file on each device and split the newest.
      older_benches: how many older ones there are.
      heads: of each file on each device the newest comparison of the ways to its mask.
      profiles, agreements: by the sha256 of the file, the newest; inspections: by that and the target.
      gated: what `gate` decided last of each measured file on each device and split.
      problems: what could not be read, in sentences.
    """

    label: str
    run: Run
    artifacts: tuple[Shipped, ...]
    trainings: tuple[Trained, ...]
    benches: tuple[Measurement, ...]
    older_benches: int
    heads: tuple[HeadsMeasurement, ...]
    profiles: dict[str, Profile]
    inspections: dict[tuple[str, str], Inspection]
    agreements: dict[str, Agreement]
    gated: dict[_Measured, Gated]
    problems: tuple[str, ...]

    def command(self, *words: str) -> str:
        """A command on this run, to be typed as it stands."""
        return as_called(shlex.join(["python", "cli.py", words[0], "--run", str(self.run.path), *words[1:]]))

    def gated_of(self, bench: Measurement) -> Gated | None:
        """What `gate` decided last of what this measurement measured; None where it was not asked."""
        return self.gated.get((bench.artifact.sha256, str(bench.machine.get("device")), bench.split, bench.images))

    def artifact_of(self, measurement: Measurement) -> Shipped | None:
        """The file that was measured, or its twin; None where neither is there as it was."""
        name, digest = measurement.artifact.file, measurement.artifact.sha256
        for shipped in self.artifacts:
            compiled = shipped.artifact.compiled
            if shipped.name == name and shipped.artifact.sha256 == digest:
                return shipped
            if compiled and compiled.relative_to(self.run.path).as_posix() == name and sha256(compiled) == digest:
                return shipped
        return None


def evidence_of(paths: Sequence[Path]) -> tuple[Evidence, ...]:
    """Raises RunError for what is no run directory."""
    runs = [open_run(path) for path in {os.path.realpath(path): path for path in paths}.values()]
    parts = [Path(os.path.realpath(run.path)).parts for run in runs]
    return tuple(_evidence(run, label_of(own, parts)) for run, own in zip(runs, parts, strict=True))


def label_of(own: tuple[str, ...], parts: Sequence[tuple[str, ...]]) -> str:
    """As much of a path's end as tells it from the others."""
    names = (own[-count:] for count in range(1, len(own) + 1))
    return "/".join(next(name for name in names if sum(each[-len(name) :] == name for each in parts) == 1))


def _evidence(run: Run, label: str) -> Evidence:
    problems: list[str] = []
    artifacts = tuple(_artifacts(run, problems))
    benches = sorted(_benches(run, problems), key=lambda bench: bench.when)[::-1]  # of equal times the later file
    heads = sorted(_saved(run, HEADS, HeadsMeasurement, problems), key=lambda each: each.when)
    newest: dict[tuple[str, str, str], Measurement] = {}
    for bench in benches:
        newest.setdefault((bench.artifact.file, str(bench.machine.get("device")), bench.split), bench)
    return Evidence(
        label=label,
        run=run,
        artifacts=artifacts,
        trainings=tuple(_trainings(run, problems)),
        benches=tuple(sorted(newest.values(), key=lambda bench: (bench.target, bench.artifact.file))),
        older_benches=len(benches) - len(newest),
        heads=tuple({(each.artifact, str(each.machine.get("device"))): each for each in heads}.values()),
        profiles={profile.sha256: profile for profile in _saved(run, PROFILE, Profile, problems)},
        inspections=_inspections(run, problems),
        agreements=dict(_by_sha(run, AGREE, Agreement.from_json, problems)),
        gated={
            (s.sha256, str(s.machine.get("device")), s.split, s.images): each
            for _, each in _by_sha(run, GATE, functools.partial(from_json, Gated), problems)
            for s in (each.standing,)
        },
        problems=tuple(problems),
    )


def _artifacts(run: Run, problems: list[str]) -> Iterator[Shipped]:
    """Those that `convert` wrote; the compiled ones belong to them."""
    suffixes = tuple(target.compiled_suffix for target in targets().values() if target.compiled_suffix)
    files = newest_first(run.path.glob("artifacts/*/*.tflite"))
    for file in sorted(files, key=lambda file: file.parent.name):
        if file.name.endswith(suffixes) or file.parent.name == FLOAT.name:
            continue
        with _named(problems, run, file):
            artifact = open_artifact(file)
            target = targets().get(artifact.recipe.target)
            shipped = artifact.compiled or file
            belonging = target.files_of(shipped) if target else (shipped,)
            size_bytes = sum(each.stat().st_size for each in belonging if each.is_file())
            name = file.relative_to(run.path).as_posix()
            yield Shipped(name, artifact, size_bytes, read_file(file)[1])


def _trainings(run: Run, problems: list[str]) -> Iterator[Trained]:
    for title, training, read_result in (
        ("float network", run.float_training, Training.float_result),
        (QAT, run.qat_training, Training.qat_result),
        ("control: trained on in float", run.control_training, Training.qat_result),
    ):
        if not training.folder.is_dir():
            continue
        with _named(problems, run, training.folder):
            result: FloatResult | QatResult | None = read_result(training) if training.trained else None
            history = result.history if result is not None else ()
            yield Trained(title, history or tuple(training.history()), result)


def _benches(run: Run, problems: list[str]) -> Iterator[Measurement]:
    """Those whose confusion matrices are of the run's classes."""
    classes = len(run.config.classes)
    for bench in _saved(run, BENCH, Measurement, problems):
        for counts in (bench.parent.confusion, bench.artifact.confusion):
            whole = counts is None or (len(counts) == classes and all(len(row) == classes for row in counts))
            if not whole or any(not 0 <= count < MOST_PIXELS for row in counts or () for count in row):
                problems.append(f"not shown: a confusion matrix of {bench.when} is not one of {classes} classes.")
                break
        else:
            yield bench


def _saved(run: Run, kind: str, noun: type[Noun], problems: list[str]) -> Iterator[Noun]:
    """Oldest first."""
    for file in _files(run, kind):
        with _named(problems, run, file):
            yield load_as(file, functools.partial(from_json, noun))


def _files(run: Run, kind: str) -> list[Path]:
    """Oldest first, as their names have the time: x.json before x-2.json of the same second."""
    return sorted(run.measurements.glob(f"{kind}-*.json"), key=lambda file: file.stem)


def _inspections(run: Run, problems: list[str]) -> dict[tuple[str, str], Inspection]:
    """The newest of each file and target; one that a compiler or runtime took part in before one by rule alone."""
    read_one = functools.partial(from_json, Inspection)
    inspections = list(_by_sha(run, INSPECT, read_one, problems))
    return {(sha, each.target): each for sha, each in sorted(inspections, key=lambda pair: pair[1].real is not None)}


def _by_sha(
    run: Run, kind: str, noun: Callable[[Mapping[str, Any]], Noun], problems: list[str]
) -> Iterator[tuple[str, Noun]]:
    for file in _files(run, kind):
        with _named(problems, run, file):
            data = load(file)
            yield made(data, lambda data: (str(data["sha256"]), noun(data)))


@contextlib.contextmanager
def _named(problems: list[str], run: Run, file: Path) -> Iterator[None]:
    """An error while ``file`` is read becomes a sentence."""
    try:
        yield
    except SegquantError as error:
        problems.append(f"not shown: {error.message}")
    except (BadJson, OSError) as error:
        problems.append(f"not shown: {file.relative_to(run.path)} cannot be read ({error}).")
