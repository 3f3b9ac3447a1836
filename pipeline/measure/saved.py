"""Saves measurements as files of the run."""

from __future__ import annotations

import json
import re

from pipeline.core.files import write_atomically
from pipeline.core.measurement import HeadsMeasurement, Measurement
from pipeline.core.run import Run


def slug(text: str) -> str:
    """``text`` as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text)


def save(run: Run, measurement: Measurement | HeadsMeasurement, name: str = "host") -> str:
    """Writes the measurement into the run under a new name; returns the path. ``name``: of the device."""
    stamp = measurement.when.replace(":", "").replace("-", "").partition("+")[0]
    kind = "bench" if isinstance(measurement, Measurement) else "heads"
    stem = f"{kind}-{measurement.target}-{stamp}" + ("" if name == "host" else f"-{slug(name)}")
    path, number = run.measurements / f"{stem}.json", 2
    while path.exists():
        path, number = path.with_name(f"{stem}-{number}.json"), number + 1
    write_atomically(path, (json.dumps(measurement.to_json(), indent=1) + "\n").encode())
    return str(path)
