"""Writes a folder that an app team takes as it is: a file, what it needs, and programs that check themselves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from pipeline.bundle.browser_file import browser_file
from pipeline.bundle.description import network_header, network_json
from pipeline.bundle.golden import Golden, golden
from pipeline.bundle.readme import readme
from pipeline.compilers.browser import HOME as LITERT_JS
from pipeline.core.artifact import Artifact
from pipeline.core.errors import RunError
from pipeline.core.files import write_atomically
from pipeline.core.leftovers import clear_stages
from pipeline.core.say import Say
from pipeline.core.target import Target
from pipeline.core.together import together
from pipeline.data.images import palette
from pipeline.heads.shipping import SOURCES
from pipeline.tflite.artifact import beside
from pipeline.tflite.metadata import colours as colours_csv
from pipeline.tflite.metadata import labels, refusal
from pipeline.tflite.read import read

PARTS = Path(__file__).with_name("parts")


@dataclasses.dataclass(frozen=True)
class Bundled:
    """What was written.

    Attributes:
      files: below ``folder``, sorted.
      mediapipe: why MediaPipe's ImageSegmenter cannot use the file; None where it can.
    """

    folder: Path
    files: tuple[Path, ...]
    mediapipe: str | None


def bundle(
    artifact: Artifact, target: Target, image: np.ndarray, folder: Path, say: Say, *, force: bool = False
) -> Bundled:
    """Writes the folder, or reuses one that holds the same.

    ``image``: uint8 [h, w, 3] RGB of any size, which becomes the golden image. Raises RunError for a folder that holds
    anything else, without ``force``, and where the file was compiled for another system on chip or configuration;
    ArtifactError for a file without an origin.
    """
    if folder.is_dir():
        clear_stages(folder)
    taken = folder.exists() and any(folder.iterdir()) and not force
    not_empty = RunError(f"{folder} is not empty: name another folder with --out, or replace its files with --force.")
    if taken and not (folder / "network.json").is_file():
        raise not_empty
    target = _for_twin(artifact, target)
    origin = artifact.recipe.known_origin
    origin = dataclasses.replace(origin, colours=origin.colours or palette(len(origin.classes)))
    say("running the file for the golden output")
    expected = golden(artifact, image)
    contents = _network_files(artifact, target) | _parts()
    contents |= {
        "labels.txt": labels(origin).encode(),
        "palette.csv": colours_csv(origin).encode(),
        **{f"golden/{name}": data for name, data in expected.files(origin.colours).items()},
        **{f"mask/{source.name}": source.read_bytes() for source in SOURCES},
    }
    graph = read(artifact.path.read_bytes(), str(artifact.path))
    why = refusal(graph, artifact.recipe)
    contents |= _described(artifact, expected, origin.colours)
    contents["README.md"] = readme(artifact, graph, target, expected, why).encode()
    result = Bundled(folder, tuple(folder / name for name in sorted(contents)), why)
    if taken:
        if not all(_holds(folder / name, data) for name, data in contents.items()):
            raise not_empty
        say(f"{folder} exists and was made the same way: reused")
        return result
    with together(folder) as stage:
        for name, data in contents.items():
            write_atomically(stage / name, data, sync=False)
    return result


def _for_twin(artifact: Artifact, target: Target) -> Target:
    """The target for the system on chip or configuration of the compiled file; raises RunError where not as asked."""
    if artifact.compiled is None:
        return target
    compiled_for = target.variant_of(artifact.compiled)
    if target.selector and compiled_for.text != target.text:
        raise RunError(
            f"{artifact.compiled} was compiled for {compiled_for.text}: for {target.text} run `python cli.py convert"
            f" --target {target.text}` first, or name {compiled_for.text}."
        )
    return compiled_for


def _holds(file: Path, data: bytes) -> bool:
    return file.is_file() and file.stat().st_size == len(data) and file.read_bytes() == data


def _network_files(artifact: Artifact, target: Target) -> dict[str, bytes]:
    """The file, its recipe as JSON, and its compiled twin with what belongs to that."""
    files = [artifact.path, beside(artifact.path)]
    if artifact.compiled is not None:
        files += target.files_of(artifact.compiled)
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def _parts() -> dict[str, bytes]:
    """The programs, and the version of LiteRT.js that the page was tested with."""
    parts = {
        str(file.relative_to(PARTS)): file.read_bytes()
        for file in PARTS.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    return parts | {
        f"browser/{name}": (LITERT_JS / name).read_bytes() for name in ("package.json", "package-lock.json")
    }


def _described(artifact: Artifact, expected: Golden, colours: tuple[tuple[int, int, int], ...]) -> dict[str, bytes]:
    """network.json, network.h for C, and the file for browsers."""
    data = artifact.path.read_bytes()
    for_browsers, name = browser_file(data), f"{artifact.path.stem}-browser.tflite"
    network = network_json(artifact, read(data), (name, read(for_browsers)), expected, colours)
    header = network_header(network, expected)
    return {
        "network.json": (json.dumps(network, indent=2) + "\n").encode(),
        "cpp/network.h": header.encode(),
        f"browser/{name}": for_browsers,
    }
