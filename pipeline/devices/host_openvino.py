"""This machine's CPU, in OpenVINO: its own files, and .tflite files as it reads them."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

from pipeline.compilers.openvino_ir import by, missing
from pipeline.core.device import Device, DeviceOptions, RunnerOptions
from pipeline.core.errors import ArtifactError, SegquantError
from pipeline.drivers import litert_worker
from pipeline.drivers.worker import WorkerRunner, settings_of, with_package

WORKER = Path(__file__).parents[1] / "drivers" / "openvino_worker.py"


class HostOpenVino:
    identity = "host"

    def describe(self) -> dict[str, Any]:
        return {"device": "host-openvino", **litert_worker.describe(), "runtime": by()}

    def state(self) -> dict[str, Any]:
        return litert_worker.state()

    def open(self, file: Path, options: RunnerOptions) -> WorkerRunner:
        """Raises ArtifactError with OpenVINO's own words for a file that it refuses."""

        def explain(code: int, log: str) -> SegquantError | None:
            last = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "it printed nothing")
            return ArtifactError(
                f"OpenVINO does not run {file} ({last}): `python cli.py inspect` with --target openvino-ir says more of"
                " a .tflite file."
            )

        command = [sys.executable, "-P", str(WORKER), str(file), json.dumps(settings_of(options))]
        return WorkerRunner(file, command, explain, with_package())

    def close(self) -> None:
        pass


def connect(selector: str, settings: DeviceOptions) -> HostOpenVino:
    return HostOpenVino()


HOST_OPENVINO = Device(
    name="host-openvino",
    title="this machine's CPU, OpenVINO in place of LiteRT",
    rank=-1,  # for the target openvino-ir: only by name
    find=lambda: None if missing() else f"{platform.machine()}, {by()}",
    missing=lambda: f"install OpenVINO with {missing()}",
    connect=connect,
    runs_compiled=("openvino-ir",),
    makes_masks=True,
)
