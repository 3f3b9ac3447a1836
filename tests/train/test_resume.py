"""A killed training that is resumed ends with the same bits as one that was not killed."""

import contextlib
import json
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from PIL import Image

import models
from pipeline.train.pace import Pace
from pipeline.train.reproducible import draw_by_step, one_order_of_sums
from pipeline.train.resume import Progress
from pipeline.train.schedule import Schedule
from tests.conftest import ROOT

HERE = ROOT / "tests" / "support"
COMMANDS = {
    "train": (
        "train",
        "--model",
        "tiny",
        "--data",
        "folder:data",
        "--size",
        "24x32",
        "--dropout",
        "0.4",
        "--steps",
        "26",
        "--batch",
        "2",
        "--learning-rate",
        "0.05",
    ),
    "qat": (
        "qat",
        "--steps",
        "24",
        "--batch",
        "2",
        "--images",
        "3",
        "--evaluations",
        "3",
        "--freeze-statistics",
        "0.7",
        "--learning-rate",
        "0.05",
    ),
    "control": ("qat", "--control", "--steps", "24", "--batch", "2", "--evaluations", "2", "--freeze-statistics", "1"),
}
FOLDERS = {"train": "float", "qat": "qat", "control": "control"}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, cli):
    """The three trainings, not interrupted."""
    home = tmp_path_factory.mktemp("resume")
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("val", 2)):
        for kind in ("images", "masks"):
            (home / "data" / split / kind).mkdir(parents=True)
        for i in range(count):
            label = np.kron(rng.integers(0, 3, (3, 4)), np.ones((8, 8), int)).astype(np.uint8)
            image = (label[..., None] * 80 + rng.integers(0, 60, (24, 32, 3))).astype(np.uint8)
            Image.fromarray(image).save(home / "data" / split / "images" / f"{i}.png")
            Image.fromarray(label).save(home / "data" / split / "masks" / f"{i}.png")
    (home / "data" / "classes.txt").write_text("a\nb\nc\n")
    with tiny():
        for words in COMMANDS.values():
            process = cli(words[0], "--run", "whole", *words[1:], cwd=home)
            assert process.returncode == 0, process.stderr
    return home


@contextlib.contextmanager
def tiny():
    models.__path__.append(str(HERE / "tiny"))
    try:
        yield
    finally:
        models.__path__.remove(str(HERE / "tiny"))


def arrays(path):
    datasets = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, o: datasets.update({name: o[()]}) if isinstance(o, h5py.Dataset) else None)
        return {**datasets, **{key: str(value) for key, value in file.attrs.items()}}


def outcome(folder):
    """All that a training left behind, but for times."""
    untimed = ("seconds", "step_seconds", "judge_seconds", "machine")
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    result = json.loads((folder / "result.json").read_text())
    assert len(history) == len(result.pop("history"))
    return {
        "best": arrays(folder / "best.weights.h5"),
        "last": arrays(folder / "last.weights.h5"),
        "history": [{k: v for k, v in entry.items() if k not in untimed} for entry in history],
        "result": {k: v for k, v in result.items() if k not in untimed},
    }


CUTS = [
    ("train", "after", "pipeline.train.pace.Pace.step", 14),  # between an update and the next saving
    ("train", "before", "pipeline.train.train.score_masks", 1),  # while the averaged weights are in the network
    ("qat", "before", "pipeline.train.resume.Progress.add_score", 2),  # weights are written, the history is not
    ("qat", "before", "pipeline.core.training.Training.finish", 1),  # the start is kept and written, the result not
    ("control", "after", "pipeline.core.training.Training.write_history", 1),  # written, the progress not saved
]


@pytest.fixture(scope="module")
def cut(uninterrupted):
    """Each command killed in a run of its own: exit codes by number."""
    commands = []
    for number, (kind, when, place, count) in enumerate(CUTS):
        run = uninterrupted / f"cut{number}"
        if kind != "train":
            shutil.copytree(uninterrupted / "whole", run, ignore=shutil.ignore_patterns("qat", "control"))
        words = COMMANDS[kind]
        commands.append((when, place, count, (words[0], "--run", run.name, *words[1:]), f"said{number}"))
    process = subprocess.run(
        [sys.executable, str(HERE / "cut_off.py"), json.dumps(commands)],
        cwd=uninterrupted,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.parametrize("number", range(len(CUTS)), ids=lambda i: f"{CUTS[i][0]}-{CUTS[i][2]}")
def test_a_killed_training_that_goes_on_ends_with_the_same_bits(uninterrupted, cut, cli, number):
    kind = CUTS[number][0]
    folder = uninterrupted / f"cut{number}" / FOLDERS[kind]
    assert cut[number] == -9 and not (folder / "result.json").is_file(), (uninterrupted / f"said{number}").read_text()
    with tiny():
        process = cli(COMMANDS[kind][0], "--run", f"cut{number}", *COMMANDS[kind][1:], cwd=uninterrupted)
    assert process.returncode == 0, process.stderr
    if "train.score_masks" not in CUTS[number][2]:
        assert "resuming from step" in process.stderr
    resumed, expected = outcome(folder), outcome(uninterrupted / "whole" / FOLDERS[kind])
    assert resumed["history"] == expected["history"] and resumed["result"] == expected["result"]
    for name in ("best", "last"):
        assert resumed[name].keys() == expected[name].keys()
        assert all(np.array_equal(resumed[name][key], expected[name][key]) for key in resumed[name])
    assert not (folder / "candidate.weights.h5").exists()


def test_a_second_ctrl_c_while_weights_are_swapped_loses_none(tmp_path):
    from tests.train.test_fit import do_fit

    schedule = Schedule(steps=6, batch=2, learning_rate=0.01, average=2, evaluations=3)
    uninterrupted, fitted = do_fit(tmp_path / "whole", schedule)
    interrupted: list[int] = []
    swap = Progress.put_back

    def twice(progress):
        """The first Ctrl-C comes while the network is scored, the second while its weights are put back."""
        if progress._live is not None and interrupted == [1]:
            interrupted.append(2)
            progress.variables[0].assign(progress._live[0])
            raise KeyboardInterrupt
        swap(progress)

    def score():
        if not interrupted:
            interrupted.append(1)
            raise KeyboardInterrupt
        return 1.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "put_back", twice)
        with pytest.raises(KeyboardInterrupt):
            do_fit(tmp_path / "parts", schedule, score)
    assert interrupted == [1, 2]
    resumed, resumed_fit = do_fit(tmp_path / "parts", schedule)
    assert all(np.array_equal(a, b) for a, b in zip(uninterrupted.get_weights(), resumed.get_weights(), strict=True))
    assert [e.loss for e in resumed_fit.history] == [e.loss for e in fitted.history]


def test_the_draws_of_a_step_depend_on_seed_layer_and_step_alone():
    layers = tf_keras.layers
    model = tf_keras.Sequential([layers.Dropout(0.5, name="a"), layers.SpatialDropout2D(0.5, name="b")])
    ones, step = tf.ones((4, 5, 6, 7)), tf.Variable(3, dtype=tf.int64)

    def drawn(seed, at, layer):
        draw_by_step(model, seed, step)
        step.assign(at)
        return tf.function(lambda x: model.get_layer(layer)(x, training=True))(ones).numpy()

    model(ones)
    first = drawn(0, 3, "a")
    assert np.array_equal(first, drawn(0, 3, "a")) and 0.3 < (first == 0).mean() < 0.7
    others = [drawn(0, 4, "a"), drawn(1, 3, "a"), drawn(0, 3, "b")]
    assert not any(np.array_equal(first, other) for other in others)


def test_large_sums_of_gradients_come_out_the_same_every_time():
    """Four readers of one map of 86 MB: Grappler would add their gradients in any order, those of a small one not."""
    image = tf_keras.layers.Input((176, 240, 3))
    x = tf_keras.layers.Conv2D(64, 3, padding="same")(image)
    model = tf_keras.Model(image, [tf_keras.layers.Conv2D(2, 3, 4, padding="same")(x) for _ in range(4)])
    images = tf.constant(np.random.default_rng(0).random((8, 176, 240, 3), np.float32))

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            loss = sum(tf.reduce_mean(y**2) for y in model(images))
        return tape.gradient(loss, model.trainable_variables)

    def call():
        with one_order_of_sums():
            return [g.numpy() for g in gradients()]

    first = call()
    assert all(all(np.array_equal(a, b) for a, b in zip(first, call(), strict=True)) for _ in range(8))
    assert not tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer")


def test_the_time_left_leaves_out_the_steps_that_build_the_graph():
    pace = Pace(4000)
    for seconds in (28.0, 0.9, *[0.05] * 9):
        pace.step(seconds)
        assert pace.left_seconds(4000, 10) is None
    pace.step(0.05)
    assert pace.left_seconds(3000, 10, 2.0) == pytest.approx(150 + 20)
    assert pace.left_seconds(1200, 0) == pytest.approx(60)
    pace.scoring(6.0)
    assert pace.left_seconds(3000, 10, 2.0) == pytest.approx(150 + 60)
    pace.graph_changes()
    pace.step(30.0)
    assert pace.left_seconds(1200, 0) == pytest.approx(60)
    for _ in range(50):  # the machine becomes slower: what counts is now
        pace.step(0.5)
    assert pace.left_seconds(1200, 0) == pytest.approx(600)


def test_a_slow_step_is_told_of_before_ten_of_them():
    pace = Pace(100)
    for seconds in (60.0, 11.0, 10.5):
        pace.step(seconds)
    assert pace.left_seconds(100, 0) == pytest.approx(1050)


def test_a_short_training_has_its_estimate_after_a_tenth():
    pace = Pace(40)
    for seconds in (9.0, 0.6, 0.2, 0.2):
        pace.step(seconds)
    assert pace.left_seconds(36, 0) == pytest.approx(7.2)


def test_a_pause_between_steps_does_not_count():
    pace = Pace(1000)
    for seconds in (9.0, 0.6, *[0.5] * 30, 3600.0, *[0.5] * 5):
        pace.step(seconds)
    assert pace.left_seconds(900, 0) == pytest.approx(450)
