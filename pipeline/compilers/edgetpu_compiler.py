"""Drives edgetpu_compiler, Coral's closed-source compiler for the Edge TPU, and reads its report.

Its last version is 16.0.384591198. The report's form: coral.ai/docs/edgetpu/compiler, and logs that users published in
google-coral/edgetpu issues #31, #631 and #845.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

from pipeline.compilers.elsewhere import Program, program
from pipeline.compilers.results import twin_of
from pipeline.compilers.twin import verdicts_of_twin
from pipeline.core.errors import CompilerError, SegquantError
from pipeline.core.files import write_atomically
from pipeline.core.graph import Graph
from pipeline.core.printable import printable
from pipeline.core.target import Answer, CompileResult, Target
from pipeline.drivers.answers import whole_number
from pipeline.drivers.last_words import how_it_ended
from pipeline.tflite.read import read

COMPILER = "edgetpu_compiler"
COMPILED_OP = "edgetpu-custom-op"
"""The op that it puts in the place of those it maps."""
TIMEOUT_SECONDS = 600
SMALLEST_RESULT_BYTES = 4096
"""A failed run can leave a stub of about 1 KB and still exit 0."""
MAPPED = "Mapped to Edge TPU"
LONGEST_WORDS = 60
"""Of a figure in its report."""
INTERMITTENT = "Internal compiler error"
ADVICE = {
    "not quantized": "it takes int8 files only: convert with `--target edgetpu`",
    "Didn't find op": "an op is newer than the compiler: `inspect --target edgetpu` names it",
    "large activation tensors": "an activation does not fit the chip: use a smaller --size",
    "timeout": "it gave up: a smaller network, or its own option -t with more seconds",
    "dynamic-sized": "a tensor has no fixed size: convert with `--target edgetpu`, which fixes the batch",
    INTERMITTENT: "it can succeed when repeated; it was tried twice",
}
"""What the compiler says → what to do. Its texts: google-coral/edgetpu issues, and version 16 itself."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What the compiler prints when it succeeds.

    Attributes:
      ops: (op, count, status) rows; one op can have several.
      cached, left, streamed: on-chip memory that parameters use, that remains, and off-chip memory that streams in each
        inference, as the compiler prints them (``'5.90MiB'``); empty where it says nothing.
    """

    version: str
    subgraphs: int
    ops: tuple[tuple[str, int, str], ...]
    cached: str
    left: str
    streamed: str

    def statuses(self, op: str) -> list[str]:
        """Why ops of this kind stay on the CPU."""
        return [status for name, _, status in self.ops if name == op and status != MAPPED]


def parse(output: str) -> Report:
    """Reads what `edgetpu_compiler -s` prints; what it leaves out is 0 or empty."""

    def after(words: str) -> str:
        match = re.search(rf"^{re.escape(words)}:?[ \t]+(\S.*)$", output, re.MULTILINE)
        return printable(match[1].strip(), LONGEST_WORDS) if match else ""

    rows = re.findall(r"^([A-Z][A-Z0-9_]+)[ \t]+([0-9]{1,9})[ \t]+(\S.*)$", output, re.MULTILINE)
    return Report(
        version=after("Edge TPU Compiler version"),
        subgraphs=whole_number(after("Number of Edge TPU subgraphs")) or 0,
        ops=tuple((name, int(count), status.strip()) for name, count, status in rows),
        cached=after("On-chip memory used for caching model parameters"),
        left=after("On-chip memory remaining for caching model parameters"),
        streamed=after("Off-chip memory used for streaming uncached model parameters"),
    )


def failure(output: str) -> str:
    """The line that says why it failed, and what to do about it."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["nothing"]
    words = ("rror", "ailed", "nvalid", "not quantized", "imeout exceeded", "ompilation timeout")
    errors = [line for line in lines if any(word in line for word in words)] or lines[-1:]
    advice = next((do for text, do in ADVICE.items() if text.lower() in " ".join(errors).lower()), "")
    return f"{' '.join(errors[:2])}{f' ({advice}.)' if advice else ''}"


def run(compiler: Program, file: Path) -> tuple[bytes, bytes | None, str]:
    """Compiles ``file``; (compiled file, its log, what was printed). Raises CompilerError."""
    for attempt in (1, 2):
        ran = compiler.run(file, TIMEOUT_SECONDS)
        if INTERMITTENT not in ran.output or attempt == 2:
            break
    compiled = ran.files.get(f"{file.stem}_edgetpu.tflite", b"")
    complete = len(compiled) >= SMALLEST_RESULT_BYTES
    if ran.code != 0 or not complete:
        raise CompilerError(
            f"{COMPILER} ended with {how_it_ended(ran.code)} and {'a' if complete else 'no'} compiled file; it"
            f" said: {failure(ran.output)} The uncompiled file is {file}."
        )
    return compiled, ran.files.get(f"{file.stem}_edgetpu.log"), ran.output


def on_path() -> Program | None:
    """The compiler on PATH."""
    path = shutil.which(COMPILER)
    return Program((), (path,)) if path else None


def compile_edgetpu(artifact: Path, compiler: Program | None = None) -> CompileResult:
    """Runs edgetpu_compiler, the given one or the one on PATH; raises CompilerError when it fails."""
    compiler = compiler or on_path()
    if compiler is None:
        return CompileResult(
            None,
            f"not compiled: {COMPILER} is not on PATH. Install Coral's Debian package edgetpu-compiler (x86-64 Linux)"
            f" and run this command again, name the machine or container that has it (`--compiler 'ssh HOST"
            f" {COMPILER}'`), or run `{COMPILER} -s -o {artifact.parent} {artifact}` where it is.",
        )
    compiled, log, output = run(compiler, artifact)
    twin = twin_of(artifact, compiled, COMPILER, COMPILED_OP, named=True)
    result = artifact.with_name(f"{artifact.stem}_edgetpu.tflite")
    write_atomically(result, compiled)
    if log is not None:
        write_atomically(result.with_suffix(".log"), log)
    report = parse(output)
    ops = verdicts_of_twin(read(artifact.read_bytes(), str(artifact)), twin, {}, COMPILER)
    mapped = sum(op.outcome == "accelerated" for op in ops)
    note = f"compiled by {COMPILER} {report.version}: {result.name}; {mapped} of {len(ops)} ops on the Edge TPU"
    if report.streamed and not report.streamed.startswith("0.00"):
        note += f"; {report.streamed} of parameters stream in each inference"
    return CompileResult(result, note)


def missing() -> str | None:
    if shutil.which(COMPILER):
        return None
    return "apt-get install edgetpu-compiler (x86-64; Coral's Debian repository, see coral.ai/docs/edgetpu/compiler)"


def ask(file: Path, graph: Graph, compiler: Program | None = None) -> Answer:
    """Which ops the real compiler maps: those that its result no longer has."""
    compiler = compiler or on_path()
    if compiler is None:
        return Answer(None, f"{COMPILER} is not on PATH; Coral's Debian package edgetpu-compiler (x86-64) has it")
    try:
        compiled, _, output = run(compiler, file)
        twin = twin_of(file, compiled, COMPILER, named=True)
    except SegquantError as error:
        return Answer(None, str(error))
    report = parse(output)
    by = f"{COMPILER} {report.version}"
    why = {op.index: "; ".join(report.statuses(op.name)) for op in graph.ops}
    facts = {"parameters_cached": report.cached, "parameters_streamed": report.streamed, "subgraphs": report.subgraphs}
    return Answer(verdicts_of_twin(graph, twin, why, by), by, {k: v for k, v in facts.items() if v})


def use_compiler(target: Target, command: str) -> Target:
    """The same target with the compiler that ``command`` starts: a program, in a container, or over ssh."""
    compiler = program(command, COMPILER)
    return dataclasses.replace(
        target,
        ask=lambda file, graph: ask(file, graph, compiler),
        compile=lambda artifact: compile_edgetpu(artifact, compiler),
        missing=lambda: None,
    )
