"""What each run of a folder holds, as `list --runs` tells it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from pathlib import Path

from pipeline.core.errors import RunError
from pipeline.core.files import newest_first
from pipeline.core.from_json import from_json
from pipeline.core.json_file import BadJson, load_as
from pipeline.core.measurement import Measurement
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
        except (RunError, OSError) as error:
            broken.append(RunSummary(file.parent, None, f"broken: {error}"))
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
    for file in newest_first(run.measurements.glob("bench-*.json")):
        with contextlib.suppress(BadJson):
            return _measured(load_as(file, functools.partial(from_json, Measurement)))
    return ""


def _measured(measurement: Measurement) -> str:
    """'cpu: 71.56 %, 2.51 ms on host'."""
    score, latency = measurement.artifact.score, measurement.artifact.latency
    figures = [f"{score.miou_percent:.2f} %"] if score else []
    if latency:
        figures.append(f"{latency.median_ms:.2f} ms on {measurement.machine.get('device') or 'its device'}")
    return f"{measurement.target}: {', '.join(figures)}"
