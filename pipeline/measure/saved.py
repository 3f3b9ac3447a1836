"""Saves measurements as files of the run."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import Any

from pipeline.core.contained import check_contained
from pipeline.core.files import sha256, write_unused
from pipeline.core.measurement import HeadsMeasurement, Measurement
from pipeline.core.run import FILE, Run

BENCH, HEADS, INSPECT, PROFILE, AGREE, GATE = "bench", "heads", "inspect", "profile", "agree", "gate"
"""What a file in measurements/ begins with: the command that wrote it, but for `bench --heads`."""


def slug(text: str) -> str:
    """``text`` as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text)


def save(run: Run, measurement: Measurement | HeadsMeasurement, name: str = "host") -> str:
    """Writes the measurement into the run under a new name; returns the path. ``name``: of the device."""
    stamp = measurement.when.replace(":", "").replace("-", "").partition("+")[0]
    kind = BENCH if isinstance(measurement, Measurement) else HEADS
    stem = f"{kind}-{measurement.target}-{stamp}" + ("" if name == "host" else f"-{slug(name)}")
    return str(_write(run.measurements, stem, measurement.to_json()))


def keep(kind: str, file: Path, answer: dict[str, Any], target: str | None = None) -> None:
    """Writes what a command found out about a file of a run into that run; of a file that is in none, nothing.

    ``target``: that was asked; None for the file's own. Raises RunError where a link leads out of the run.
    """
    folder = file.resolve().parents[2:3]
    if not folder or not (folder[0] / FILE).is_file():
        return
    check_contained(folder[0])
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
    stem = f"{kind}-{slug(target or file.parent.name)}-{stamp}"
    _write(folder[0] / "measurements", stem, {"sha256": sha256(file), **answer})


def _write(folder: Path, stem: str, data: dict[str, Any]) -> Path:
    return write_unused(folder, stem, ".json", (json.dumps(data, indent=1) + "\n").encode())
