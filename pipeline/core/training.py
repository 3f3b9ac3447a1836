"""The folder of one training (a run's float/, qat/ or control/): the names and the meaning of its files.

settings.json                the training's settings; written before it begins
ranges.json                  QAT only: the calibrated ranges that it started from, and how they were found
history.jsonl                one line per scoring
best.weights.h5, last.weights.h5
candidate.weights.h5         QAT only, while it trains: the best checkpoint so far
resume/                      while it trains: what it resumes from after an interruption
result.json                  the result; written last, so a training is finished where this file exists
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipeline.core.calibration import CalibrationRecord
from pipeline.core.errors import RunError
from pipeline.core.files import read_regular, unused, write_atomically
from pipeline.core.from_json import from_json
from pipeline.core.json_file import MOST_BYTES, BadJson, as_object, load_as, made, parse
from pipeline.core.ranges import Ranges, ranges_from_json, ranges_to_json

SETTINGS, RESULT, RANGES, HISTORY = "settings.json", "result.json", "ranges.json", "history.jsonl"
Noun = TypeVar("Noun")


@dataclasses.dataclass(frozen=True)
class Symptom:
    """Something that a scoring finds wrong with a layer.

    Attributes:
      kind: dead (channels that are always 0), saturated (channels at the activation's upper end), constant (the
        network's output), or one class (of all masks).
      share: of the layer's channels, above 0.
    """

    layer: str
    kind: str
    text: str
    share: float = 1.0

    @property
    def serious(self) -> bool:
        """Whether it is worth a message: a few dead channels are common."""
        return self.share >= 0.25

    @property
    def degree(self) -> tuple[str, str, int]:
        """It is new where it was not seen before to this degree."""
        return self.layer, self.kind, int(4 * self.share)


@dataclasses.dataclass(frozen=True)
class HistoryEntry:
    """One scoring during a training.

    Attributes:
      step: after which step.
      loss: mean loss since the scoring before.
      miou_percent: None where there were no images to score on.
      seconds: time trained so far.
      symptoms: what is wrong with the network's layers; each where it is first found.
    """

    step: int
    loss: float | None
    miou_percent: float | None
    seconds: float
    symptoms: tuple[Symptom, ...] = ()

    @staticmethod
    def from_json(data: Any) -> HistoryEntry:
        """Raises KeyError, TypeError and ValueError for data of another form."""
        if isinstance(data, dict) and "val_miou_percent" in data:  # the first version's name
            data = {**data, "miou_percent": data["val_miou_percent"]}
        return from_json(HistoryEntry, data)


@dataclasses.dataclass(frozen=True)
class FloatResult:
    """The result of a float training, or of weights adopted from a file.

    Attributes:
      best_val_miou_percent: of the weights that are kept. Fields with None do not apply to adopted weights.
      step_seconds: median time of a step.
      parent, parent_sha256: the file that the weights were adopted from.
    """

    best_val_miou_percent: float
    last_val_miou_percent: float | None = None
    seconds: float | None = None
    step_seconds: float | None = None
    history: tuple[HistoryEntry, ...] = ()
    parent: str | None = None
    parent_sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        data = dataclasses.asdict(self)
        adopted = ("best_val_miou_percent", "parent", "parent_sha256")
        return {k: v for k, v in data.items() if (k in adopted if self.parent else k not in adopted[1:])}


@dataclasses.dataclass(frozen=True)
class QatResult:
    """The result of quantization-aware training, or of its control in float.

    Attributes:
      val_miou_percent: of the file that the kept weights convert to, on the validation images.
      kept_step: the step whose weights were kept; 0 for those at the start.
      held_out_start_percent, held_out_best_percent, best_step: mIoU on the held-out images at the start and at the best
        step; None where no images were held out.
      gain_points, gain_standard_error_points: gain in mIoU on the held-out images, and its standard error; None where
        that could not be judged.
      gain_needed_points: the least gain that is significant; 100, which no gain exceeds, where it could not be judged.
      gain_not_judged: why it could not be judged.
      machine: the machine that it was trained on.
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
    """The ranges from which a quantization-aware training starts, and how they were found."""

    ranges: Ranges
    calibration: CalibrationRecord


@dataclasses.dataclass(frozen=True)
class Training:
    """The files of one training. Reading a broken file raises RunError."""

    folder: Path

    @property
    def best(self) -> Path:
        return self.folder / "best.weights.h5"

    @property
    def last(self) -> Path:
        return self.folder / "last.weights.h5"

    @property
    def candidate(self) -> Path:
        """The best checkpoint so far. At the end either it or the start becomes ``best``; an interrupted training finds
        it here again."""
        return self.folder / "candidate.weights.h5"

    @property
    def resume(self) -> Path:
        """The folder of what an interrupted training resumes from."""
        return self.folder / "resume"

    @property
    def trained(self) -> bool:
        """Whether the training is finished, so that ``best`` is its result."""
        return (self.folder / RESULT).is_file()

    def check_trained(self, run: Path) -> None:
        """Raises RunError where this training, the float training of ``run``, is not finished."""
        if not self.trained:
            raise RunError(f"{run} has no trained network yet: run `python cli.py qat --run {run}` first.")

    def settings(self) -> dict[str, Any] | None:
        """The settings that it began with, as JSON; None where no training began."""
        file = self.folder / SETTINGS
        return _read(file, as_object) if file.is_file() else None

    def is_finished(self, settings: dict[str, Any], force: bool = False) -> bool:
        """Whether the training with these settings is finished; raises RunError where one with others began here.

        Always False with ``force``, which trains again.
        """
        before = None if force else self.settings()
        if before is None:
            return False
        if changed := changes(before, settings):
            how = "--force" if "parent_sha256" in settings else forced(self.folder)
            raise RunError(
                f"{self.folder} was trained with other settings, listed below: to train again, force it"
                f" ({how}, or force=True; the old training is set aside), or take a new run.",
                changed,
            )
        return self.trained

    def begin(self, settings: dict[str, Any], force: bool = False) -> None:
        """Writes the settings where no training began; ``force`` first sets an earlier training aside."""
        if (self.folder / SETTINGS).is_file() and not force:
            return
        if self.folder.is_dir() and any(self.folder.iterdir()):  # an interrupted beginning leaves an empty one
            retired = unused(self.folder.parent, f"{self.folder.name}.replaced-{time.strftime('%Y%m%d-%H%M%S')}")
            self.folder.rename(retired)
        _write(self.folder / SETTINGS, settings)

    def finish(self, result: FloatResult | QatResult) -> None:
        """Writes the result, then removes what only an unfinished training needs."""
        _write(self.folder / RESULT, result.to_json())
        self.tidy()

    def tidy(self) -> None:
        """Removes what only an unfinished training needs; also where a process ended between its result and that."""
        if self.trained:
            self.candidate.unlink(missing_ok=True)
            shutil.rmtree(self.resume, ignore_errors=True)

    def float_result(self) -> FloatResult:
        return _read(self.folder / RESULT, lambda data: _result(FloatResult, data))

    def qat_result(self) -> QatResult:
        return _read(self.folder / RESULT, lambda data: _result(QatResult, data))

    def start(self) -> StartingRanges | None:
        """The starting ranges; None where no ranges were calibrated yet."""
        file = self.folder / RANGES
        return _read(file, _starting_ranges) if file.is_file() else None

    def write_start(self, start: StartingRanges) -> None:
        data = {"ranges": ranges_to_json(start.ranges), "calibration": start.calibration.to_json()}
        _write(self.folder / RANGES, data)

    def history(self) -> list[HistoryEntry]:
        """The scorings so far; [] where the file cannot be read, which does not stop the training."""
        try:
            lines = read_regular(self.folder / HISTORY, MOST_BYTES).splitlines()
            return [made(parse(line), HistoryEntry.from_json) for line in lines]
        except (OSError, ValueError):
            return []

    def write_history(self, history: list[HistoryEntry]) -> None:
        lines = "".join(json.dumps(dataclasses.asdict(entry)) + "\n" for entry in history)
        write_atomically(self.folder / HISTORY, lines.encode())


COMMANDS = {"float": "train", "qat": "qat", "control": "qat --control"}
"""Folder → the command that trains in it."""


def forced(folder: Path) -> str:
    """What forces the training of a run's folder: `qat --force` does not train the float network again."""
    command = COMMANDS.get(folder.name)
    return f"`{command} --force`" if command else "--force"


def plain(noun: Any) -> dict[str, Any]:
    """A dataclass as JSON returns it, so that settings can be compared with those on disk."""
    return dict(json.loads(json.dumps(dataclasses.asdict(noun))))


def plain_without_defaults(noun: Any, later: Sequence[str]) -> dict[str, Any]:
    """As ``plain``, without the fields of ``later`` that have their defaults: earlier versions did not have them."""
    defaults = {field.name: field.default for field in dataclasses.fields(noun)}
    return {name: value for name, value in plain(noun).items() if name not in later or value != defaults[name]}


def changes(before: dict[str, Any], now: dict[str, Any], above: str = "") -> list[str]:
    """'schedule.steps: 4000, now 100' for each setting of ``now`` that differs from ``before``."""
    lines = []
    for key, value in now.items():
        was = before.get(key)
        if isinstance(was, dict) and value is None:
            value = dict.fromkeys(was)
        if isinstance(value, dict) and (was is None or isinstance(was, dict)):
            lines += changes(was or {}, value, f"{above}{key}.")
        elif was != value:
            lines.append(f"{above}{key}: {_in_words(was)}, now {_in_words(value)}")
    return lines


def _in_words(setting: Any) -> str:
    return "not given" if setting is None else str(setting)


def _read(file: Path, make: Callable[[Any], Noun]) -> Noun:
    try:
        return load_as(file, make)
    except BadJson as error:
        raise RunError(
            f"{file} is broken ({error}): restore it, or force a new training ({forced(file.parent)}, or force=True)."
        ) from None


def _write(file: Path, data: dict[str, Any]) -> None:
    write_atomically(file, (json.dumps(data, indent=2) + "\n").encode())


def _result(noun: type[Noun], data: Any) -> Noun:
    """Fields that an earlier version did not write are None; unknown keys are ignored."""
    history = [plain(HistoryEntry.from_json(entry)) for entry in data.get("history") or ()]
    return from_json(noun, {**data, "history": history})


def _starting_ranges(data: Any) -> StartingRanges:
    return StartingRanges(ranges_from_json(data["ranges"]), CalibrationRecord.from_json(data["calibration"]))
