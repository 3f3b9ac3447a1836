"""Teachers of a float training: it learns the mean of their logits, with the class weights of its own loss."""

import numpy as np
import pytest
import tf_keras

from models.blocks import last_resize_of
from pipeline.core.errors import BadSpec, RunError
from pipeline.core.run import create
from pipeline.core.spec import ModelSpec
from pipeline.core.training import FloatResult
from pipeline.train.feed import Augmentation
from pipeline.train.schedule import Schedule
from pipeline.train.teachers import teacher_of
from pipeline.train.train import train
from pipeline.weights import checkpoint
from tests.conftest import scrambled, small_size, still
from tests.support.small_run import empty_run

HEIGHT, WIDTH = small_size("fast-scnn")
LEFT = (0.5, 1.0, 2.0, 1.0, 0.25)


def taught(home, alpha=0.125, left=None, classes="abcde", **spec):
    """A run with a float network of drawn weights; ``left``: what its file says of class weights."""
    model = ModelSpec("fast-scnn", HEIGHT, WIDTH, len(classes), alpha=alpha, **spec)
    run = create(home, model, "synthetic", classes, [], 0)
    run.float_training.begin({})
    checkpoint.write(scrambled("fast-scnn", alpha=alpha), run.float_training.best, class_weights=left)
    run.float_training.finish(FloatResult(50.0))
    return run


def logits_of(alpha, images):
    """Of the drawn network, before its last resize."""
    model = scrambled("fast-scnn", alpha=alpha)
    return tf_keras.Model(model.input, last_resize_of(model).input)(images).numpy()


def test_the_teacher_is_the_mean_of_the_logits_with_the_students_class_weights(tmp_path):
    teachers = [taught(tmp_path / "one"), taught(tmp_path / "two", alpha=0.25, left=LEFT)]
    student = create(
        tmp_path / "run", ModelSpec("fast-scnn", HEIGHT, WIDTH, 5, alpha=0.125), "synthetic", "abcde", [], 0
    )
    weights = np.array([0.2, 0.4, 1.0, 1.4, 2.0], np.float32)
    images = np.random.default_rng(0).random((2, HEIGHT, WIDTH, 3)).astype(np.float32)
    first, second = logits_of(0.125, images), logits_of(0.25, images) + np.log(weights / np.array(LEFT))
    for runs, expected in ((teachers[:1], first), (teachers, (first + second) / 2)):
        teacher = teacher_of(runs, student, still("fast-scnn"), weights)
        np.testing.assert_allclose(teacher(images).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_a_network_learns_from_its_teacher_alone_and_keeps_which_it_was(tmp_path):
    run, teacher = empty_run(tmp_path, alpha=0.125), taught(tmp_path / "teacher")
    schedule = Schedule(12, 2, 1e-2, evaluations=2, labels=False, distil=1.0)
    said: list[str] = []
    result = train(run, schedule, Augmentation(), said.append, teachers=[teacher])
    assert result.history[-1].loss < 0.8 * result.history[0].loss
    assert run.float_training.settings()["teachers"][0]["file"] == str(teacher.float_training.best)
    assert train(run, schedule, Augmentation(), said.append, teachers=[teacher]) == result
    for others in ((), [taught(tmp_path / "other", alpha=0.25)]):
        with pytest.raises(RunError, match="other settings"):
            train(run, schedule, Augmentation(), said.append, teachers=others)


def test_who_cannot_teach_is_refused(tmp_path):
    student = create(tmp_path / "run", ModelSpec("fast-scnn", HEIGHT, WIDTH, 5), "synthetic", "abcde", [], 0)
    for name, message, spec in (
        ("names", "the classes", {"classes": "abcdf"}),
        ("resize", "the resize", {"resize": "half_pixel"}),
    ):
        with pytest.raises(BadSpec, match=f"{name} cannot teach .*run: {message} of its network"):
            teacher_of([taught(tmp_path / name, **spec)], student, still("fast-scnn"), np.ones(5, np.float32))
    untrained = create(tmp_path / "new", student.config.model, "synthetic", "abcde", [], 0)
    with pytest.raises(RunError, match="new has no trained network yet"):
        teacher_of([untrained], student, still("fast-scnn"), np.ones(5, np.float32))
