"""What a training needs to resume after an interruption and end with the same bits as without one.

It is in ``folder``/resume, in files named after their step, checkpoint-000000120.safetensors. Each is written whole
and holds all of it; the one before stays until the next is complete.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from pipeline.core.errors import RunError, TrainingDiverged, WeightsError
from pipeline.core.files import write_atomically
from pipeline.core.say import Say, quiet
from pipeline.core.training import HistoryEntry, Symptom, Training
from pipeline.train.precision import LossScale
from pipeline.weights import tensors

KIND = "segquant training 1"
"""Of the files; another number once the names in them mean something else."""
FILE = re.compile(r"checkpoint-(\d{9,12})\.safetensors")
EARLIER = ("checkpoint", "ckpt-")
"""How the files of earlier versions begin, which TensorFlow wrote."""


class Progress:
    """The state of a training, saved in ``folder``/resume, and its history, saved in history.jsonl.

    What random draws there are depend on the seed and the step alone (``draw_by_step``, ``Feed``), so the step is the
    state of all of them.

    Attributes:
      variables: those of the scored network; ``averages``: their running means, in the same order.
      best: the highest score so far, percent, float64; −1 before the first.
      loss_scale: of a training in mixed precision, else None.
      loss_sum, loss_steps: sum of the losses, and number of steps, since the last scoring.
      history: one entry per scoring: step, loss, miou_percent, seconds.
    """

    def __init__(self, trainer: tf_keras.Model, variables: list[tf.Variable], optimizer: Any, folder: Path) -> None:
        self.variables, self._optimizer, self._trainer = variables, optimizer, trainer
        self.loss_scale = LossScale.needed(trainer)
        self.averages = [tf.Variable(w, trainable=False) for w in variables]
        self.best = tf.Variable(-1.0, dtype=tf.float64, trainable=False)
        self.loss_sum = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self.loss_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._seconds_before = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self._started = time.monotonic()
        self._live: list[np.ndarray] | None = None
        self._state = _named(
            network=_unique(*variables, *trainer.weights),
            averages=self.averages,
            optimizer=list(optimizer.variables),
            training=[self.best, self.loss_sum, self.loss_steps, self._seconds_before],
            **({"precision": self.loss_scale.variables} if self.loss_scale is not None else {}),
        )
        self._training = Training(folder)
        self._files = CheckpointFiles(self._training.resume)
        self.history: list[HistoryEntry] = []

    @property
    def state(self) -> list[tf.Variable]:
        """Every variable that is saved."""
        return list(self._state.values())

    @property
    def step(self) -> int:
        """Updates of the weights, as the optimizer counts them: after Ctrl-C, another count could be one behind."""
        return int(self._optimizer.iterations)

    @property
    def seconds(self) -> float:
        """Time spent on this training, without interruptions."""
        return float(self._seconds_before) + time.monotonic() - self._started

    @property
    def scored(self) -> bool:
        """Whether the last step is in the history."""
        return any(entry.step == self.step for entry in self.history)

    def restore(self, say: Say = quiet) -> bool:
        """Restores what was saved last; False if nothing was saved. Raises RunError if it cannot be read."""
        expected = {name: tensors.Expected(tuple(v.shape), v.dtype.name) for name, v in self._state.items()}
        arrays = self._files.read(expected, say)
        if arrays is None:
            return False
        for name, variable in self._state.items():
            variable.assign(arrays[name])
        self.history = [entry for entry in self._training.history() if entry.step <= self.step]
        if self.scored:  # it was saved before the sums were reset
            self.reset_losses()
        return True

    def save(self) -> None:
        """Raises TrainingDiverged, and keeps what was saved before, if a weight is not finite; OSError."""
        self.put_back()
        self._check_finite(self.variables)
        arrays = {name: np.asarray(variable.value()) for name, variable in self._state.items()}
        seconds = next(name for name, variable in self._state.items() if variable is self._seconds_before)
        arrays[seconds] = np.asarray(self.seconds)
        self._files.write(self.step, arrays)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it, the network has its averaged weights. Raises TrainingDiverged if they are not finite."""
        self._check_finite(self.averages)
        self._live = [v.numpy() for v in self.variables]
        try:
            for variable, average in zip(self.variables, self.averages, strict=True):
                variable.assign(average)
            yield
        finally:
            self.put_back()

    def put_back(self) -> None:
        """Ends ``averaged``, also after a Ctrl-C that interrupted it."""
        if self._live is not None:
            for variable, value in zip(self.variables, self._live, strict=True):
                variable.assign(value)
            self._live = None

    def new(self, symptoms: Iterable[Symptom]) -> tuple[Symptom, ...]:
        """Those that no scoring before found."""
        known = {symptom.degree for entry in self.history for symptom in entry.symptoms}
        return tuple(symptom for symptom in symptoms if symptom.degree not in known)

    def add_score(self, percent: float | None, symptoms: tuple[Symptom, ...] = ()) -> float | None:
        """Adds a score of the last step to the history and saves; returns the mean loss since the score before."""
        steps = int(self.loss_steps)
        loss = float(self.loss_sum) / steps if steps else None
        self.history.append(HistoryEntry(self.step, loss, percent, self.seconds, symptoms))
        self._training.write_history(self.history)
        self.reset_losses()
        self.save()
        return loss

    def reset_losses(self) -> None:
        self.loss_sum.assign(0.0)
        self.loss_steps.assign(0)

    def not_finite(self, values: list[tf.Variable] | None = None) -> str:
        """Which weights are not finite, such as 'the weights stem/kernel and 3 more are not finite'; '' for none.

        ``values``: those of ``variables``, in their order; None: their own.
        """
        pairs = zip(self.variables, self.variables if values is None else values, strict=True)
        wrong = [
            self._called(v) for v, value in pairs if value.dtype.is_floating and not np.isfinite(value.numpy()).all()
        ]
        if not wrong:
            return ""
        return f"the weights {wrong[0]}{f' and {len(wrong) - 1} more' if len(wrong) > 1 else ''} are not finite"

    def _called(self, variable: tf.Variable) -> str:
        """By its layer, such as 'stem/kernel': TFMOT calls all that it wraps alike."""
        for layer in self._trainer.layers:
            if any(variable is each for each in layer.weights):
                return f"{layer.name.removeprefix('quant_')}/{_name(variable).rpartition('/')[2]}"
        return _name(variable)

    def _check_finite(self, values: list[tf.Variable]) -> None:
        """Raises TrainingDiverged, which names the first of them."""
        if wrong := self.not_finite(values):
            raise TrainingDiverged(f"{wrong} after step {self.step}: lower the learning rate in a new run.")


class CheckpointFiles:
    """The files of the last two checkpoints in ``folder``: each complete, or not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last: Path | None = None
        self._before: Path | None = None
        """The last one that was written or read, and the one before it."""

    def write(self, step: int, arrays: dict[str, np.ndarray]) -> None:
        """Writes a checkpoint; of those before it, the last good one stays. Raises OSError."""
        path = self.folder / f"checkpoint-{step:09d}.safetensors"
        write_atomically(path, tensors.to_pieces(arrays, KIND))
        if path != self._last:  # else it is the same step again, as where nothing was trained since it was read
            self._last, self._before = path, self._last
        for other in self._all():
            if other not in (self._last, self._before):
                other.unlink(missing_ok=True)

    def read(self, expected: dict[str, tensors.Expected], say: Say) -> dict[str, np.ndarray] | None:
        """The newest checkpoint that is complete; None where none was written. Raises RunError."""
        again = f"delete {self.folder} to start this training again."
        broken, paths = "", self._all()
        for i, path in enumerate(paths):
            try:
                arrays = tensors.read(path, expected, KIND)
            except tensors.AnotherKind as error:
                raise RunError(
                    f"checkpoint {path} is of another network or of another version of segquant ({error}): {again}"
                ) from None
            except (WeightsError, OSError) as error:
                broken = broken or f"checkpoint {path} cannot be read ({error})"
            else:
                if broken:
                    say(f"note: {broken}: going on from the one before it, {path.name}")
                self._last, self._before = path, next(iter(paths[i + 1 :]), None)
                return arrays
        if broken:
            raise RunError(f"{broken}, and there is none before it: {again}")
        if any(name.startswith(EARLIER) for name in self._names()):
            raise RunError(
                f"{self.folder} holds a checkpoint of an earlier version of segquant, which this version cannot read:"
                f" {again}"
            )
        return None

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.folder)
        except FileNotFoundError:
            return []

    def _all(self) -> list[Path]:
        """Newest first."""
        steps = {int(match[1]): name for name in self._names() if (match := FILE.fullmatch(name))}
        return [self.folder / steps[step] for step in sorted(steps, reverse=True)]


def _unique(*variables: tf.Variable) -> list[tf.Variable]:
    return list({id(v): v for v in variables}.values())


def _named(**groups: list[tf.Variable]) -> dict[str, tf.Variable]:
    """{'network/0003/stem/kernel': variable}: by its place and by its name."""
    return {f"{group}/{i:04d}/{_name(v)}": v for group, each in groups.items() for i, v in enumerate(each)}


def _name(variable: tf.Variable) -> str:
    """Without the numbers by which Keras keeps the names of one process apart."""
    return re.sub(r"_\d+(?=/|$)", "", variable.name.partition(":")[0])
