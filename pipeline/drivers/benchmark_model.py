"""Drives LiteRT's benchmark_model on a machine that is reached through a shell: over adb, ssh, or anything like them.

Its flags: tflite/tools/benchmark/README.md and tflite/tools/delegates/README.md. One call is one process, which loads
the file anew; each inference for its output is such a call, since the tool takes one input.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import posixpath
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from pipeline.core.device import XNNPACK, Block, RunnerFacts, RunnerOptions
from pipeline.core.errors import ArtifactError, DeviceError, SegquantError
from pipeline.core.files import open_regular
from pipeline.core.keeper import KEEPER, scratch_folder
from pipeline.drivers.benchmark_report import last_words, parse
from pipeline.tflite.read import read

BINARY = "benchmark_model"
LONGEST_SECONDS = 300
"""Of one timed run, and of its warm-up: the tool starts no further inference then."""
INFERENCE_SECONDS = 120
"""What loading the file and one inference may take at most."""
BATCH_BYTES = 64 << 20
BLOCK_MS = 2000.0
"""Each block is a process of its own, which warms up for half a second."""
BATCH_IMAGES = 32
CLOCKS_APART_SECONDS = 60
"""A device's clock may run differently, but not by more."""
ONCE = ("--num_runs=1", "--min_secs=0", "--warmup_min_secs=0")
MACHINES = {
    3: ("x86", "i686", "i386"),
    40: ("armeabi-v7a", "armeabi", "armv7l", "armv6l"),
    62: ("x86_64",),
    183: ("arm64-v8a", "aarch64"),
    243: ("riscv64",),
}
"""ELF's e_machine → how Android's ABI list and `uname -m` call it."""


class CommandResult(NamedTuple):
    """A command's exit code, and its standard output and error together."""

    code: int
    output: str


class Transport(Protocol):
    """A machine with a POSIX shell. All three raise DeviceError where the machine is gone, or is silent for too long.

    Attributes:
      name: as the user called it, for messages: 'android:SERIAL', 'ssh:HOST'.
    """

    @property
    def name(self) -> str: ...

    def run(self, words: Sequence[str], timeout_seconds: float = 60) -> CommandResult:
        """Runs a program with these arguments, which no shell splits or expands. It may run twice."""
        ...

    def command(self, words: Sequence[str]) -> list[str] | None:
        """What runs such a program from here, after this process has ended; None where all there goes with it."""
        ...

    def push(self, local: Path, remote: str) -> None:
        """Copies a file, or a folder and all in it, to a path that is not there yet."""
        ...

    def pull(self, remote: str, local: Path) -> None:
        """The same in the other direction."""
        ...


MAKE_FOLDER = """
for place in /data/local/tmp "${TMPDIR:-/tmp}"; do
    find "$place" -maxdepth 1 -name 'segquant.*' -mtime +6 -exec rm -rf {} + 2>/dev/null
    made="$place/$1"
    { mkdir -m 700 "$made" || [ -O "$made" ]; } && cd "$made" && pwd -P && exit 0
done
exit 1
"""
"""$1: its name, which nothing else has; it may be repeated. What stayed on a device because it was unplugged is removed
a week later."""
REMOVE_FOLDER = """
for place in /data/local/tmp "${TMPDIR:-/tmp}"; do
    made=$(cd "$place/$1" 2>/dev/null && pwd -P) || continue
    for process in /proc/[0-9]*; do
        [ "$(readlink "$process/cwd")" = "$made" ] && kill -9 "${process#/proc/}"
    done 2>/dev/null
    rm -rf "$made"
done
"""
CALL = 'cd "$1" && shift && exec "$@"'
CALL_EACH = """
cd "$1" && at=$2 && shift 2 && mkdir -p "$at/out" || exit 1
for input in "$at"/in/*; do
    "$@" "--input_layer_value_files=image:$input" "--output_filepath=$at/out/${input##*/}" >"$at/log" 2>&1 ||
        { code=$?; cat "$at/log"; exit $code; }
done
cat "$at/log"
cp "$input" "${at%/*}/last"
"""


def shell(script: str, *arguments: str) -> list[str]:
    return ["sh", "-c", script, "sh", *arguments]


class RemoteFolder:
    """A private folder on a machine. Closing it ends what runs in it and removes it."""

    def __init__(self, machine: Transport) -> None:
        self.machine, self._name = machine, f"segquant.{secrets.token_hex(6)}"
        words = machine.command(self._removal)
        # Before it is there: this process may be ended while it is made.
        self._kept = KEEPER.keep("command", json.dumps(words)) if words else None
        try:
            ran = machine.run(shell(MAKE_FOLDER, self._name))
            self.path = (ran.output.strip().splitlines() or [""])[-1]
            if ran.code or not posixpath.isabs(self.path) or posixpath.basename(self.path) != self._name:
                raise explained(machine.name, ran.code or 1, ran.output, "a private folder cannot be made there")
        except BaseException:
            self.close()
            raise

    @property
    def _removal(self) -> list[str]:
        return shell(REMOVE_FOLDER, self._name)

    def close(self) -> None:
        with contextlib.suppress(DeviceError):  # the machine is gone: nothing can be removed
            self.machine.run(self._removal, 20)
            if self._kept is not None:
                KEEPER.release(self._kept)


class Installed:
    """benchmark_model in a folder of its own on a machine, checked to run there. ``close`` removes it."""

    def __init__(self, machine: Transport, binary: Path, runs: Sequence[str], library: str | None = None) -> None:
        """``runs``: the names of what the machine runs, such as ('arm64-v8a', 'armeabi-v7a'), or of `uname -m`.

        ``library``: an external delegate's, on the machine. Raises DeviceError.
        """
        check_architecture(machine.name, binary, runs)
        self.machine, self.library, self.opened = machine, library, 0
        self.folder = RemoteFolder(machine)
        try:
            machine.push(binary, posixpath.join(self.folder.path, BINARY))
            machine.run(["chmod", "755", posixpath.join(self.folder.path, BINARY)])
            ran = self.call([])
            if "STARTING!" not in ran.output:  # its first word in every build, before it asks for --graph
                raise explained(machine.name, ran.code, ran.output, f"{binary} does not run there as benchmark_model")
            self.taskset = machine.run(shell("command -v taskset")).code == 0
        except BaseException:
            self.close()
            raise

    def call(self, flags: Sequence[str], timeout_seconds: float = 60, prefix: Sequence[str] = ()) -> CommandResult:
        words = shell(CALL, self.folder.path, *prefix, f"./{BINARY}", *flags)
        return self.machine.run(words, timeout_seconds)

    def open(self, file: Path, options: RunnerOptions, fastest: Sequence[int] = ()) -> BenchmarkRunner:
        """``fastest``: the machine's cores, the fastest first, for ``options.pinned``."""
        self.opened += 1
        return BenchmarkRunner(self, str(self.opened), file, options, fastest)

    def close(self) -> None:
        self.folder.close()


class BenchmarkRunner:
    """One artifact beside benchmark_model: a Runner. Each timing is the tool's report on a process of its own."""

    def __init__(self, tool: Installed, at: str, file: Path, options: RunnerOptions, fastest: Sequence[int]) -> None:
        try:
            data = file.read_bytes()
        except OSError as error:
            raise ArtifactError(f"{file} cannot be read ({error.strerror}): convert the network again.") from None
        graph = read(data, str(file))
        self.tool, self.at, self.file = tool, at, file
        self.source, self.result = graph.input_tensor, graph.output_tensor
        self._written = sum(graph.tensors[i].activation_bytes for i in graph.outputs)
        bytes_per_image = self.source.activation_bytes + self._written
        self._at_once = max(1, min(BATCH_IMAGES, BATCH_BYTES // max(1, bytes_per_image)))
        self._batches = 0
        cores = fastest[: options.threads] if options.pinned and tool.taskset else ()
        self._prefix = ["taskset", f"{sum(1 << core for core in cores):x}"] if cores else []
        self._flags = [
            f"--graph={at}/model.tflite",
            f"--num_threads={options.threads}",
            "--input_layer=image",
            f"--input_layer_shape={','.join(map(str, self.source.shape))}",
            f"--external_delegate_path={tool.library}" if tool.library else f"--use_{options.delegate or XNNPACK}=true",
        ]
        self._last = f"--input_layer_value_files=image:{at}/last"
        try:
            with scratch_folder() as scratch:
                (scratch / "model.tflite").write_bytes(data)
                (scratch / "last").write_bytes(bytes(self.source.activation_bytes))
                tool.machine.push(scratch, self._path(at))
            output = self._bench(
                [*ONCE, "--warmup_runs=1", "--report_peak_memory_footprint=true"], 2 * INFERENCE_SECONDS
            )
            report = parse(output)
        except BaseException:
            self.close()
            raise
        self._peak_memory_bytes = report.peak_memory_bytes
        self.facts = RunnerFacts(
            input_dtype=self.source.dtype,
            output_dtype=self.result.dtype,
            output_scale=self.result.scale[0] if self.result.scale else 0.0,
            output_zero_point=self.result.zero_point[0] if self.result.zero_point else 0,
            init_ms=report.init_ms,
            first_ms=report.first_ms,
            runs_on=report.runs_on,
            block_ms=BLOCK_MS,
            block_is_a_start=True,
        )

    def _path(self, *parts: str) -> str:
        return posixpath.join(self.tool.folder.path, *parts)

    def _bench(self, flags: Sequence[str], timeout_seconds: float) -> str:
        ran = self.tool.call([*self._flags, self._last, *flags], timeout_seconds, self._prefix)
        if ran.code:
            raise self._failed(ran)
        return ran.output

    def _failed(self, ran: CommandResult) -> SegquantError:
        return explained(self.tool.machine.name, ran.code, ran.output, f"benchmark_model cannot run {self.file}")

    def infer(self, image: np.ndarray) -> np.ndarray:
        return next(iter(self.infer_many([image])))

    def infer_many(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """One transfer, one command and one transfer back for several images at once."""
        rest = iter(images)
        while batch := list(itertools.islice(rest, self._at_once)):
            yield from self._infer(batch)

    def _infer(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        self._batches += 1
        machine, at = self.tool.machine, f"{self.at}/{self._batches}"
        with scratch_folder() as scratch:
            inputs, outputs = scratch / "given" / "in", scratch / "made"
            inputs.mkdir(parents=True)
            for i, image in enumerate(images):
                if image.dtype.name != self.source.dtype or image.shape != self.source.shape:
                    raise ArtifactError(
                        f"{self.file} takes {self.source.dtype} {list(self.source.shape)}, but got"
                        f" {image.dtype.name} {list(image.shape)}."
                    )
                (inputs / f"{i:06}").write_bytes(image.tobytes())
            try:
                machine.push(inputs.parent, self._path(at))
                words = [*self._prefix, f"./{BINARY}", *self._flags, *ONCE, "--warmup_runs=0"]
                command = shell(CALL_EACH, self.tool.folder.path, at, *words)
                ran = machine.run(command, INFERENCE_SECONDS * (1 + len(images)))
                if ran.code:
                    raise self._failed(ran)
                if "Unconsumed cmdline flags" in ran.output and "output_filepath" in ran.output:
                    raise DeviceError(
                        "this benchmark_model is older than its option --output_filepath: give a newer one with"
                        " --benchmark-binary; this one can only time."
                    )
                machine.pull(self._path(at, "out"), outputs)
            finally:
                with contextlib.suppress(DeviceError):
                    machine.run(["rm", "-rf", self._path(at)], 20)
            return [self._output(outputs / f"{i:06}") for i in range(len(images))]

    def _output(self, file: Path) -> np.ndarray:
        """The tool writes the bytes of all output tensors one after another, and does not notice a full disk."""
        regular = file.is_file() and not file.is_symlink()  # a link could lead to any file here
        written_bytes = file.stat().st_size if regular else 0
        if written_bytes != self._written:
            raise DeviceError(
                f"{self.tool.machine.name} wrote {written_bytes} bytes of an output of {self._written}: is its disk"
                " full? Free some space there and repeat the command."
            )
        data = file.read_bytes()
        return np.frombuffer(data, self.result.dtype, self.result.elements).reshape(self.result.shape)

    def time(self, runs: int) -> Block:
        """Half a second of warm-up, then ``runs`` inferences; fewer where they take over five minutes."""
        flags = (f"--num_runs={runs}", "--min_secs=0", f"--max_secs={LONGEST_SECONDS}", "--warmup_min_secs=0.5")
        began = time.monotonic()
        report = parse(self._bench(flags, 2 * (LONGEST_SECONDS + INFERENCE_SECONDS)))
        told_seconds, passed_seconds = report.runs * report.summary_ms["mean"] / 1000, time.monotonic() - began
        if report.runs > runs or told_seconds > passed_seconds + CLOCKS_APART_SECONDS:
            raise DeviceError(
                f"{self.tool.machine.name} reports {report.runs} inferences in {told_seconds:.0f} s, but was asked for"
                f" {runs} and took {passed_seconds:.0f} s: its clock may have been set meanwhile. Repeat the command."
            )
        return Block(report.runs, summary_ms=report.summary_ms)

    def restart(self) -> None:
        pass

    def peak_memory_bytes(self) -> int | None:
        return self._peak_memory_bytes

    def close(self) -> None:
        with contextlib.suppress(DeviceError):
            self.tool.machine.run(["rm", "-rf", self._path(self.at)], 20)


def check_architecture(name: str, binary: Path, runs: Sequence[str]) -> None:
    """Raises DeviceError for a file that is not there, or a program of another processor; a script passes."""
    try:
        with open_regular(binary, sys.maxsize) as file:
            head = file.read(20)
    except OSError as error:
        raise DeviceError(f"{binary} cannot be read ({error.strerror}): give the path of benchmark_model.") from None
    if head[:4] != b"\x7fELF":
        return
    made_for = MACHINES.get(int.from_bytes(head[18:20], "little"), ("another processor",))
    if not set(made_for) & set(runs):
        raise DeviceError(
            f"{binary} is a program for {made_for[0]}, and {name} runs {', '.join(runs)}: give a benchmark_model that"
            " was built for it."
        )


ADVICE = (
    (
        ("No space left on device",),
        DeviceError,
        "the disk of {name} is full: free some space there and repeat the command",
    ),
    (
        ("Exec format error", "not executable:", "cannot execute binary"),
        DeviceError,
        "{what}: it is a program for another processor; give a benchmark_model that was built for {name}",
    ),
    (
        (
            "unresolved custom op",
            "Didn't find op",
            "Failed to load model",
            "Failed to initialize the interpreter",
            "Failed to apply",
            "Failed to allocate tensors",
        ),
        ArtifactError,
        "{what}: LiteRT on {name} refuses it ({last}); `inspect FILE --target T` says which op and why",
    ),
    (("Permission denied", "Read-only file system"), DeviceError, "{what}: {name} does not allow it ({last})"),
)
"""What a device says → the error and its sentence. LiteRT's own words: benchmark_tflite_model.cc and core/subgraph.cc;
those of a shell: dash, bash, and mksh, which is Android's."""


def explained(name: str, code: int, output: str, what: str) -> SegquantError:
    """The error of a command that failed on the machine ``name``."""
    for words, kind, sentence in ADVICE:
        matching = [line.strip() for line in output.splitlines() if any(word in line for word in words)]
        if matching:
            return kind(sentence.format(name=name, what=what, last=matching[-1][:200]) + ".")
    if code == 127:
        return DeviceError(f"{what}: it was built for another system than {name}{last_words(output)}.")
    if code > 128:
        return DeviceError(f"{what}: it crashed on {name} (signal {code - 128}){last_words(output)}.")
    return DeviceError(f"{what}: exit code {code} on {name}{last_words(output)}.")
