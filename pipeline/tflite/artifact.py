"""Writes and opens artifacts: a .tflite file with its recipe inside, and JSON beside it."""

from __future__ import annotations

import dataclasses
import functools
import glob
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.artifact import Artifact
from pipeline.core.errors import ArtifactError
from pipeline.core.files import sha256, write_atomically
from pipeline.core.from_json import from_json
from pipeline.core.json_file import BadJson, load_as
from pipeline.core.recipe import Recipe
from pipeline.core.together import READY, together
from pipeline.tflite.metadata import KEY, refusal, with_metadata
from pipeline.tflite.read import read, read_file, with_recipe


@dataclasses.dataclass(frozen=True)
class Twin:
    """What the JSON beside an artifact says of its compiled twin; ``file`` lies in the same folder.

    Attributes:
      companions: the sha256 of each file that belongs to it and differs from it in the suffix alone, by that suffix.
    """

    file: str
    sha256: str
    companions: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if Path(self.file).name != self.file or self.file in ("", ".", "..") or "\0" in self.file:
            raise ValueError("the compiled file must lie beside it")
        if wrong := next((s for s in self.companions if not re.fullmatch(r"\.[A-Za-z0-9]{1,16}", s)), None):
            raise ValueError(f"{wrong[:40]!r} is no suffix of a companion of the compiled file")


@dataclasses.dataclass(frozen=True)
class Sidecar:
    """What is read of the JSON beside an artifact; the recipe is read from the artifact itself."""

    sha256: str
    compiled: Twin | None


def beside(path: Path) -> Path:
    """The JSON of an artifact."""
    return path.with_suffix(".json")


def write(path: Path, data: bytes, recipe: Recipe, shipped: Mapping[str, bytes] = {}) -> Artifact:
    """Writes the file with its recipe inside, and TFLite metadata where MediaPipe reads it, and the JSON beside it.

    ``shipped``: name → content of more files beside it. All appear together.
    """
    data = with_recipe(data, recipe)
    if refusal(read(data), recipe) is None:
        data = with_metadata(data, recipe)
    artifact = Artifact(path, recipe, sha256(data))
    with together(path.parent) as stage:
        for name, content in {**shipped, path.name: data}.items():
            write_atomically(stage / name, content, sync=False)
        write_record(artifact, stage)
    return artifact


def lacks_metadata(artifact: Artifact) -> bool:
    """Whether the file has no TFLite metadata although MediaPipe could read it: versions before them wrote it."""
    _, graph = read_file(artifact.path)
    return KEY not in graph.metadata and refusal(graph, artifact.recipe) is None


def with_compiled(artifact: Artifact, compiled: Path, note: str, companions: Sequence[Path] = ()) -> Artifact:
    """Records the compiled twin, and what belongs to it, in JSON, in the folder in which they lie now."""
    digests = {file.suffix: sha256(file) for file in companions}
    twin = {"file": compiled.name, "sha256": sha256(compiled), "companions": digests, "note": note}
    write_record(artifact, compiled.parent, twin)
    return dataclasses.replace(artifact, compiled=artifact.path.with_name(compiled.name))


def write_record(artifact: Artifact, folder: Path | None = None, compiled: dict[str, Any] | None = None) -> None:
    """The JSON of the artifact; ``folder``: None for that of the artifact."""
    recipe = artifact.recipe.to_json()
    data = {"file": artifact.path.name, "sha256": artifact.sha256, "recipe": recipe, "compiled": compiled}
    path = (folder or artifact.path.parent) / beside(artifact.path).name
    write_atomically(path, (json.dumps(data, indent=2, sort_keys=True) + "\n").encode())


def open_artifact(path: Path | str) -> Artifact:
    """Opens a file that ``write`` wrote and checks it against its sha256; raises ArtifactError."""
    path = Path(path)
    data, graph = read_file(path)
    try:
        recipe = graph.recipe()
    except ArtifactError as error:
        raise error if str(path) in str(error) else ArtifactError(f"{path}: {error}") from None
    if recipe is None:
        raise ArtifactError(f"{path} has no recipe inside: give a file that `convert` wrote.")
    compiled = _compiled_beside(path, data) if beside(path).is_file() else None
    return Artifact(path, recipe, sha256(data), compiled)


def _compiled_beside(path: Path, data: bytes) -> Path | None:
    """The compiled twin that the JSON beside the artifact names; None where it names none, or one that is gone.

    Raises ArtifactError where the JSON is broken or of another file, and for a twin that is not the file that the
    compiler made, or that lies elsewhere: such a folder was not written here.
    """
    sidecar = beside(path)
    try:
        content = load_as(sidecar, functools.partial(from_json, Sidecar))
    except BadJson as error:
        raise ArtifactError(f"{sidecar} is broken: run `convert` to write both again ({error}).") from None
    if content.sha256 != sha256(data):
        raise ArtifactError(
            f"{path} is not the file that was converted (its sha256 differs from {sidecar.name}): run"
            f" `convert` to write it again{_cut_off(path.parent)}."
        )
    twin = content.compiled
    if twin is None or not (path.parent / twin.file).is_file():
        return None
    compiled = path.parent / twin.file
    digests = {compiled: twin.sha256, **{compiled.with_suffix(s): digest for s, digest in twin.companions.items()}}
    beside_it = compiled.parent.glob(f"{glob.escape(compiled.stem)}.*")
    for file in (compiled, *sorted({*digests, *beside_it} - {compiled})):
        unlike = file in digests and (not file.is_file() or sha256(file) != digests[file])
        if file.is_symlink() or unlike:
            raise ArtifactError(
                f"{file} is not the file that the compiler made (its sha256 differs from {sidecar.name}, or it is a"
                " link): run `convert` to make both again."
            )
    return compiled


def _cut_off(folder: Path) -> str:
    """The state of a folder whose files are being replaced, as the rest of a sentence."""
    return ", or wait for the command that is writing it now" if any(folder.glob(f"{READY}*")) else ""
