"""Writes the figures of a training as TensorBoard scalars; TensorBoard itself is only needed to look at them.

`tensorboard --logdir runs` shows them. A resumed training adds a file beside the earlier ones, which TensorBoard reads
as one; the steps since its last checkpoint are there twice, with the same values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from pipeline.train.schedule import Decay, Schedule

FOLDER = "tensorboard"
MOST_POINTS = 1000
"""Of the loss and the learning rate: longer trainings write means over several steps."""


class Events:
    """The event files in ``folder``/tensorboard; the steps are updates of the weights, the first one is 1."""

    def __init__(self, folder: Path, schedule: Schedule) -> None:
        self._writer = tf.summary.create_file_writer(str(folder / FOLDER))
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
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _write(self, step: int, scalars: Mapping[str, float]) -> None:
        with self._writer.as_default():
            for tag, value in scalars.items():
                tf.summary.write(tag, tf.constant(value, tf.float32), step=step, metadata=self._metadata)
