"""This machine's CPU, in LiteRT with XNNPACK."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

from pipeline.core.device import Device, DeviceOptions, RunnerOptions
from pipeline.core.mask import Grid
from pipeline.drivers import litert_worker
from pipeline.drivers.worker import WorkerRunner, check_readable, settings_of, with_package

WORKER = Path(litert_worker.__file__)


class HostRunner(WorkerRunner):
    """A worker process on this machine."""

    def __init__(self, artifact: Path, threads: int, pinned: bool = False, mask: Grid | None = None) -> None:
        check_readable(artifact)
        settings = json.dumps(settings_of(RunnerOptions(threads, pinned=pinned, mask=mask)))
        command = [sys.executable, str(WORKER), "run", str(artifact), settings]
        super().__init__(artifact, command, environment=with_package() if mask else None)


class Host:
    identity = "host"

    def describe(self) -> dict[str, Any]:
        return {"device": "host", **litert_worker.describe()}

    def state(self) -> dict[str, Any]:
        return litert_worker.state()

    def open(self, file: Path, options: RunnerOptions) -> HostRunner:
        return HostRunner(file, options.threads, options.pinned, options.mask)

    def close(self) -> None:
        pass


def connect(selector: str, settings: DeviceOptions) -> Host:
    return Host()


HOST = Device(
    name="host",
    aliases=("cpu", "localhost"),
    title="this machine's CPU, LiteRT with XNNPACK",
    rank=0,
    find=lambda: f"{platform.machine()}, {len(litert_worker.cores())} cores",
    connect=connect,
    makes_masks=True,
)
