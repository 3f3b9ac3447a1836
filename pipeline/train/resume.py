"""What a training needs to resume after an interruption and end with the same bits as without one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from pipeline.core.errors import RunError, TrainingDiverged
from pipeline.core.training import HistoryEntry, Training


class Progress:
    """The state of a training, saved in ``folder``/resume, and its history, saved in history.jsonl.

    Attributes:
      variables: those of the scored network; ``averages``: their running means, in the same order.
      best: the highest score so far, percent, float64; −1 before the first.
      loss_sum, loss_steps: sum of the losses, and number of steps, since the last scoring.
      history: one entry per scoring: step, loss, miou_percent, seconds.
    """

    def __init__(self, trainer: tf_keras.Model, variables: list[tf.Variable], optimizer: Any, folder: Path) -> None:
        self.variables, self._optimizer = variables, optimizer
        self.averages = [tf.Variable(w, trainable=False) for w in variables]
        self.best = tf.Variable(-1.0, dtype=tf.float64, trainable=False)
        self.loss_sum = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self.loss_steps = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._seconds_before = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self._started = time.monotonic()
        self._live: list[np.ndarray] | None = None
        self._checkpoint = tf.train.Checkpoint(
            trainer=trainer,
            variables=variables,
            optimizer=optimizer,
            averages=self.averages,
            best=self.best,
            loss_sum=self.loss_sum,
            loss_steps=self.loss_steps,
            seconds=self._seconds_before,
        )
        _check_places(folder / "resume")
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(folder / "resume"), max_to_keep=1)
        self._training = Training(folder)
        self.history: list[HistoryEntry] = []

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

    def restore(self) -> bool:
        """Restores what was saved last; False if nothing was saved. Raises RunError if it cannot be read."""
        last = self._manager.latest_checkpoint
        if not last:
            return False
        try:
            self._checkpoint.restore(last).assert_existing_objects_matched()
        except AssertionError:
            raise RunError(
                f"checkpoint {last} is of another network or of another version of segquant: delete"
                f" {Path(last).parent} to start this training again."
            ) from None
        except (tf.errors.OpError, ValueError, LookupError, RuntimeError) as error:
            raise RunError(
                f"checkpoint {last} cannot be read ({str(error).splitlines()[0]}): delete"
                f" {Path(last).parent} to start this training again."
            ) from None
        self.history = [entry for entry in self._training.history() if entry.step <= self.step]
        if self.scored:  # it was saved before the sums were reset
            self._reset_losses()
        return True

    def save(self) -> None:
        self.put_back()
        seconds_before = self._seconds_before.numpy()
        self._seconds_before.assign(self.seconds)
        try:
            self._manager.save()
        finally:
            self._seconds_before.assign(seconds_before)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it, the network has its averaged weights. Raises TrainingDiverged if they are not finite."""
        self._live = [v.numpy() for v in self.variables]
        try:
            for variable, average in zip(self.variables, self.averages, strict=True):
                if average.dtype.is_floating and not np.isfinite(average.numpy()).all():
                    raise TrainingDiverged(
                        f"the weights {variable.name.partition(':')[0]} are not finite after step {self.step}: lower"
                        " the learning rate in a new run."
                    )
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

    def add_score(self, percent: float | None) -> float | None:
        """Adds a score of the last step to the history and saves; returns the mean loss since the score before."""
        steps = int(self.loss_steps)
        loss = float(self.loss_sum) / steps if steps else None
        self.history.append(HistoryEntry(self.step, loss, percent, self.seconds))
        self._training.write_history(self.history)
        self._reset_losses()
        self.save()
        return loss

    def _reset_losses(self) -> None:
        self.loss_sum.assign(0.0)
        self.loss_steps.assign(0)


def _check_places(folder: Path) -> None:
    """Raises RunError where the folder's list of checkpoints names files elsewhere: by it old ones are deleted."""
    try:
        state = tf.train.get_checkpoint_state(str(folder))
    except (tf.errors.OpError, ValueError, UnicodeDecodeError):
        return  # TensorFlow will not read it either
    if state is None:
        return
    for path in (state.model_checkpoint_path, *state.all_model_checkpoint_paths):
        if Path(os.path.abspath(path)).parent != Path(os.path.abspath(folder)):
            raise RunError(
                f"{folder / 'checkpoint'} names {path}, which is not in that folder, so it was not written here: delete"
                f" {folder} to start this training again."
            )
