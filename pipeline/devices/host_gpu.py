"""This machine's GPU, in LiteRT's accelerator; SwiftShader, Vulkan on the CPU, where there is no other."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from pipeline.compilers.gpu_accelerator import NO_DEVICE, environments, missing
from pipeline.core.device import Device, DeviceOptions, RunnerOptions
from pipeline.core.errors import ArtifactError, DeviceError, SegquantError
from pipeline.devices.host import WORKER
from pipeline.drivers import litert_worker
from pipeline.drivers.worker import WorkerRunner, check_readable

ADAPTER = re.compile(r"Selected adapter: (.*?)(?:, arch=|$)", re.MULTILINE)

IN_SOFTWARE = "SwiftShader computes on the CPU: these times say nothing about a GPU"


class HostGpu:
    identity = "host"  # SwiftShader computes on the CPU, and a real GPU's driver needs it too

    def __init__(self) -> None:
        self.adapter: str | None = None

    def describe(self) -> dict[str, Any]:
        facts = {"device": "host-gpu", **litert_worker.describe(), "gpu": self.adapter}
        return facts | ({"caution": IN_SOFTWARE} if "SwiftShader" in str(self.adapter) else {})

    def state(self) -> dict[str, Any]:
        return litert_worker.state()

    def open(self, file: Path, options: RunnerOptions) -> WorkerRunner:
        """The first Vulkan driver that can do it runs the file; raises ArtifactError where an op is left to the CPU."""
        check_readable(file)
        command = [sys.executable, str(WORKER), "run", str(file), json.dumps({"threads": 1, "accelerator": "gpu"})]
        tried = environments()
        for environment in tried[:-1]:
            with contextlib.suppress(DeviceError):
                return self._opened(file, command, environment)
        return self._opened(file, command, tried[-1])

    def _opened(self, file: Path, command: list[str], environment: dict[str, str]) -> WorkerRunner:
        def explain(code: int, log: str) -> SegquantError | None:
            if any(words in log for words in NO_DEVICE):
                return DeviceError(f"host-gpu: Vulkan finds no device here: {missing() or 'install its driver'}.")
            refused = [line for line in log.splitlines() if re.match(r"^[A-Z][A-Z0-9_]+: ?", line)]
            if "not supported by GPU" in log:
                kinds = ", ".join(dict.fromkeys(line.partition(":")[0] for line in refused if line[:5] != "ERROR"))
                return ArtifactError(
                    f"the GPU refuses {kinds or 'an op'} of {file}: `python cli.py inspect {file} --target gpu` says"
                    " which and why."
                )
            return None

        runner = WorkerRunner(file, command, explain, environment)
        if match := ADAPTER.search(runner.log()):
            self.adapter = match[1]
        return runner

    def close(self) -> None:
        pass


def connect(selector: str, settings: DeviceOptions) -> HostGpu:
    if command := missing():
        raise DeviceError(f"device host-gpu is not attached: Vulkan is not installed, run `{command}`.")
    return HostGpu()


HOST_GPU = Device(
    name="host-gpu",
    aliases=("gpu",),
    title="this machine's GPU, LiteRT's accelerator over Vulkan, or SwiftShader",
    rank=-1,  # SwiftShader is slower than the CPU it runs on: only by name
    find=lambda: None if missing() else "a Vulkan driver",
    missing=lambda: f"install Vulkan with `{missing()}`",
    connect=connect,
)
