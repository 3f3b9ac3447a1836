"""Drives LiteRT's ahead-of-time compiler, which hands to a vendor the pieces of a graph that the vendor's plugin takes.

LiteRT's package brings the plugins and the tool ``apply_plugin_main``; a plugin needs its vendor's own libraries. The
tool is called here as ``ai_edge_litert.aot.aot_compile`` calls it, which throws away what the tool says of single ops.
It leaves one custom op, ``COMPILED_OP``, for each piece.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.compilers.results import content, twin_of
from pipeline.compilers.twin import verdicts_of_twin
from pipeline.core.errors import CompilerError
from pipeline.core.files import write_atomically
from pipeline.core.graph import Graph
from pipeline.core.keeper import scratch_folder
from pipeline.core.program import NotEnded
from pipeline.core.program import run as run_program
from pipeline.core.rewrite import Rewrite
from pipeline.core.rules import Rules, Verdict
from pipeline.core.target import Answer, CompileResult, Target
from pipeline.drivers.last_words import how_it_ended
from pipeline.rewrites.padding import PADDING_FOLDED
from pipeline.tflite.read import read

TIMEOUT_SECONDS = 1800
"""A large network takes the Hexagon compiler minutes."""
COMPILED_OP = "DISPATCH_OP"
STATS = re.compile(
    r"Partitioned subgraph<(\d+)>, selected (\d+) ops, from a total of (\d+) ops\. resulted in (\d+) partitions"
)
REFUSED = re.compile(r"ERROR: \[(?P<file>\w+)\.cc:\d+\]\s+LiteRT Op #(?P<op>\d+) '[^']*' \(code=\d+\) is not supported")
VALIDATOR = "qnn_compiler_plugin"
"""The file of Qualcomm's plugin that speaks of an op which the vendor's library did not validate."""

NOT_HANDED_ON = "the plugin does not hand it on"
"""Reason of a rule that refuses an op because the plugin takes it but drops one of its options."""


@dataclasses.dataclass(frozen=True)
class Vendor:
    """A vendor's plugin.

    Attributes:
      manufacturer: its name in LiteRT's own target modules (ai_edge_litert/aot/vendors/*/target.py).
      plugin: its folder under ai_edge_litert/vendors.
      libraries: system on chip → the folders of the vendor's libraries, or why there are none, as a sentence.
      ready: system on chip → the command that makes it ready on this machine, or None where it is.
      by: () → what compiles, with its version.
      flags: system on chip → further options of the tool.
      soc_name: system on chip → what the tool calls it.
      stand_ins: library that the plugin only links against → one of the vendor's own that is loaded in its place.
      aliases: see ``Target.aliases``.
    """

    manufacturer: str
    plugin: str
    libraries: Callable[[str], tuple[Path, ...]]
    ready: Callable[[str], str | None]
    by: Callable[[], str]
    flags: Callable[[str], tuple[str, ...]] = lambda soc: ()
    soc_name: Callable[[str], str] = lambda soc: soc
    stand_ins: Mapping[str, str] = dataclasses.field(default_factory=dict)
    aliases: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class PluginRun:
    """One run of the tool.

    Attributes:
      data: the compiled file; None where the plugin takes no op at all.
      report: LiteRT's own line on how much of the graph went to the plugin.
      reasons: op → why the plugin left it, where it says so.
    """

    data: bytes | None
    report: str
    reasons: Mapping[int, str]


def package() -> Path:
    """The folder of the installed LiteRT package."""
    return folder_of("ai_edge_litert") or Path("/nowhere")


def tool() -> Path:
    return package() / "tools" / "apply_plugin_main"


def unfit() -> str | None:
    """Why this machine cannot compile for any vendor, or None."""
    if sys.platform == "linux" and platform.machine() == "x86_64" and tool().is_file():
        return None
    return "an x86-64 Linux machine: LiteRT brings its ahead-of-time compiler for no other"


def installed(package_name: str) -> str | None:
    """The version of an installed package."""
    try:
        return importlib.metadata.version(package_name)
    except importlib.metadata.PackageNotFoundError:
        return None


def folder_of(module: str) -> Path | None:
    """The folder of an installed package, which is not imported: its native code may end the process."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def run(vendor: Vendor, soc: str, file: Path) -> PluginRun:
    """Compiles ``file``; raises CompilerError with what the tool said."""
    with scratch_folder("litert-aot-") as scratch:
        compiled = scratch / "compiled.tflite"
        shutil.copyfile(file, scratch / "network.tflite")
        folders = vendor.libraries(soc)
        for name, real in vendor.stand_ins.items():
            if not any((folder / name).exists() for folder in folders):
                (scratch / name).symlink_to(next(f / real for f in folders if (f / real).exists()))
        paths = [str(scratch), *map(str, folders), os.environ.get("LD_LIBRARY_PATH", "")]
        command = [
            str(tool()),
            "--cmd=apply",
            "--model=network.tflite",
            f"--o={compiled.name}",
            "--err=--",
            f"--soc_manufacturer={vendor.manufacturer}",
            f"--soc_model={vendor.soc_name(soc)}",
            f"--libs={package() / 'vendors' / vendor.plugin / 'compiler'}",
            *vendor.flags(soc),
        ]
        try:
            environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(p for p in paths if p)}
            completed = run_program(command, TIMEOUT_SECONDS, env=environment, cwd=scratch)
        except NotEnded as error:
            raise CompilerError(f"LiteRT's compiler {error}; the uncompiled file is {file}.") from None
        except OSError as error:
            raise CompilerError(f"LiteRT's compiler did not start ({error}); the uncompiled file is {file}.") from None
        stats = STATS.findall(f"{completed.out}\n{completed.err}")
        nothing = bool(stats) and all(selected == "0" for _, selected, _, _ in stats)
        data = content(compiled, file) if completed.code == 0 and os.path.lexists(compiled) else b""
        if not data and not nothing:
            raise CompilerError(
                f"LiteRT's compiler for {vendor.manufacturer} {soc} ended with {how_it_ended(completed.code)} and"
                f" said: {failure(completed.out, completed.err)} The uncompiled file is {file}."
            )
        if data:
            twin_of(file, data, "LiteRT's compiler", COMPILED_OP)
        return PluginRun(data or None, "; ".join(map(sentence, stats)), reasons(completed.out, completed.err))


def sentence(stats: tuple[str, str, str, str]) -> str:
    """As LiteRT words it (ai_edge_litert/aot/core/aot_types.py, SubgraphPartitionStats)."""
    subgraph, selected, total, partitions = stats
    how = "fully" if selected == total else "partially"
    return f"Subgraph {subgraph} {how} compiled: {selected} / {total} ops offloaded to {partitions} partitions."


def failure(out: str, err: str) -> str:
    """The line that says why it failed. LiteRT wraps an error in others, and the last one names only its own source."""
    lines = [
        line.strip(" └") for line in err.splitlines() if re.search(r"ERROR|rror:|Could not|ailed to|Check '", line)
    ]
    errors = [re.sub(r"^(ERROR|WARNING): \[[^]]*\]\s*", "", line) for line in lines]
    errors = [line for line in errors if line and not line.startswith("ERROR: [")] or vendors_errors(out)
    errors = errors or re.findall(r"^WARNING: \[[^]]*\] (.* not supported.*)$", err, re.MULTILINE)
    error = next((line for line in errors if "Could not load" in line), errors[0] if errors else "nothing")
    return error.removesuffix(".") + "."


def vendors_errors(out: str) -> list[str]:
    """What the vendor's library prints of errors, without its time stamps."""
    errors = re.findall(r"\[ ERROR \]\s+(?:<E> )?(.*?)\s*$", out, re.MULTILINE)
    return [line for line in errors if line]


def reasons(out: str, err: str) -> dict[int, str]:
    """Op → why it was left. The plugin names ops on one stream, and the vendor's library the reasons on the other.

    Both go through the graph in its order; the library ends what it says of an op with 'Failed to validate op'.
    """
    blocks: list[str] = []
    start = True
    for line in vendors_errors(out):
        if start:
            blocks.append(line)
        start = line.startswith("Failed to validate op")
    by_op: dict[int, str] = {}
    remaining = iter(blocks)
    for match in REFUSED.finditer(err):
        validated = match["file"] == VALIDATOR
        by_op[int(match["op"])] = (
            next(remaining, "the vendor's library refused it") if validated else "not in the plugin"
        )
    return by_op


def verdicts(graph: Graph, plugin_run: PluginRun, by: str) -> tuple[Verdict, ...]:
    if plugin_run.data is None:
        return tuple(
            Verdict(op.index, "falls back", plugin_run.reasons.get(op.index, "left to the CPU"), by, by)
            for op in graph.ops
        )
    return verdicts_of_twin(graph, read(plugin_run.data, "the compiled file"), plugin_run.reasons, by)


def compile_with(vendor: Vendor, soc: str, suffix: str) -> Callable[[Path], CompileResult]:
    def compile_file(artifact: Path) -> CompileResult:
        needed = unfit() or vendor.ready(soc)
        if needed is not None:
            return CompileResult(
                None,
                f"not compiled for {soc}: its compiler is not ready here. It needs {needed}. Then repeat this command.",
            )
        plugin_run = run(vendor, soc, artifact)
        if plugin_run.data is None:
            why = next(iter(plugin_run.reasons.values()), "it gives no reason")
            raise CompilerError(f"{vendor.by()} takes no op of {artifact} ({why}): `inspect` says more of each op.")
        result = artifact.with_name(f"{artifact.stem}{suffix}")
        write_atomically(result, plugin_run.data)
        return CompileResult(result, f"compiled by {vendor.by()} for {soc}: {result.name}; {plugin_run.report}")

    return compile_file


def ask_with(vendor: Vendor, soc: str) -> Callable[[Path, Graph], Answer]:
    def ask(file: Path, graph: Graph) -> Answer:
        needed = unfit() or vendor.ready(soc)
        if needed is not None:
            return Answer(
                None, f"LiteRT's compiler for {vendor.manufacturer} {soc} is not ready here; it needs {needed}"
            )
        try:
            plugin_run = run(vendor, soc, file)
        except CompilerError as error:
            return Answer(None, str(error))
        by = vendor.by()
        return Answer(verdicts(graph, plugin_run, by), f"{by}, {soc}. {plugin_run.report}")

    return ask


def target_of(
    vendor: Vendor,
    name: str,
    title: str,
    socs: tuple[str, ...],
    source: str,
    rules: Rules | None,
    *,
    rewrites: tuple[Rewrite, ...] = (),
) -> Target:
    """The target of a vendor, for its first system on chip; ``with_soc`` gives those of the others."""

    def for_soc(soc: str) -> Target:
        suffix = f"_{name}.tflite"
        of_soc = f"_{soc}{suffix}"
        return Target(
            name=name,
            title=f"{title}, {soc}",
            weights="int8",
            io=("int8", "uint8", "float32"),
            source=source,
            rules=rules,
            rewrites=(PADDING_FOLDED, *rewrites),
            ask=ask_with(vendor, soc),
            missing=lambda: unfit() or vendor.ready(soc),
            compile=compile_with(vendor, soc, of_soc),
            compiled_suffix=suffix,
            variant_suffix=of_soc,
            compiled_ops=(COMPILED_OP,),
            aliases=vendor.aliases,
        )

    by_soc = {soc: for_soc(soc) for soc in socs}
    return dataclasses.replace(by_soc[socs[0]], socs=by_soc)
