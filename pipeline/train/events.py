"""Writes the figures of a training as TensorBoard scalars; TensorBoard itself is only needed to look at them.

`tensorboard --logdir runs` shows them. A resumed training adds a file beside the earlier ones, which TensorBoard reads
as one; the steps since its last checkpoint are there twice, with the same values.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import tensorflow as tf

from pipeline.core.say import Say, quiet
from pipeline.train.schedule import Decay, Schedule

FOLDER = "tensorboard"
MOST_POINTS = 1000
"""Of the loss and the learning rate: longer trainings write means over several steps."""


class Events:
    """The event files in ``folder``/tensorboard; the steps are updates of the weights, the first one is 1.

    They only show the training: where they cannot be written, it goes on, and says so once.
    """

    def __init__(self, folder: Path, schedule: Schedule, say: Say = quiet) -> None:
        self._folder, self._say = folder / FOLDER, say
        self._writer: tf.summary.SummaryWriter | None = None
        with self._or_not():
            self._writer = tf.summary.create_file_writer(str(self._folder))
        self._rate, self._every = Decay(schedule), max(1, schedule.steps // MOST_POINTS)
        self._losses: list[float] = []
        plugin = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        self._metadata = tf.compat.v1.SummaryMetadata(plugin_data=plugin)

    def step(self, step: int, loss: float) -> None:
        """``loss``: before the update that made it ``step`` steps."""
        self._losses.append(loss)
        if step % self._every == 0:
            rate = float(self._rate(tf.constant(step - 1)))
            self._write(step, {"loss": sum(self._losses) / len(self._losses), "learning rate": rate})
            self._losses.clear()

    def scored(self, step: int, miou_percent: float | None, class_iou_percent: Mapping[str, float]) -> None:
        scalars = {} if miou_percent is None else {"mIoU (percent)": miou_percent}
        self._write(step, {**scalars, **{f"IoU (percent)/{name}": iou for name, iou in class_iou_percent.items()}})
        with self._or_not():
            if self._writer is not None:
                self._writer.flush()

    def close(self) -> None:
        with self._or_not():
            if self._writer is not None:
                self._writer.close()

    def _write(self, step: int, scalars: Mapping[str, float]) -> None:
        with self._or_not():
            if self._writer is None:
                return
            with self._writer.as_default():
                for tag, value in scalars.items():
                    tf.summary.write(tag, tf.constant(value, tf.float32), step=step, metadata=self._metadata)

    @contextlib.contextmanager
    def _or_not(self) -> Iterator[None]:
        """Within it, an error of the file ends the writing."""
        try:
            yield
        except (tf.errors.OpError, OSError) as error:
            first = next(iter(re.sub(r"\{\{.*?\}\}| \[Op:.*", "", str(error)).splitlines()), "")
            self._say(f"note: {self._folder} cannot be written ({first.strip()}): the training goes on without it")
            self._writer = None
