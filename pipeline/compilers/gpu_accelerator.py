"""Drives LiteRT's GPU accelerator (WebGPU over Vulkan), on whatever Vulkan device this machine has.

It uses a graphics card's driver where there is one, else SwiftShader: Vulkan on the CPU, in Debian's chromium-common.
On standard error it prints which kinds of op it refuses (`OP: reason`) and how many ops it takes, but not which ones.
So each op of a refused kind is compiled alone, in a file of its own.
"""

from __future__ import annotations

import ctypes
import dataclasses
import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pipeline.core.errors import CompilerError
from pipeline.core.graph import Graph
from pipeline.core.keeper import scratch_folder
from pipeline.core.program import Ended, NotEnded, run
from pipeline.core.rules import Rules, Verdict
from pipeline.core.target import Answer
from pipeline.drivers.last_words import how_it_ended, why_it_failed
from pipeline.tflite.excerpt import excerpts
from pipeline.tflite.partitions import after_partitioning, unpacks
from pipeline.tflite.read import WEIGHTED

WORKER = Path(__file__).parents[1] / "drivers" / "gpu_worker.py"
TIMEOUT_SECONDS = 600
INSTALL = "sudo apt-get install --no-install-recommends libvulkan1 chromium-common"
SWIFTSHADER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")
CHOICES = ("VK_ICD_FILENAMES", "VK_DRIVER_FILES")
DRIVERS = ("/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d")
"""Where Vulkan's loader looks for drivers (Vulkan-Loader, LoaderInterfaceArchitecture)."""

NO_DEVICE = ("No adapters found", "Failed to initialize WebGPU environment", "Failed to create WebGPU")
REFUSAL = re.compile(r"^([A-Z][A-Z0-9_]+): ?(.*)$")
TAKEN = re.compile(r"^(\d+|No) operations will run on the GPU")
WRONG = "Shape mismatch in GpuModelBuilder::UpdateOutputTensors(output of convolution1x1"
"""A warning, after which an 8-bit 1x1 convolution is computed without its stride (LiteRT 2.3). The same words about a
transposed convolution that gives a row less than it could are harmless: its results are right."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """What the accelerator reports on one file.

    Attributes:
      error: empty where all of it runs on the GPU.
      refusals: (op name, reason), one for each kind of refusal.
      taken: ops on the GPU where some are not; ops that only unpack constant weights are not counted.
      wrong: whether an op is computed wrongly.
      adapter: the Vulkan device.
    """

    error: str
    refusals: tuple[tuple[str, str], ...]
    taken: int | None
    wrong: bool
    adapter: str
    no_device: bool = False


def by() -> str:
    return f"LiteRT {importlib.metadata.version('ai-edge-litert')} on the GPU"


def missing() -> str | None:
    if sys.platform != "linux":
        return None  # the system brings Metal or Direct3D
    try:
        ctypes.CDLL("libvulkan.so.1")
    except OSError:
        return INSTALL
    chosen = any(os.environ.get(name) for name in CHOICES)
    drivers = SWIFTSHADER.is_file() or any(next(Path(place).glob("*.json"), None) for place in DRIVERS)
    return None if chosen or drivers else INSTALL


def environments() -> list[dict[str, str]]:
    """What to try in turn: the Vulkan driver that is configured here, then SwiftShader."""
    current = dict(os.environ)
    if any(current.get(name) for name in CHOICES) or not SWIFTSHADER.is_file():
        return [current]
    drivers = any(next(Path(place).glob("*.json"), None) for place in DRIVERS)
    swiftshader = {**current, "VK_ICD_FILENAMES": str(SWIFTSHADER)}
    return [current, swiftshader] if drivers else [swiftshader]


def compile_files(files: Sequence[Path]) -> list[Reply]:
    """One reply per file; a file that ends the process has that as its error."""
    replies: list[Reply] = []
    for environment in environments():
        replies = []
        while len(replies) < len(files):
            replies += _compile(files[len(replies) :], environment)
            if replies[-1].no_device:
                break
        if not replies or not replies[-1].no_device:
            break
    return replies + replies[-1:] * (len(files) - len(replies))


def _compile(files: Sequence[Path], environment: dict[str, str]) -> list[Reply]:
    """Replies to the first files, up to one that ends the process."""
    try:
        ended, end = _worker(["compile", *map(str, files)], environment), ""
    except NotEnded as late:
        ended, end = late.so_far, f"its process {late}"
    ends = [json.loads(line)["error"] for line in ended.stdout.decode().splitlines() if line.startswith("{")]
    logs = [part.partition("\n")[2] for part in re.split(r"^@@ ", ended.err, flags=re.MULTILINE)[1:]]
    replies = [parse(end, log) for end, log in zip(ends, logs, strict=False)]
    if len(replies) < len(files) and not (replies and replies[-1].no_device):
        end = end or f"its process ended with {how_it_ended(ended.code)}"
        replies.append(parse(end, logs[len(replies)] if len(logs) > len(replies) else ended.err))
    return replies


def _worker(arguments: Sequence[str], environment: dict[str, str]) -> Ended:
    """Runs ``gpu_worker`` to its end; raises NotEnded."""
    return run([sys.executable, str(WORKER), *arguments], TIMEOUT_SECONDS, env=environment)


def parse(error: str, log: str) -> Reply:
    """``error``: how the file's compilation ended, empty for a success; ``log``: LiteRT's standard error meanwhile."""
    refusals, taken, listing = [], None, False
    for line in log.splitlines():
        count = TAKEN.match(line)
        if "operations are not supported by GPU delegate" in line:
            listing = True
        elif count:
            taken, listing = 0 if count[1] == "No" else int(count[1]), False
        elif listing and (refusal := REFUSAL.match(line)):
            refusals.append((refusal[1], refusal[2].strip().rstrip(".")))
    adapter = re.search(r"Selected adapter: (.*?), arch=", log)
    return Reply(
        error=_reason(error, log) if error else "",
        refusals=tuple(refusals),
        taken=taken,
        wrong=WRONG in log,
        adapter=adapter[1] if adapter else "",
        no_device=bool(error) and any(text in log for text in NO_DEVICE),
    )


def _reason(error: str, log: str) -> str:
    """The runtime's own sentence, else how it ended."""
    errors = [
        line.partition("ERROR:")[2].strip()
        for line in log.splitlines()
        if line.startswith("ERROR:") and "operations are not supported" not in line and "[" not in line
    ]
    last = error.splitlines()[-1].lstrip("└ ").strip()
    return f"{errors[0].rstrip('.')} ({last})" if errors else last


AskFiles = Callable[[Sequence[Path]], list[Reply]]


def ask_with(rules: Rules) -> Callable[[Path, Graph], Answer]:
    """Asks the accelerator; ``rules`` decide which partition it keeps where it keeps one only."""

    def ask(file: Path, graph: Graph) -> Answer:
        return answer(file, graph, rules, compile_files, by())

    return ask


def answer(file: Path, graph: Graph, rules: Rules, ask_files: AskFiles, name: str) -> Answer:
    """A verdict for each op. ``ask_files`` compiles files; ``name`` is the runtime and its version, for the notes."""
    reply = ask_files([file])[0]
    if reply.no_device:
        return Answer(None, f"{name} finds no Vulkan device: run `{INSTALL}`")
    note = f"{name}, {reply.adapter}" if reply.adapter else name
    if reply.error and reply.taken is None:
        return Answer(None, f"{note}, does not compile the file: {reply.error}")
    if reply.taken is None and not reply.wrong:
        return Answer(tuple(Verdict(op.index, "accelerated", "", name, name) for op in graph.ops), note)
    reasons = refused_ops(file, graph, reply, ask_files)
    alone = tuple(
        Verdict(op.index, "falls back", reasons[op.index], name, name)
        if op.index in reasons
        else Verdict(op.index, "accelerated", "", name, name)
        for op in graph.ops
    )
    if reply.taken is None:  # all of it runs on the GPU, some of it wrongly
        return Answer(alone, note)
    verdicts = after_partitioning(graph, alone, rules)
    accelerated = sum(v.outcome == "accelerated" and not unpacks(graph.ops[v.op], graph) for v in verdicts)
    if accelerated == reply.taken:
        return Answer(verdicts, note)
    return Answer(None, f"{note}, takes {reply.taken} of {len(graph.ops)} ops; it does not report which")


def refused_ops(file: Path, graph: Graph, reply: Reply, ask_files: AskFiles) -> dict[int, str]:
    """Op index → why it does not run on the GPU, or runs wrongly. Ops of the kinds in question are compiled alone."""
    kinds = {name for name, _ in reply.refusals}
    if reply.wrong:
        kinds |= {*WEIGHTED, "FULLY_CONNECTED"}
    suspects = [op.index for op in graph.ops if op.name in kinds and not unpacks(op, graph)]
    reasons: dict[int, str] = {}
    with scratch_folder("gpu-") as scratch:
        files = []
        for index, data in excerpts(file.read_bytes(), graph, suspects).items():
            files.append(scratch / f"{index}.tflite")
            files[-1].write_bytes(data)
        for index, single in zip(suspects, ask_files(files) if files else [], strict=True):
            reason = next((why for name, why in single.refusals if name == graph.ops[index].name), "")
            if single.error or single.taken is not None:
                reasons[index] = reason or single.error or "left to the CPU"
            elif single.wrong:
                reasons[index] = "computed wrongly, without its stride; the accelerator warns of a shape mismatch only"
    return reasons


def infer(file: Path, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of ``file``, all of it on the GPU; raises CompilerError where that is not possible."""
    with scratch_folder("gpu-") as scratch:
        source, result = scratch / "in.npz", scratch / "out.npz"
        np.savez(source, *inputs)
        for environment in environments():
            try:
                ended = _worker(["infer", str(file), str(source), str(result)], environment)
            except NotEnded as late:
                raise CompilerError(f"{by()}, running {file}, {late}.") from None
            if ended.code == 0:
                with np.load(result, allow_pickle=False) as arrays:
                    return [arrays[name] for name in arrays.files]
        how, why = how_it_ended(ended.code), why_it_failed(ended.err)
        raise CompilerError(f"{by()} did not run {file} ({how}). Its last message: {why}.")
