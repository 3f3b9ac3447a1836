"""The teacher of a float training: networks that were trained before, one by itself or the mean of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import tf_keras

from pipeline.convert.parent import load_float
from pipeline.core.errors import BadSpec
from pipeline.core.run import Run
from pipeline.train.initialize import as_setting
from pipeline.train.update import training_outputs
from pipeline.weights import checkpoint


def teacher_of(runs: Sequence[Run], student: Run, model: tf_keras.Model, class_weights: np.ndarray) -> tf_keras.Model:
    """image → the mean of the logits of the runs' float networks, before their last resize: the mean of their votes.

    ``model``: the network of ``student``. ``class_weights``: float32 [classes], of the student's loss. What the
    teachers' logits lack of them is put back, as the student's own logits have it while it trains. Raises RunError for
    a run that is not trained, BadSpec for one that cannot teach ``student``.
    """
    classes = len(student.config.classes)
    image = tf_keras.Input(model.input_shape[1:])
    wanted, votes = training_outputs(model, (), classes).output_shape, []
    for place, run in enumerate(runs):
        run.float_training.check_trained(run.path)
        _check_lesson(run, student)
        logits = training_outputs(load_float(run, run.float_training.best), (), classes)
        if logits.output_shape != wanted:
            _refuse(run, student, "the size of the logits", logits.output_shape[1:3], wanted[1:3])
        left = checkpoint.class_weights_in(run.float_training.best, classes)
        missing = np.log(class_weights / np.asarray(left or class_weights, np.float32))
        network = tf_keras.Model(logits.input, logits.output, name=f"teacher_{place}")
        votes.append(tf_keras.layers.Rescaling(1.0, missing, name=f"weights_{place}")(network(image)))
    mean = votes[0] if len(votes) == 1 else tf_keras.layers.Average()(votes)
    return tf_keras.Model(image, mean)


def settings_of(runs: Sequence[Run]) -> list[dict[str, str]] | None:
    """What a training keeps of its teachers; None without any. Raises RunError for one that is not trained."""
    for run in runs:
        run.float_training.check_trained(run.path)
    return [as_setting(run.float_training.best) for run in runs] or None


def _check_lesson(run: Run, student: Run) -> None:
    """Raises BadSpec where the run's network does not see and name what that of ``student`` does."""
    theirs, ours = run.config, student.config
    for what, there, here in (
        ("the size", theirs.model.size, ours.model.size),
        ("the resize", theirs.model.resize, ours.model.resize),
        ("the classes", list(theirs.classes), list(ours.classes)),
    ):
        if there != here:
            _refuse(run, student, what, there, here)


def _refuse(run: Run, student: Run, what: str, there: Any, here: Any) -> NoReturn:
    raise BadSpec(
        f"{run.path} cannot teach {student.path}: {what} of its network: {there}, of this one: {here}. Name a run with"
        " the same size, resize and classes; alpha and the network may differ, where the logits have the same size."
    )
