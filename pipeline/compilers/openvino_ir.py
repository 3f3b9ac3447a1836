"""Drives OpenVINO's own reader of .tflite files, in a process of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.compilers.litert_aot import installed
from pipeline.compilers.results import content
from pipeline.core.errors import CompilerError
from pipeline.core.graph import Graph
from pipeline.core.keeper import scratch_folder
from pipeline.core.program import NotEnded, run
from pipeline.core.rules import Verdict
from pipeline.core.target import Answer, CompileResult
from pipeline.drivers.last_words import how_it_ended, why_it_failed
from pipeline.tflite.read import read_file

INSTALL = "pip install -r requirements-openvino.txt"
SUFFIX = "_openvino.xml"
WORKER = Path(__file__).parents[1] / "drivers" / "openvino_ir_worker.py"
TIMEOUT_SECONDS = 600


def missing() -> str | None:
    return None if installed("openvino") else f"`{INSTALL}`"


def by() -> str:
    return f"OpenVINO {installed('openvino')}"


def worker(*arguments: str, stdin: str = "") -> str:
    """What ``openvino_ir_worker`` prints; raises CompilerError with OpenVINO's own reason."""
    try:
        completed = run([sys.executable, "-P", str(WORKER), *arguments], TIMEOUT_SECONDS, data=stdin.encode())
    except NotEnded as error:
        raise CompilerError(f"{by()} {error}.") from None
    if completed.code:
        raise CompilerError(f"{by()}: {why_it_failed(completed.err)} ({how_it_ended(completed.code)}).")
    return completed.stdout.decode()


def refusals(files: Sequence[Path]) -> list[str | None]:
    """For each file the reason why OpenVINO does not take it, or None; raises CompilerError."""
    return [json.loads(line) for line in worker("check", *map(str, files)).splitlines()]


def ask(file: Path, graph: Graph) -> Answer:
    """It takes a file as a whole or not at all."""
    if command := missing():
        return Answer(None, f"OpenVINO is not installed; it needs {command}")
    try:
        (refused,) = refusals([file])
    except CompilerError as error:
        return Answer(None, str(error))
    if refused is None:
        return Answer(tuple(Verdict(op.index, "accelerated", "", by(), by()) for op in graph.ops), by())
    return Answer(tuple(Verdict(op.index, "refused", refused, by(), by()) for op in graph.ops), by())


def _recipe_of(graph: Graph) -> str:
    recipe = graph.recipe()
    return "null" if recipe is None else recipe.dumps()


def compile_file(artifact: Path) -> CompileResult:
    """Writes the IR beside the artifact, whose recipe goes into it; raises CompilerError with what OpenVINO said."""
    if command := missing():
        return CompileResult(
            None, f"not compiled: OpenVINO is not installed. It needs {command}. Then repeat this command."
        )
    _, graph = read_file(artifact)
    result = graph.output_tensor
    scale, zero_point = (result.scale[0], result.zero_point[0]) if result.scale else (0.0, 0)
    info = {"recipe": _recipe_of(graph), "output_scale": repr(scale), "output_zero_point": repr(zero_point)}
    compiled = artifact.with_name(f"{artifact.stem}{SUFFIX}")
    with scratch_folder(".openvino-", artifact.parent) as scratch:
        written = scratch / compiled.name
        worker("write", str(artifact), str(written), stdin=json.dumps(info))
        if any(not content(written.with_suffix(suffix), artifact) for suffix in (".bin", ".xml")):
            raise CompilerError(f"{by()} ended without an error, but wrote an empty file; the artifact is {artifact}.")
        for suffix in (".bin", ".xml"):  # the one that is opened last
            os.replace(written.with_suffix(suffix), compiled.with_suffix(suffix))
    return CompileResult(
        compiled, f"written by {by()}: {compiled.name}, its weights in {compiled.with_suffix('.bin').name}"
    )
