"""This machine's CPU, in LiteRT with XNNPACK."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.devices.litert_worker import receive, send
from pipeline.nouns.device import Device, RunnerFacts
from pipeline.nouns.errors import ArtifactError
from pipeline.nouns.tflite import read

WORKER = Path(__file__).with_name("litert_worker.py")
FEATURES = (
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm",
    "sve",
)  # fmt: skip


class HostRunner:
    """A worker process that holds one artifact."""

    def __init__(self, artifact: Path, threads: int) -> None:
        try:
            read(artifact.read_bytes(), str(artifact))
        except OSError as error:
            raise ArtifactError(f"{artifact} cannot be read ({error.strerror}): convert the network again.") from None
        self.artifact = artifact
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), str(artifact), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        assert self._process.stdin and self._process.stdout
        self._in, self._out = self._process.stdin, self._process.stdout
        line = self._out.readline()
        if not line:
            raise self._died()
        self.facts = RunnerFacts(**json.loads(line))

    def _ask(self, request: str, array: np.ndarray | None = None) -> np.ndarray:
        try:
            self._in.write(request.encode() + b"\n")
            if array is not None:
                send(self._in, array)
            self._in.flush()
            return receive(self._out)
        except (OSError, EOFError, ValueError):
            raise self._died() from None

    def _died(self) -> ArtifactError:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._errors.seek(0)
        said = [x for x in self._errors.read().decode("utf-8", "replace").splitlines() if x.strip()]
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        why = said[-1].strip() if said else "it said nothing"
        return ArtifactError(f"LiteRT cannot run {self.artifact} ({how}; {why}): convert the network again.")

    def infer(self, image: np.ndarray) -> np.ndarray:
        if image.dtype.name != self.facts.input_dtype:
            raise ArtifactError(f"{self.artifact} takes {self.facts.input_dtype}, it was given {image.dtype.name}.")
        return self._ask("infer", image)

    def time_ms(self, runs: int) -> np.ndarray:
        return self._ask(f"time {runs}")

    def peak_memory_bytes(self) -> int:
        return int(self._ask("memory")[0])

    def close(self) -> None:
        self._in.close()
        self._process.wait()
        self._out.close()
        self._errors.close()

    def __enter__(self) -> HostRunner:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        with contextlib.suppress(OSError):
            self.close()


def describe() -> dict[str, Any]:
    """CPU, its features that matter for int8, cores, load, system and runtime."""
    cpu: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            cpu.setdefault(key.strip(), value.strip())
    except OSError:
        pass
    flags = (cpu.get("flags") or cpu.get("Features") or "").split()
    return {
        "device": "host",
        "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
        "cpu_features": [f for f in FEATURES if f in flags],
        "cores": cores(),
        "load_average_1min": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "runtime": f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}, XNNPACK",
    }


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


HOST = Device(
    name="host",
    title="this machine's CPU, LiteRT with XNNPACK",
    rank=0,
    find=lambda: f"{platform.machine()}, {cores()} cores",
    describe=describe,
    open=HostRunner,
)
