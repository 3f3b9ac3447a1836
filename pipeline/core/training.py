"""The folder of one training (a run's float/, qat/ or control/): the names and the meaning of its files.

settings.json                what it is to be; written before it begins
ranges.json                  of QAT: the calibrated ranges that it started from, and how they were found
history.jsonl                a line per scoring
best.weights.h5, last.weights.h5
candidate.weights.h5         of QAT, while it trains: the best checkpoint so far
result.json                  what came of it; written last: a training is finished where it is there
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pipeline.core.calibration import CalibrationRecord
from pipeline.core.errors import RunError
from pipeline.core.files import write_atomically
from pipeline.core.ranges import Ranges, ranges_from_json, ranges_to_json

SETTINGS, RESULT, RANGES, HISTORY = "settings.json", "result.json", "ranges.json", "history.jsonl"
Noun = TypeVar("Noun")


@dataclasses.dataclass(frozen=True)
class HistoryEntry:
    """A scoring on the way: after which step, the mean loss since the one before, and the seconds of training so far.

    ``miou_percent`` is None where there was nothing to score on.
    """

    step: int
    loss: float | None
    miou_percent: float | None
    seconds: float

    @staticmethod
    def from_json(data: Any) -> HistoryEntry:
        """Raises KeyError, TypeError and ValueError for what is none."""
        percent = data["val_miou_percent" if "val_miou_percent" in data else "miou_percent"]  # the first version's
        return HistoryEntry(int(data["step"]), data["loss"], percent, float(data["seconds"]))


@dataclasses.dataclass(frozen=True)
class FloatResult:
    """What came of a float training, or of weights that were taken over.

    Attributes:
      best_val_miou_percent: of the weights that are kept; the others are None where they were trained elsewhere.
      step_seconds: median time of a step.
      parent, parent_sha256: the file that was taken over.
    """

    best_val_miou_percent: float
    last_val_miou_percent: float | None = None
    seconds: float | None = None
    step_seconds: float | None = None
    history: tuple[HistoryEntry, ...] = ()
    parent: str | None = None
    parent_sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        said = dataclasses.asdict(self)
        elsewhere = ("best_val_miou_percent", "parent", "parent_sha256")
        return {k: v for k, v in said.items() if (k in elsewhere if self.parent else k[:6] != "parent")}


@dataclasses.dataclass(frozen=True)
class QatResult:
    """What came of quantization-aware training, or of its control in float.

    Attributes:
      val_miou_percent: of the file that the kept weights convert to, on the validation images.
      kept_step: 0 where the start was kept.
      held_out_start_percent, held_out_best_percent, best_step: on the images held out; None without such.
      gain_points, gain_standard_error_points, gain_needed_points: in mIoU there; None where no gain could be told from
        luck, and ``gain_not_judged`` says why.
      machine: on which it was trained.
    """

    val_miou_percent: float
    seconds: float
    kept_step: int | None = None
    held_out_start_percent: float | None = None
    held_out_best_percent: float | None = None
    best_step: int | None = None
    gain_points: float | None = None
    gain_standard_error_points: float | None = None
    gain_needed_points: float | None = None
    gain_not_judged: str | None = None
    held_out_against: str | None = None
    held_out_images: int | None = None
    step_seconds: float | None = None
    judge_seconds: float | None = None
    steps_per_epoch: int | None = None
    history: tuple[HistoryEntry, ...] = ()
    machine: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class StartingRanges:
    """The ranges that a quantization-aware training starts from, and how they were found."""

    ranges: Ranges
    calibration: CalibrationRecord


@dataclasses.dataclass(frozen=True)
class Training:
    """The files of one training. Reading raises RunError for one that is broken."""

    folder: Path

    @property
    def best(self) -> Path:
        return self.folder / "best.weights.h5"

    @property
    def last(self) -> Path:
        return self.folder / "last.weights.h5"

    @property
    def candidate(self) -> Path:
        """The best checkpoint so far, until it is known whether it becomes ``best`` or the start does: a training that
        is cut off between the two must find it again."""
        return self.folder / "candidate.weights.h5"

    @property
    def trained(self) -> bool:
        """Whether it is finished, and ``best`` is what came of it."""
        return (self.folder / RESULT).is_file()

    def check_trained(self, run: Path) -> None:
        """Raises RunError where it is not finished: the float network of the run, without which nothing is made."""
        if not self.trained:
            raise RunError(f"{run} has no trained network yet: run `python cli.py qat --run {run}` first.")

    def settings(self) -> dict[str, Any] | None:
        """What it was begun as, as JSON, to be compared key by key; None where nothing was."""
        return _read(self.folder / SETTINGS) if (self.folder / SETTINGS).is_file() else None

    def is_finished(self, settings: dict[str, Any], force: bool = False) -> bool:
        """Whether that very training is finished; raises RunError where another one was begun here.

        ``force`` has it trained again.
        """
        before = None if force else self.settings()
        if before is None:
            return False
        if changed := changes(before, settings):
            raise RunError(
                f"{self.folder} was trained with other settings, listed below: to train again, force it"
                " (--force, or force=True; the old training is set aside), or take a new run.",
                changed,
            )
        return self.trained

    def begin(self, settings: dict[str, Any], force: bool = False) -> None:
        """Writes what it is to be, where nothing was begun; ``force`` sets another one aside under another name."""
        if (self.folder / SETTINGS).is_file() and not force:
            return
        if self.folder.is_dir():
            retired = self.folder.with_name(f"{self.folder.name}.replaced-{time.strftime('%Y%m%d-%H%M%S')}")
            self.folder.rename(retired)
        _write(self.folder / SETTINGS, settings)

    def finish(self, result: FloatResult | QatResult) -> None:
        _write(self.folder / RESULT, result.to_json())

    def float_result(self) -> FloatResult:
        return _result(FloatResult, self.folder / RESULT)

    def qat_result(self) -> QatResult:
        return _result(QatResult, self.folder / RESULT)

    def start(self) -> StartingRanges | None:
        """None where no ranges were calibrated yet."""
        file = self.folder / RANGES
        if not file.is_file():
            return None
        data = _read(file)
        try:
            return StartingRanges(ranges_from_json(data["ranges"]), CalibrationRecord.from_json(data["calibration"]))
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise _broken(file, error) from None

    def write_start(self, start: StartingRanges) -> None:
        data = {"ranges": ranges_to_json(start.ranges), "calibration": start.calibration.to_json()}
        _write(self.folder / RANGES, data)

    def history(self) -> list[HistoryEntry]:
        """Empty where it cannot be read: the scores on the way are lost then, the training is not."""
        try:
            lines = (self.folder / HISTORY).read_text().splitlines()
            return [HistoryEntry.from_json(json.loads(line)) for line in lines]
        except (OSError, ValueError, TypeError, KeyError):
            return []

    def write_history(self, history: list[HistoryEntry]) -> None:
        lines = "".join(json.dumps(dataclasses.asdict(one)) + "\n" for one in history)
        write_atomically(self.folder / HISTORY, lines.encode())


def plain(noun: Any) -> dict[str, Any]:
    """A dataclass as JSON gives it back, so that settings can be compared with those on disk."""
    return dict(json.loads(json.dumps(dataclasses.asdict(noun))))


def changes(before: dict[str, Any], now: dict[str, Any], above: str = "") -> list[str]:
    """'schedule.steps: 4000, now 100' for each setting of ``now`` that is another one than before."""
    found = []
    for key, value in now.items():
        was = before.get(key)
        if isinstance(was, dict) and isinstance(value, dict):
            found += changes(was, value, f"{above}{key}.")
        elif was != value:
            found.append(f"{above}{key}: {was}, now {value}")
    return found


def _broken(file: Path, error: Exception) -> RunError:
    return RunError(f"{file} is broken ({error}): restore it, or force a new training (--force, or force=True).")


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise _broken(file, error) from None


def _write(file: Path, data: dict[str, Any]) -> None:
    write_atomically(file, (json.dumps(data, indent=2) + "\n").encode())


def _result(noun: type[Noun], file: Path) -> Noun:
    """What an earlier version did not write is None; what this one does not know is passed over."""
    data = _read(file)
    known = {field.name for field in dataclasses.fields(noun)}  # type: ignore[arg-type]
    try:
        history = tuple(HistoryEntry.from_json(one) for one in data.get("history", ()))
        made = noun(**{**{k: v for k, v in data.items() if k in known}, "history": history})
        for name in {"best_val_miou_percent", "val_miou_percent"} & known:
            if isinstance(getattr(made, name), bool) or not isinstance(getattr(made, name), int | float):
                raise TypeError(f"{name} is no number")
    except (TypeError, ValueError, KeyError) as error:
        raise _broken(file, error) from None
    return made
