"""Opens the files of a plan on a device."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from pipeline.core.artifact import Artifact
from pipeline.core.compared import ComparedFile
from pipeline.core.device import Connection, Device, RunnerOptions
from pipeline.core.errors import ArtifactError
from pipeline.core.files import sha256
from pipeline.measure.loaded import Loaded
from pipeline.measure.plan import BenchPlan
from pipeline.targets import targets


def path_on(kind: Device, artifact: Artifact) -> Path:
    """The file to open: compiled where the device runs such. Raises ArtifactError where it was not compiled."""
    if artifact.recipe.target not in kind.runs_compiled:
        return artifact.path
    if artifact.compiled is None:
        raise ArtifactError(
            f"{artifact.path} is not compiled, and {kind.name} runs compiled files: `python cli.py convert --target"
            f" {artifact.recipe.target} --require-compiled` says what is missing."
        )
    return artifact.compiled


@dataclasses.dataclass(frozen=True)
class PlanFiles:
    """The files of a plan on one device; ``stack`` closes what was opened."""

    plan: BenchPlan
    kind: Device
    connection: Connection
    stack: contextlib.ExitStack

    def open_pair(self, threads: int) -> list[Loaded]:
        """The float parent and the artifact, in this order. Raises ArtifactError and DeviceError."""
        run, parent, artifact = self.plan.run, self.plan.parent, self.plan.artifact
        file = path_on(self.kind, artifact)
        digest = artifact.sha256 if file == artifact.path else sha256(file)
        names = [str(path.relative_to(run.path)) for path in (parent.path, file)]
        return [
            self._open(parent.path, names[0], parent.sha256, "cpu", threads),
            self._open(file, names[1], digest, artifact.recipe.target, threads),
        ]

    def open_other(self, other: ComparedFile) -> Loaded:
        """A file to compare with."""
        return self._open(other.path, str(other.path), other.sha256, other.target, self.plan.threads[0])

    def _open(self, path: Path, name: str, digest: str, made_for: str, threads: int) -> Loaded:
        target = targets().get(made_for)  # a file to compare with may name a target that is not registered here
        delegate, files = (target.delegate, target.files_of(path)) if target else ("", (path,))
        runner = self.connection.open(path, RunnerOptions(threads, made_for, pinned=True, delegate=delegate))
        self.stack.callback(runner.close)
        return Loaded(path, name, digest, runner, threads, files)
