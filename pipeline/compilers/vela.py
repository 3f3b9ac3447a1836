"""Drives Vela, Arm's compiler for Ethos-U, for the targets of that family: compiles, and reads what it says.

Vela 5.2 says of an op that it leaves to the CPU: ``Warning (supported operators) operator: NAME, ofm: 'TENSOR'``, a
line ``Reason: ...`` and the constraints that were not met; it leaves one custom op for each piece that the NPU does.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.compilers.results import content, twin_of
from pipeline.compilers.twin import verdicts_of_twin
from pipeline.core.errors import CompilerError
from pipeline.core.files import write_atomically
from pipeline.core.graph import Graph
from pipeline.core.keeper import scratch_folder
from pipeline.core.program import NotEnded, text_of
from pipeline.core.program import run as run_program
from pipeline.core.rules import Verdict
from pipeline.core.target import Answer, CompileResult
from pipeline.drivers.answers import MOST_ESTIMATE, decimal
from pipeline.drivers.last_words import how_it_ended
from pipeline.tflite.read import read

TIMEOUT_SECONDS = 600
COMPILED_OP = "ethos-u"
INSTALL = "pip install -r requirements-ethos.txt"
REFUSAL = re.compile(r"Warning \((?P<kind>[^)]*)\) operator: (?P<op>[^,]+), ofm: '(?P<tensor>.*)'")
ESTIMATES = {
    "cycles_total": "cycles_total",
    "cycles_npu": "cycles_npu",
    "inference_time": "inference_seconds",
    "sram_memory_used": "sram_kib",
    "off_chip_flash_memory_used": "flash_kib",
    "dram_memory_used": "dram_kib",
}
"""Vela's summary column → our name, with the unit that Vela's own summary prints."""


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What Vela compiles for, by its own names.

    Attributes:
      accelerator: generation and MACs a cycle, such as 'ethos-u55-128'.
      system, memory: sections of its Arm/vela.ini: clock and bandwidths, and where tensors are kept.
    """

    accelerator: str
    system: str
    memory: str

    @property
    def arguments(self) -> tuple[str, ...]:
        chosen = (self.accelerator, self.system, self.memory)
        options = ("--accelerator-config", "--system-config", "--memory-mode")
        return tuple(word for pair in zip(options, chosen, strict=True) for word in pair)


@dataclasses.dataclass(frozen=True)
class VelaRun:
    """One run of Vela: the compiled file, what it printed, its summary and its per-layer table."""

    data: bytes
    output: str
    summary: dict[str, str]
    per_layer: str


def program() -> str | None:
    beside = Path(sys.executable).with_name("vela")
    return str(beside) if beside.is_file() else shutil.which("vela")


def missing() -> str | None:
    return None if program() else INSTALL


@functools.cache
def version(vela: str) -> str:
    try:
        completed = run_program([vela, "--version"], 60)
    except (NotEnded, OSError):
        return "Vela"
    return f"Vela {completed.out.strip()[:40]}" if completed.code == 0 and completed.out.strip() else "Vela"


def run(vela: str, file: Path, configuration: Configuration) -> VelaRun:
    """Compiles ``file``; raises CompilerError with what Vela said."""
    with scratch_folder("vela-") as scratch:
        copy = scratch / "network.tflite"  # Vela names its results after its input
        shutil.copyfile(file, copy)
        command = [vela, str(copy), *configuration.arguments, "--output-dir", str(scratch), "--verbose-performance"]
        try:
            completed = run_program(command, TIMEOUT_SECONDS)
        except NotEnded as error:
            raise CompilerError(f"Vela {error}; the uncompiled file is {file}.") from None
        except OSError as error:
            raise CompilerError(f"Vela did not start ({error}); the uncompiled file is {file}.") from None
        output = f"{completed.out}\n{completed.err}"
        compiled = scratch / "network_vela.tflite"
        if completed.code != 0 or not os.path.lexists(compiled):
            lines = [line.strip() for line in output.splitlines() if line.strip()] or ["nothing"]
            error_line = next((line for line in lines if "rror" in line), lines[-1])
            raise CompilerError(
                f"Vela ended with {how_it_ended(completed.code)} and no compiled file; it said: {error_line}. The"
                f" uncompiled file is {file}."
            )
        data = content(compiled, file)
        twin_of(file, data, "Vela")
        summary = next(scratch.glob("network_summary_*.csv"), None)
        rows = _rows(text_of(content(summary, file))) if summary else []
        layers = scratch / "network_per-layer.csv"
        per_layer = text_of(content(layers, file)) if os.path.lexists(layers) else ""
        return VelaRun(data, output, rows[0] if rows else {}, per_layer)


def _rows(table: str) -> list[dict[str, str]]:
    try:
        return list(csv.DictReader(table.splitlines()))
    except csv.Error:  # a field that does not end
        return []


def refusals(output: str) -> dict[str, str]:
    """Tensor that an op on the CPU writes → Vela's reason, in one line."""
    reasons: dict[str, str] = {}
    lines = output.splitlines()
    for i, line in enumerate(lines):
        match = REFUSAL.search(line)
        if match:
            reason = next((x[len("Reason:") :].strip() for x in lines[i + 1 : i + 3] if x.startswith("Reason:")), "")
            reasons.setdefault(match["tensor"], reason or match["kind"])
    return reasons


def verdicts(graph: Graph, vela_run: VelaRun, by: str) -> tuple[Verdict, ...]:
    reasons = refusals(vela_run.output)
    why = {op.index: next((reasons[t.name] for t in graph.writes(op) if t.name in reasons), "") for op in graph.ops}
    return verdicts_of_twin(graph, read(vela_run.data, "Vela's result"), why, by)


def estimates(vela_run: VelaRun) -> dict[str, Any]:
    told = {name: decimal(vela_run.summary.get(column) or "", MOST_ESTIMATE) for column, name in ESTIMATES.items()}
    return {name: value for name, value in told.items() if value is not None}


def ask_with(configuration: Configuration) -> Callable[[Path, Graph], Answer]:
    def ask(file: Path, graph: Graph) -> Answer:
        vela = program()
        if vela is None:
            return Answer(None, f"Vela is missing: run `{INSTALL}`")
        by = version(vela)
        try:
            vela_run = run(vela, file, configuration)
        except CompilerError as error:
            return Answer(None, str(error))
        return Answer(verdicts(graph, vela_run, by), f"{by}, {' '.join(configuration.arguments)}", estimates(vela_run))

    return ask


def compile_with(configuration: Configuration, suffix: str) -> Callable[[Path], CompileResult]:
    def compile_file(artifact: Path) -> CompileResult:
        vela = program()
        if vela is None:
            return CompileResult(None, f"not compiled: Vela is not installed. Run `{INSTALL}` and this command again.")
        vela_run = run(vela, artifact, configuration)
        twin_of(artifact, vela_run.data, "Vela", COMPILED_OP)
        result = artifact.with_name(f"{artifact.stem}{suffix}")
        write_atomically(result, vela_run.data)
        write_atomically(result.with_suffix(".csv"), vela_run.per_layer.encode())
        guess = estimates(vela_run)
        ops = verdicts(read(artifact.read_bytes(), str(artifact)), vela_run, "")
        return CompileResult(
            result,
            f"compiled by {version(vela)}, {configuration.accelerator}: {result.name};"
            f" {sum(v.outcome == 'accelerated' for v in ops)} of {len(ops)} ops on the NPU; it estimates"
            f" {guess.get('inference_seconds', 0) * 1000:.2f} ms and {guess.get('sram_kib', 0):.0f} KiB of SRAM",
        )

    return compile_file
