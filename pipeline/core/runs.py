"""What each run of a folder holds, as `list --runs` tells it."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from pipeline.core.errors import RunError
from pipeline.core.run import FILE, RUNS, Run, open_run
from pipeline.core.training import Training

REFERENCE = "float32"
"""The folder of the float parent's files, which are for no target."""


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """One run.

    Attributes:
      run: None for a broken one.
      state: which trainings are finished or began; why it is broken.
      artifacts: target → how many .tflite files lie in its folder, compiled twins included.
      measured: the newest measurement in words; '' where there is none.
    """

    path: Path
    run: Run | None
    state: str
    artifacts: tuple[tuple[str, int], ...] = ()
    measured: str = ""


def summaries(root: Path = RUNS) -> list[RunSummary]:
    """The runs in ``root``, the newest first, and then those that cannot be opened."""
    good: list[Run] = []
    broken = []
    for file in sorted(root.glob(f"*/{FILE}")):
        try:
            good.append(open_run(file.parent))
        except RunError as error:
            broken.append(RunSummary(file.parent, None, f"broken: {error.message}"))
    good.sort(key=lambda run: (run.config.created, run.path.name), reverse=True)
    return [*map(summary, good), *broken]


def summary(run: Run) -> RunSummary:
    folders = sorted(folder for folder in run.path.glob("artifacts/*") if folder.is_dir() and folder.name != REFERENCE)
    counts = ((folder.name, len(list(folder.glob("*.tflite")))) for folder in folders)
    return RunSummary(run.path, run, _state(run), tuple(pair for pair in counts if pair[1]), _newest_measurement(run))


def _state(run: Run) -> str:
    states = [_training("float", run.float_training), _training("QAT", run.qat_training)]
    return ", ".join(state for state in states if state) or "nothing trained"


def _training(name: str, training: Training) -> str:
    """'float 71.54 %'; '' where it never began."""
    try:
        if not training.trained:
            return f"{name} began" if training.settings() is not None else ""
        if name == "float":
            percent, kept = training.float_result().best_val_miou_percent, ""
        else:
            result = training.qat_result()
            percent, kept = result.val_miou_percent, " (start kept)" if result.kept_step == 0 else ""
        return f"{name} {percent:.2f} %{kept}"
    except RunError:
        return f"{name} broken"


def _newest_measurement(run: Run) -> str:
    """In words the newest `bench` that can be read; "" where there is none."""
    files = [(file.stat().st_mtime_ns, file) for file in run.measurements.glob("bench-*.json")]
    for _, file in sorted(files, reverse=True):
        try:
            return _measured(json.loads(file.read_text("utf-8")))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
    return ""


def _measured(data: dict[str, Any]) -> str:
    """'cpu: 71.56 %, 2.51 ms on host'."""
    target, score, latency = data["target"], data["artifact"]["score"], data["artifact"]["latency"]
    figures = [f"{float(score['miou_percent']):.2f} %"] if score else []
    if latency and math.isfinite(latency["median_ms"]):
        figures.append(f"{latency['median_ms']:.2f} ms on {data['machine'].get('device') or 'its device'}")
    return f"{target}: {', '.join(figures)}"
