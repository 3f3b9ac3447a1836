"""The training loop: its loss against the definition, and that an interrupted training ends as an uninterrupted one."""

import contextlib
import dataclasses
import math
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import models
from models.blocks import BilinearResize
from pipeline.core.dataset import IGNORE, Sample
from pipeline.core.errors import BadSpec, RunError, TrainingDiverged
from pipeline.core.ranges import Range
from pipeline.core.training import Symptom
from pipeline.data.decoded import Decoded
from pipeline.quantize.network import quantization_aware
from pipeline.train.events import Events
from pipeline.train.feed import Augmentation
from pipeline.train.fit import TrainingLoop, fit
from pipeline.train.loss import distillation_loss, sample_positions, segmentation_loss
from pipeline.train.schedule import Decay, Schedule
from pipeline.train.update import Lesson, WeightUpdate, training_outputs
from pipeline.weights import checkpoint
from tests.conftest import still

SHAPE = (24, 32)
NO_AUGMENTATION = Augmentation(scale=(1.0, 1.0), flip=False, colour=0.0)
WEIGHTS = np.array([0.5, 1.0, 1.5], np.float32)


def decoded():
    def make(i):
        rng = np.random.default_rng(i)
        image = rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
        label = (image[..., 0] // 86).astype(np.uint8)
        return Sample(str(i), lambda: image, lambda: label)

    return Decoded([make(i) for i in range(5)])


def network():
    tf_keras.utils.set_random_seed(3)
    image = tf_keras.layers.Input((*SHAPE, 3))
    x = tf_keras.layers.Conv2D(6, 3, padding="same", activation="relu")(image)
    x = tf_keras.layers.BatchNormalization()(x)
    return tf_keras.Model(image, tf_keras.layers.Conv2D(3, 1)(x))


@dataclasses.dataclass
class Checkpoints:
    model: tf_keras.Model
    folder: Path
    score: Callable[[], float]
    chooses: bool = True

    def symptoms(self):
        return ()

    def class_iou_percent(self):
        return {"road": 50.0}

    def expected_seconds(self):
        return 0.0

    def keep_best(self):
        checkpoint.write(self.model, self.folder / "best.weights.h5")

    def keep_last(self):
        checkpoint.write(self.model, self.folder / "last.weights.h5")


def do_fit(folder, schedule, score=lambda: 1.0, model=None, how=Augmentation(), teacher=None, chooses=True):
    model = model or network()
    lesson = Lesson(decoded(), WEIGHTS, how, 0, "align_corners", teacher=teacher)
    return model, fit(model, lesson, schedule, Checkpoints(model, folder, score, chooses), folder, lambda _: None)


@pytest.mark.parametrize("hard", [0.0, 0.3])
def test_the_loss_is_its_definition(hard):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 8, 8, 3)).astype(np.float32)
    label = rng.choice([0, 1, 2, IGNORE], (2, 16, 16)).astype(np.uint8)
    loss = segmentation_loss(
        tf.constant(logits), tf.constant(label), tf.constant(WEIGHTS), 0.5, "align_corners", hard=hard
    ).numpy()
    rows = np.rint(np.linspace(0, 15, 8)).astype(int)
    small = label[:, rows][:, :, rows]
    cross, weight = 0.0, 0.0
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    both, either = np.zeros(3), np.zeros(3)
    for place in np.ndindex(small.shape):
        klass = small[place]
        if klass != IGNORE:
            if not hard or probability[place][klass] < hard:
                cross -= WEIGHTS[klass] * np.log(probability[place][klass])
                weight += float(WEIGHTS[klass])
            truth = np.eye(3)[klass]
            both += truth * probability[place]
            either += truth + probability[place] - truth * probability[place]
    assert loss == pytest.approx(cross / weight + 0.5 * (1 - (both / either).mean()), rel=1e-4)


def test_a_batch_without_labels_gives_no_loss_and_no_nan():
    label = tf.fill([1, 16, 16], tf.constant(IGNORE, tf.uint8))
    logits = tf.Variable(tf.random.normal([1, 8, 8, 3]))
    with tf.GradientTape() as tape:
        loss = segmentation_loss(logits, label, tf.constant(WEIGHTS), 0.0, "align_corners")
    assert loss.numpy() == 0 and not np.isnan(tape.gradient(loss, logits).numpy()).any()


def test_samples_lie_where_the_resize_puts_them():
    for convention, corners in (("align_corners", True), ("half_pixel", False)):
        ramp = np.tile(np.arange(40, dtype=np.float32)[None, :, None, None], (1, 1, 4, 1))
        small = tf.raw_ops.ResizeBilinear(
            images=ramp, size=[20, 4], align_corners=corners, half_pixel_centers=not corners
        ).numpy()
        assert np.abs(sample_positions(20, 40, convention) - small[0, :, 0, 0]).max() <= 0.5


@pytest.mark.parametrize("name", sorted(models.networks()))
def test_the_loss_sees_the_logits_before_they_are_resized(name):
    """A network without a last resize gives its own."""
    model, stride = still(name), models.network(name).logits_stride
    height, width = model.input_shape[1:3]
    expected = (None, -(-height // stride), -(-width // stride), 5)
    assert training_outputs(model, (), 5).output_shape == expected


def test_what_the_last_resize_is_called_does_not_matter():
    image = tf_keras.layers.Input((*SHAPE, 3))
    few = tf_keras.layers.Conv2D(4, 3, 4, "same", name="guess")(image)
    model = tf_keras.Model(image, BilinearResize(*SHAPE, name="zoom")(few))
    wrapped = quantization_aware(model, {"guess": Range(-1.0, 1.0)})
    for network in (model, wrapped):
        assert training_outputs(network, (), 4).output_shape == (None, 6, 8, 4)
    larger = BilinearResize(*SHAPE, name="logits_resize")(few)
    flat = tf_keras.Model(image, tf_keras.layers.Conv2D(4, 1)(larger))
    assert training_outputs(flat, (), 4).output_shape == (None, *SHAPE, 4)


def test_the_rate_warms_up_and_decays_to_zero():
    rate = Decay(Schedule(steps=100, batch=1, learning_rate=1.0))
    values = [float(rate(tf.constant(s))) for s in range(101)]
    assert values[0] == pytest.approx(0.2) and max(values) <= 1
    assert values[50] == pytest.approx(0.5**0.9) and values[100] == 0


def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path):
    schedule = Schedule(steps=12, batch=2, learning_rate=0.01, evaluations=3)
    uninterrupted, fitted = do_fit(tmp_path / "whole", schedule)
    calls = []

    def interrupt():
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        do_fit(tmp_path / "parts", schedule, interrupt)
    resumed, resumed_fit = do_fit(tmp_path / "parts", schedule)
    for a, b in zip(uninterrupted.get_weights(), resumed.get_weights(), strict=True):
        assert np.array_equal(a, b)
    assert [e.step for e in resumed_fit.history] == [e.step for e in fitted.history] == [4, 8, 12]
    assert (tmp_path / "parts" / "last.weights.h5").is_file()


def test_a_step_that_fails_half_way_is_not_saved(tmp_path, monkeypatch):
    """Its update may have changed some weights and not the others; what was saved before is whole."""
    schedule, steps = Schedule(steps=12, batch=2, learning_rate=0.01, evaluations=3), []
    update = WeightUpdate.__call__

    def failing(self, *batch):
        steps.append(1)
        if len(steps) == 7:
            self._trained[0].assign_add(tf.ones_like(self._trained[0]))
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")
        return update(self, *batch)

    whole, _ = do_fit(tmp_path / "whole", schedule)
    with monkeypatch.context() as patch:
        patch.setattr(WeightUpdate, "__call__", failing)
        with pytest.raises(RunError, match="a step of 2 images does not fit into memory"):
            do_fit(tmp_path / "cut", schedule)
    assert [path.name for path in (tmp_path / "cut" / "resume").iterdir()] == ["checkpoint-000000004.safetensors"]
    resumed, _ = do_fit(tmp_path / "cut", schedule)
    assert all(np.array_equal(a, b) for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True))


def test_best_and_last_are_kept_apart(tmp_path):
    scores = iter([10.0, 30.0, 20.0])
    _, fitted = do_fit(tmp_path, Schedule(9, 2, 0.05, evaluations=3), lambda: next(scores))
    assert (fitted.best_percent, fitted.last_percent) == (30.0, 20.0)
    best, last = network(), network()
    best.load_weights(str(tmp_path / "best.weights.h5"))
    last.load_weights(str(tmp_path / "last.weights.h5"))
    assert not np.array_equal(best.get_weights()[0], last.get_weights()[0])


def test_where_nothing_may_choose_the_last_checkpoint_is_the_best(tmp_path):
    scores = iter([10.0, 30.0, 20.0])
    _, fitted = do_fit(tmp_path, Schedule(9, 2, 0.05, evaluations=3), lambda: next(scores), chooses=False)
    assert (fitted.best_percent, fitted.last_percent) == (20.0, 20.0)
    assert (tmp_path / "best.weights.h5").read_bytes() == (tmp_path / "last.weights.h5").read_bytes()


def test_training_lowers_the_loss(tmp_path):
    _, fitted = do_fit(tmp_path, Schedule(60, 4, 0.02, evaluations=3), how=NO_AUGMENTATION)
    losses = [e.loss for e in fitted.history]
    assert losses[-1] < 0.8 * losses[0]


def test_a_loss_that_is_no_number_ends_the_training(tmp_path):
    model = network()
    model.layers[-1].kernel.assign(model.layers[-1].kernel * np.nan)
    with pytest.raises(
        TrainingDiverged,
        match=r"became nan at step 1, and the weights conv2d\w*/kernel and \d+ more are not finite.*: lower the",
    ):
        do_fit(tmp_path, Schedule(3, 2, 0.01), model=model)


def test_what_a_scoring_finds_is_reported_and_what_it_cannot_score_ends_the_training(tmp_path, monkeypatch):
    dead = Symptom("first", "dead", "6 of 6 channels are 0 everywhere")
    monkeypatch.setattr(Checkpoints, "symptoms", lambda _: (dead,))
    lines: list[str] = []
    lesson, checkpoints = (
        Lesson(decoded(), WEIGHTS, Augmentation(), 0, "align_corners"),
        Checkpoints(network(), tmp_path, lambda: 1.0),
    )
    fitted = fit(checkpoints.model, lesson, Schedule(4, 2, 0.01, evaluations=2), checkpoints, tmp_path, lines.append)
    assert [entry.symptoms for entry in fitted.history] == [(dead,), ()]
    assert sum("note: step 2: first: 6 of 6" in line for line in lines) == 1

    def diverged(_):
        raise TrainingDiverged("the layer first gives values that are not finite.")

    monkeypatch.setattr(Checkpoints, "symptoms", diverged)
    with pytest.raises(TrainingDiverged, match="^after step 2, the layer first"):
        do_fit(tmp_path / "b", Schedule(4, 2, 0.01, evaluations=2))
    assert not (tmp_path / "b" / "best.weights.h5").exists()  # what was the best before stays


def test_the_distillation_loss_is_its_definition():
    rng = np.random.default_rng(1)
    student, teacher = rng.normal(size=(2, 2, 3, 4, 5)).astype(np.float32) * 3
    total = 0.0
    for place in np.ndindex(2, 3, 4):
        p = np.exp(teacher[place] / 2) / np.exp(teacher[place] / 2).sum()
        q = np.exp(student[place] / 2) / np.exp(student[place] / 2).sum()
        total += (p * np.log(p / q)).sum()
    loss = distillation_loss(tf.constant(student), tf.constant(teacher), 2.0).numpy()
    assert loss == pytest.approx(4 * total / 24, rel=1e-4)
    assert distillation_loss(tf.constant(teacher), tf.constant(teacher), 2.0).numpy() == pytest.approx(0, abs=1e-6)


def test_a_student_without_labels_comes_to_its_teacher(tmp_path):
    teacher, student = network(), network()
    rng = np.random.default_rng(5)
    for variable in student.trainable_variables:
        variable.assign_add(0.3 * rng.normal(size=variable.shape).astype(np.float32))
    images = np.stack([decoded()[i][0] for i in range(5)]).astype(np.float32) / 255

    def distance():
        return np.abs(student(images).numpy() - teacher(images).numpy()).mean()

    distance_before = distance()
    schedule = Schedule(60, 4, 0.01, evaluations=1, distil=1.0, labels=False, jaccard=0.0)
    do_fit(tmp_path, schedule, model=student, how=NO_AUGMENTATION, teacher=teacher)
    assert distance() < 0.5 * distance_before


def test_statistics_stay_after_their_share_of_the_steps(tmp_path):
    def moving_mean_after(steps, share):
        model, _ = do_fit(tmp_path / f"{steps}-{share}", Schedule(steps, 2, 1e-9, average=0, statistics_until=share))
        return model.layers[2].moving_mean.numpy()

    start = network().layers[2].moving_mean.numpy()
    assert np.array_equal(moving_mean_after(4, 0.0), start)
    half_way, to_the_end = moving_mean_after(4, 0.5), moving_mean_after(4, 1.0)
    assert not np.array_equal(half_way, start) and not np.array_equal(half_way, to_the_end)
    assert np.allclose(half_way, moving_mean_after(2, 1.0), atol=1e-6)


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(RunError, match="without labels"):
        Schedule(3, 2, 0.01, labels=False)


def test_a_schedule_that_cannot_be_is_refused():
    for wrong in (
        {"steps": 0},
        {"steps": True},
        {"batch": 0},
        {"batch": 10**25},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"distil": math.inf},
        {"evaluations": 0},
        {"temperature": 0.0},
        {"statistics_until": 1.5},
    ):
        values: dict[str, Any] = {"steps": 5, "batch": 8, "learning_rate": 0.1, **wrong}
        with pytest.raises(BadSpec, match="is .*: give a"):
            Schedule(**values)


def events_of(folder):
    """{file: [(step, tag, value)]}, in the order in which they were written."""
    events = {}
    for file in sorted((folder / "tensorboard").iterdir()):
        records = (tf.compat.v1.Event.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(file)))
        events[file] = [
            (event.step, value.tag, float(tf.make_ndarray(value.tensor)))
            for event in records
            for value in event.summary.value
        ]
    return events


def test_tensorboard_has_the_loss_the_rate_and_the_scores_and_a_resumed_training_adds_to_them(tmp_path):
    schedule = Schedule(steps=12, batch=2, learning_rate=0.01, evaluations=3)
    scores = iter([10.0, KeyboardInterrupt])

    def score():
        each = next(scores)
        if each is KeyboardInterrupt:
            raise each
        return each

    with pytest.raises(KeyboardInterrupt):
        do_fit(tmp_path, schedule, score)
    (before,) = events_of(tmp_path).values()
    time.sleep(1.1)  # the files are named by the second
    _, fitted = do_fit(tmp_path, schedule, lambda: 30.0)
    first, second = events_of(tmp_path).values()
    assert first == before and (4, "mIoU (percent)", 10.0) in first and (4, "IoU (percent)/road", 50.0) in first
    assert [step for step, tag, _ in first + second if tag == "loss"] == list(range(1, 13))
    losses = {step: value for step, tag, value in first + second if tag == "loss"}
    for entry, since in zip(fitted.history, (0, 4, 8), strict=True):
        assert entry.loss == pytest.approx(np.mean([losses[i] for i in range(since + 1, entry.step + 1)]), rel=1e-5)
    rates = [value for _, tag, value in first + second if tag == "learning rate"]
    assert rates == pytest.approx([0.01 * (1 - i / 12) ** 0.9 for i in range(12)], rel=1e-5)  # no warm-up: one step
    assert [(s, v) for s, tag, v in second if tag == "mIoU (percent)"] == [(8, 30.0), (12, 30.0)]


def test_a_long_training_writes_means_over_several_steps(tmp_path):
    events = Events(tmp_path, Schedule(3000, 2, 0.01))
    for step in range(1, 7):
        events.step(step, float(step))
    events.close()
    (only,) = events_of(tmp_path).values()
    assert [(step, value) for step, tag, value in only if tag == "loss"] == [(3, 2.0), (6, 5.0)]


def test_a_training_goes_on_without_figures_that_cannot_be_written(tmp_path):
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    lines: list[str] = []
    events = Events(tmp_path, Schedule(20, 2, 0.01), lines.append)
    for step in (1, 2):
        events.step(step, 1.0)
        events.scored(step, 1.0, {})
    events.close()
    (line,) = lines
    assert "tensorboard cannot be written (" in line and "goes on without" in line and "{{" not in line


class Simulated:
    """A training in simulated time: the network, what is saved, the checkpoints, the screen and the clock in one."""

    def __init__(self, graph_seconds, step_seconds, scoring_seconds):
        self.costs, self.graph_built = (graph_seconds, step_seconds, scoring_seconds), False
        self.now, self.step, self.best, self.seconds, self.shown = 0.0, 0, -1.0, 0.0, []
        self.rng = np.random.default_rng(0)

    def __call__(self, *_):
        """An update of the weights, or a message."""
        if len(_) == 3:
            self.now += (0.0 if self.graph_built else self.costs[0]) + self.costs[1] * self.rng.uniform(0.9, 1.1)
            self.graph_built, self.step = True, self.step + 1
            return 1.0
        return None

    @contextlib.contextmanager
    def progress(self, *_):
        yield lambda count, left=None, detail="": self.shown.append((self.step, self.now, left))

    @contextlib.contextmanager
    def waiting(self, what):
        yield

    @contextlib.contextmanager
    def averaged(self):
        yield

    def score(self):
        self.now += self.costs[2]

    def expected_seconds(self):
        return 0.85 * self.costs[2]  # as estimated from a few images

    def new(self, symptoms):
        return symptoms

    def symptoms(self):
        return ()

    def add_score(self, percent, symptoms):
        return None

    def class_iou_percent(self):
        return {}

    chooses = True
    loss_scale = None

    def keep_best(self):
        raise AssertionError("nothing is scored")

    def keep_last(self):
        pass

    def save(self):
        pass


@pytest.mark.parametrize(
    ("steps", "evaluations", "costs"),
    [
        (150, 1, (28.0, 0.2, 12.0)),
        (4000, 10, (60.0, 0.5, 40.0)),
        (100, 2, (90.0, 0.05, 3.0)),
        (40, 1, (20.0, 5.0, 2.0)),
    ],
)
def test_after_a_tenth_of_a_training_the_time_left_is_right_to_a_fifth(
    monkeypatch, tmp_path, steps, evaluations, costs
):
    training: Any = Simulated(*costs)
    schedule = Schedule(steps, 2, 0.01, evaluations=evaluations)
    monkeypatch.setattr("pipeline.train.fit.time", types.SimpleNamespace(monotonic=lambda: training.now))
    loop = TrainingLoop(training, training, schedule, training, Events(tmp_path, schedule), training)
    loop.run([(None, None)] * steps)
    ends = training.now
    told = [(step, left, ends - at) for step, at, left in training.shown if step >= math.ceil(steps / 10)]
    assert len(told) == steps - math.ceil(steps / 10) + 1
    for step, left, really in told:
        assert left == pytest.approx(really, rel=0.2), step
    first = next(step for step, _, left in training.shown if left is not None)
    assert first > 2  # not before the graph is built
