"""Finds the run and the artifact that a command works on, or makes the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.data import open_dataset, source_of
from pipeline.nouns.artifact import Artifact, open_artifact, output_of
from pipeline.nouns.errors import BadSpec, RunError
from pipeline.nouns.files import sha256
from pipeline.nouns.run import FILE, Run, create, latest, new_path, open_run
from pipeline.nouns.spec import ModelSpec, parse_size
from pipeline.nouns.tflite import read
from pipeline.targets import targets

Say = Callable[[str], None]

DEFAULTS = {"network": "fast-scnn", "data": "synthetic", "seed": 0}


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What the user said of a run; None where nothing was said."""

    network: str | None = None
    data: str | None = None
    size: str | None = None
    seed: int | None = None
    alpha: float | None = None
    resize: str | None = None
    batch_norm: bool | None = None
    l2: float | None = None
    dropout: float | None = None

    def differences(self, run: Run) -> list[str]:
        """What was said that the run is not, in words."""
        spec = dataclasses.asdict(run.config.model)
        is_now = {**spec, "data": run.config.data, "size": run.config.model.size, "seed": run.config.seed}
        size = "x".join(map(str, parse_size(self.size))) if self.size else None
        said = {**dataclasses.asdict(self), "size": size}
        return [f"{k} {is_now[k]}, not {v}" for k, v in said.items() if v is not None and is_now[k] != v]


def run_to_train(path: Path | None, wanted: Wanted, say: Say) -> Run:
    """The run at ``path``, or the latest one, when it is what was asked for; else a new one.

    Raises RunError when ``path`` is a run of something else, and the errors of the spec and the dataset.
    """
    import models  # brings TensorFlow, which commands on an existing run may not need

    if wanted.network:
        models.network(wanted.network)
    if path is not None and (path / FILE).exists():
        run = open_run(path)
        if differences := wanted.differences(run):
            raise RunError(f"{path} is a run of {'; '.join(differences)}: leave those options out or name a new --run.")
        say(f"run {run.path}")
        return run
    there = latest() if path is None else None
    if there is not None and not wanted.differences(there):
        say(f"run {there.path} (the latest)")
        return there
    run = _create(path, wanted)
    say(f"run {run.path} (new)")
    return run


def _create(path: Path | None, wanted: Wanted) -> Run:
    said: dict[str, Any] = {**DEFAULTS, **{k: v for k, v in dataclasses.asdict(wanted).items() if v is not None}}
    size = said.pop("size", None) or source_of(said["data"]).training.size
    if size is None:
        raise BadSpec(f"dataset {said['data']!r} has images of any size: say the network's with --size HEIGHTxWIDTH.")
    height, width = parse_size(size)
    data, seed = said.pop("data"), said.pop("seed")
    import models

    dataset = open_dataset(data)
    spec = ModelSpec(height=height, width=width, num_classes=len(dataset.classes), **said)
    models.check_size(spec)
    return create(path or new_path(spec, data), spec, data, dataset.classes, dataset.colours, seed)


def run_to_use(path: Path | None, say: Say) -> Run:
    """The run at ``path``, or the latest one; raises RunError when there is none."""
    run = open_run(path) if path is not None else latest()
    if run is None:
        raise RunError("there is no run yet: run `python cli.py qat` first.")
    say(f"run {run.path}" + ("" if path else " (the latest)"))
    return run


@dataclasses.dataclass(frozen=True)
class Other:
    """A .tflite file to compare with, ours or not."""

    path: Path
    sha256: str
    target: str


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
        if output_of(found.recipe) == output_of(artifact.recipe) and found.recipe["parent"]["sha256"] == checkpoint:
            return found
    return None


def to_compare(path: Path, target: str | None) -> Other:
    """What --vs names: a .tflite file, or a run, whose newest artifact (for ``target``) it is."""
    if (path / FILE).is_file():
        artifact = newest_artifact(open_run(path), target)
        return Other(artifact.path, artifact.sha256, artifact.recipe["target"])
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"--vs {path} cannot be read ({error.strerror}): name a .tflite file or a run.") from None
    recipe = read(data, str(path)).recipe() or {}
    return Other(path, sha256(data), str(recipe.get("target", "cpu")))
