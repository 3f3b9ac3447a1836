"""Finds the run and the artifact that a command works on, or makes the run."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from pipeline.cli.configuration import record
from pipeline.core.artifact import Artifact
from pipeline.core.compared import ComparedFile
from pipeline.core.contained import check_contained
from pipeline.core.division import Division, TrainOn
from pipeline.core.errors import ArtifactError, BadSpec, RunError
from pipeline.core.files import newest_first, sha256
from pipeline.core.lock import writing
from pipeline.core.run import FILE, Run, check_free, create, latest, new_path, open_run, remove_if_empty
from pipeline.core.say import Say
from pipeline.core.spec import ModelSpec, parse_size
from pipeline.data import open_dataset, source_of
from pipeline.data.divide import divide
from pipeline.targets import target as find_target
from pipeline.targets import targets
from pipeline.tflite.artifact import open_artifact
from pipeline.tflite.read import read_file

DEFAULTS = {"network": "fast-scnn", "data": "synthetic", "seed": 0}


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The options that describe a run; None where an option was not given."""

    network: str | None = None
    data: str | None = None
    size: str | None = None
    seed: int | None = None
    alpha: float | None = None
    resize: str | None = None
    batch_norm: bool | None = None
    l2: float | None = None
    dropout: float | None = None
    train_on: TrainOn | None = None
    hold_out: tuple[str, ...] = ()

    def differences(self, run: Run) -> list[str]:
        """In words, each option that does not describe the run."""
        spec = dataclasses.asdict(run.config.model)
        actual = {**spec, "data": run.config.data, "size": run.config.model.size, "seed": run.config.seed}
        division = run.config.division
        actual |= {"train_on": division.train_on, "hold_out": _listed(division.hold_out) or "nothing"}
        size = "x".join(map(str, parse_size(self.size))) if self.size else None
        wanted = {**dataclasses.asdict(self), "size": size, "hold_out": _listed(self.hold_out) or None}
        words = {k: f"{k.replace('_', ' ')} {actual[k]}, not {v}" for k, v in wanted.items()}
        return [words[k] for k, v in wanted.items() if v is not None and actual[k] != v]


def _listed(prefixes: tuple[str, ...]) -> str:
    """Their order does not matter: the images held out are the same."""
    return ", ".join(sorted(set(prefixes)))


def sized_as(parent: Path | None, wanted: Wanted, path: Path | None, say: Say) -> Wanted:
    """``wanted`` with the input size of the weights ``parent``, where no size is given and no run is at ``path``."""
    if parent is None or wanted.size is not None or (path is not None and (path / FILE).exists()):
        return wanted
    from pipeline.weights.checkpoint import size_in

    size = size_in(parent)
    if size is None:
        return wanted
    say(f"input size {size}, as {parent} was trained for")
    return dataclasses.replace(wanted, size=size)


def lock(path: Path, say: Say) -> None:
    """Locks the run at ``path`` until the command ends; `run` until its last command does. Raises RunError."""
    ctx = click.get_current_context()
    for note in ctx.find_root().with_resource(writing(path, str(ctx.info_name))):
        say(note)


@contextlib.contextmanager
def run_to_train(path: Path | None, wanted: Wanted, say: Say) -> Iterator[Run]:
    """The run at ``path``, or the latest one, when it is the wanted one; else a new one. It is locked.

    A new one is removed again if nothing was trained in it. Raises RunError when ``path`` is another run, and the
    errors of the spec and the dataset.
    """
    run, new = _open_or_create(path, wanted, say)
    record(run)
    try:
        yield run
    finally:
        if new:
            remove_if_empty(run)


def _open_or_create(path: Path | None, wanted: Wanted, say: Say) -> tuple[Run, bool]:
    """The run, and whether it is new."""
    import models  # loads TensorFlow, which commands on an existing run may not need

    if wanted.network:
        models.network(wanted.network)
    if path is not None and (path / FILE).exists():
        run = open_run(path)
        if differences := wanted.differences(run):
            raise RunError(f"{path} is a run of {'; '.join(differences)}: leave those options out or name a new --run.")
        lock(path, say)
        say(f"run {run.path}")
        return run, False
    newest = latest() if path is None else None
    if newest is not None and not wanted.differences(newest):
        lock(newest.path, say)
        say(f"run {newest.path} (the latest)")
        return newest, False
    run = _create(path, wanted, say)
    say(f"run {run.path} (new)")
    return run, True


def _create(path: Path | None, wanted: Wanted, say: Say) -> Run:
    values: dict[str, Any] = {**DEFAULTS, **{k: v for k, v in dataclasses.asdict(wanted).items() if v is not None}}
    data, seed, size = values.pop("data"), values.pop("seed"), values.pop("size", None)
    division = Division(values.pop("train_on", "train"), values.pop("hold_out"))
    if size is not None:
        parse_size(size)
    dataset = open_dataset(data)  # first: a missing folder is reported before a missing size
    divide(dataset, division)
    size = size or source_of(data).training.size
    if size is None:
        raise BadSpec(f"dataset {data!r} has images of various sizes: give the input size with --size HEIGHTxWIDTH.")
    height, width = parse_size(size)
    import models

    spec = ModelSpec(height=height, width=width, num_classes=len(dataset.classes), **values)
    models.check_size(spec)
    path = path or new_path(spec, data)
    check_free(path)
    lock(path, say)
    return create(path, spec, data, dataset.classes, dataset.colours, seed, division)


def run_to_use(path: Path | None, say: Say, *, writes: bool = False) -> Run:
    """The run at ``path``, or the latest one; raises RunError when there is none.

    ``writes``: it is locked, for a command that changes it. One that only adds a file of its own need not.
    """
    run = open_run(path) if path is not None else latest()
    if run is None:
        raise RunError("there is no run yet: run `python cli.py qat` first.")
    say(f"run {run.path}" + ("" if path else " (the latest)"))
    if writes:
        lock(run.path, say)
    else:
        check_contained(run.path)
    record(run)
    return run


def newest_artifact(run: Run, target: str | None, say: Say) -> Artifact:
    """The newest artifact of ``target``: NAME, or NAME:LEVEL for one of that feature level.

    Without ``target``, that of the target that `convert` was last given by name, else of cpu, else the newest of all;
    ``say`` reports which.

    Raises RunError when there is none, and the errors of the target's name.
    """
    wanted = find_target(target) if target else None
    folder = run.path / "artifacts"
    suffixes = tuple(each.compiled_suffix for each in targets().values() if each.compiled_suffix)
    paths = [
        path
        for path in newest_first(folder.glob(f"{wanted.name if wanted else '*'}/*.tflite"))
        if path.parent.name != "float32" and not path.name.endswith(suffixes)
    ]
    if wanted and wanted.level is not None:
        paths = [path for path in paths if _level_of(path) == wanted.level]
    if not paths:
        what = f"no artifact for target {target}" if target else "no artifact"
        command = f"python cli.py convert --target {target or 'cpu'} --run {run.path}"
        raise RunError(f"{run.path} has {what} yet: run `{command}` first.")
    chosen = wanted.name if wanted else _default_target(run, {path.parent.name for path in paths})
    path = next(each for each in paths if each.parent.name == chosen)
    if target is None:
        others = len({each.parent.name for each in paths}) - 1
        why = _why_default(run, chosen) if others else ""
        more = f"{why}; {others} other target{'s' if others > 1 else ''}: --target NAME" if others else ""
        say(f"artifact {path.relative_to(run.path)} (target {chosen}{more})")
    artifact = open_artifact(path)
    if artifact.recipe.target not in targets():
        raise ArtifactError(
            f"{path} was made for target {artifact.recipe.target!r}, which this version does not know: run `convert"
            " --force` to write it again."
        )
    return artifact


def _level_of(file: Path) -> int | None:
    """None for a file that cannot be used."""
    try:
        recipe = open_artifact(file).recipe
    except ArtifactError:
        return None
    target = targets().get(recipe.target)
    return target.default_level if target and recipe.level is None else recipe.level


def _default_target(run: Run, converted: set[str]) -> str:
    named = run.named_target()
    if named in converted:
        return str(named)
    if "cpu" in converted:
        return "cpu"
    newest = max((run.artifacts(name) for name in converted), key=lambda folder: folder.stat().st_mtime_ns)
    return newest.name


def _why_default(run: Run, chosen: str) -> str:
    if chosen == run.named_target():
        return ", which `convert` was last given by name"
    return "" if chosen == "cpu" else ", the newest"


def float_parent(run: Run, artifact: Artifact) -> Artifact | None:
    """The float parent as a file with the same output as ``artifact``.

    None where it has not been converted yet, and where the file is broken: converting writes it again.
    """
    checkpoint, wanted = sha256(run.float_training.best), artifact.recipe.file
    for path in (run.path / "artifacts" / "float32").glob("*.tflite"):
        try:
            candidate = open_artifact(path)
        except ArtifactError:
            continue
        spec, origin = candidate.recipe.file, candidate.recipe.origin
        same_weights = origin is not None and origin.parent.sha256 == checkpoint
        if same_weights and (spec.output, spec.stride) == (wanted.output, wanted.stride):
            return candidate
    return None


def to_compare(path: Path, target: str | None, say: Say) -> ComparedFile:
    """The file to compare with: the .tflite file ``path``, or the newest artifact (of ``target``) of the run there."""
    if (path / FILE).is_file():
        run = open_run(path)
        artifact = newest_artifact(run, target, say)
        return ComparedFile(artifact.path, artifact.sha256, artifact.recipe.target, run.preprocessing.shape)
    try:
        data, graph = read_file(path)
    except ArtifactError as error:
        raise ArtifactError(f"--vs {error.message} It takes a .tflite file or a run.") from None
    try:
        recipe = graph.recipe()
    except ArtifactError as error:
        say(f"note: {path} is treated as a file of another program, for cpu: {error}")
        recipe = None
    takes = graph.tensors[graph.inputs[0]].shape if graph.inputs else ()
    return ComparedFile(path, sha256(data), recipe.target if recipe else "cpu", takes)
