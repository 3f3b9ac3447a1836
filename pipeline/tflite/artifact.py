"""Writes and opens artifacts: a .tflite file with its recipe inside, and JSON beside it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pipeline.core.artifact import Artifact
from pipeline.core.errors import ArtifactError
from pipeline.core.files import sha256, write_atomically
from pipeline.core.recipe import Recipe
from pipeline.tflite.metadata import refusal, with_metadata
from pipeline.tflite.read import read, with_recipe


def beside(path: Path) -> Path:
    """The JSON of an artifact."""
    return path.with_suffix(".json")


def write(path: Path, data: bytes, recipe: Recipe) -> Artifact:
    """Writes the file with its recipe inside, and TFLite metadata where MediaPipe reads it; then the JSON beside it."""
    data = with_recipe(data, recipe)
    if refusal(read(data), recipe) is None:
        data = with_metadata(data, recipe)
    write_atomically(path, data)
    artifact = Artifact(path, recipe, sha256(data))
    _write_json(artifact)
    return artifact


def with_compiled(artifact: Artifact, compiled: Path, note: str) -> Artifact:
    """Records the compiled twin in the JSON beside the artifact."""
    _write_json(artifact, {"file": compiled.name, "sha256": sha256(compiled), "note": note})
    return dataclasses.replace(artifact, compiled=compiled)


def _write_json(artifact: Artifact, compiled: dict[str, Any] | None = None) -> None:
    recipe = artifact.recipe.to_json()
    data = {"file": artifact.path.name, "sha256": artifact.sha256, "recipe": recipe, "compiled": compiled}
    write_atomically(beside(artifact.path), (json.dumps(data, indent=2, sort_keys=True) + "\n").encode())


def open_artifact(path: Path) -> Artifact:
    """Opens a file that ``write`` wrote and checks it against its sha256; raises ArtifactError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}): run `convert` first.") from None
    try:
        recipe = read(data, str(path)).recipe()
    except ArtifactError as error:
        raise error if str(path) in str(error) else ArtifactError(f"{path}: {error}") from None
    if recipe is None:
        raise ArtifactError(f"{path} has no recipe inside: give a file that `convert` wrote.")
    compiled = None
    if beside(path).is_file():
        try:
            sidecar = json.loads(beside(path).read_text())
            recorded = sidecar["sha256"]
            twin = sidecar["compiled"]
        except (OSError, ValueError, KeyError, TypeError):
            raise ArtifactError(f"{beside(path)} is broken: run `convert --force` to write both again.") from None
        if recorded != sha256(data):
            raise ArtifactError(
                f"{path} is not the file that was converted (its sha256 differs from {beside(path).name}): run"
                " `convert --force` to write it again."
            )
        if twin and (path.parent / twin["file"]).is_file():
            compiled = path.parent / twin["file"]
    return Artifact(path, recipe, sha256(data), compiled)
