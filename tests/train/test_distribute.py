"""A training in several processes: its parts add up to that of one process, and it resumes when one is killed."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from PIL import Image

from pipeline.cli.resolve import Wanted
from pipeline.cli.workers import run_of_workers
from pipeline.core.errors import RunError, TrainingDiverged
from pipeline.core.run import open_run
from pipeline.core.workers import Workers
from pipeline.train import distribute
from pipeline.train.distribute import Team, divide_dropout, synchronize_norms
from pipeline.train.feed import Augmentation, Feed
from pipeline.train.loss import segmentation_loss
from pipeline.weights import checkpoint
from tests.conftest import ROOT
from tests.train.test_fit import SHAPE, decoded

CUT_OFF = ROOT / "tests" / "support" / "cut_off.py"
STEP = "pipeline.train.pace.Pace.step"
NEVER = 999


def test_the_parts_of_a_batch_are_the_batch():
    def batches(part):
        return list(Feed(decoded(), SHAPE, 6, Augmentation(paste=0.5), 3, part, rare=(0, 1)).batches(2, 5))

    whole, parts = batches((0, 1)), [batches((rank, 3)) for rank in range(3)]
    for step, (images, labels) in enumerate(whole):
        assert np.array_equal(np.concatenate([part[step][0] for part in parts]), images)
        assert np.array_equal(np.concatenate([part[step][1] for part in parts]), labels)


def test_the_loss_of_parts_is_that_of_the_batch():
    """Its sums are added up before they are divided: the parts have other numbers of labelled pixels."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 6, 8, 3)).astype(np.float32)
    labels = rng.integers(0, 3, (4, 12, 16)).astype(np.uint8)
    labels[:2, :9] = 255
    weights = tf.constant([0.5, 1.0, 2.0])
    sums = []

    def loss(part, total=list):
        return float(segmentation_loss(logits[part], labels[part], weights, 0.5, "half_pixel", total))

    for part in (slice(0, 2), slice(2, 4)):
        each: list[list[tf.Tensor]] = []
        loss(part, lambda tensors, each=each: [each.append(tensors), tensors][1])
        sums.append(each)
    added = iter([[a + b for a, b in zip(*both, strict=True)] for both in zip(*sums, strict=True)])
    assert loss(slice(0, 2), lambda _: next(added)) == pytest.approx(loss(slice(0, 4)), rel=1e-6)
    assert loss(slice(0, 2)) != pytest.approx(loss(slice(0, 4)), rel=1e-2)


def test_each_worker_drops_what_one_process_would():
    def layer(rank=None):
        drop = tf_keras.layers.Dropout(0.5)
        model = tf_keras.Sequential([tf_keras.layers.Input((3, 5, 2)), drop])
        drop._random_generator.dropout = functools.partial(dropped, drop)
        if rank is not None:
            divide_dropout(model, Workers(("a:1", "b:1"), rank))
        return model

    def dropped(layer, inputs, rate, noise_shape=None):
        return tf.nn.experimental.stateless_dropout(inputs, rate, [1, 2], noise_shape=noise_shape)

    inputs = np.random.default_rng(0).normal(size=(6, 3, 5, 2)).astype(np.float32)
    parts = [layer(rank)(inputs[3 * rank : 3 * rank + 3], training=True) for rank in (0, 1)]
    assert np.array_equal(np.concatenate(parts), layer()(inputs, training=True))


def test_a_port_that_is_in_use_is_one_sentence(monkeypatch):
    def taken():
        raise tf.errors.UnknownError(None, None, "Could not start gRPC server")

    monkeypatch.setenv("TF_CONFIG", "")
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", taken)
    with pytest.raises(RunError, match=r"^worker 1 cannot listen at b:22 \(Could not start .*: see that no other"):
        Team(Workers(("a:1", "b:22"), 1))


def test_a_worker_that_does_not_see_the_chiefs_run_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(distribute, "joined", lambda: SimpleNamespace(meet=lambda run: str(tmp_path / "elsewhere")))
    with (
        pytest.raises(
            RunError, match=r"^worker 1 of 2: the chief's run .*elsewhere cannot be copied here \(No such file"
        ),
        run_of_workers(Workers(("a:1", "b:1"), 1), None, Wanted()),
    ):
        pass


def test_a_synchronized_norm_computes_as_the_fused_one(monkeypatch):
    """With one worker, whose sums are those of all."""
    monkeypatch.setattr(distribute, "summed", lambda tensors: tensors)
    inputs = np.random.default_rng(0).normal(2, 3, size=(4, 3, 5, 7)).astype(np.float32)
    outputs, kept = [], []
    for synchronized in (False, True):
        norm = tf_keras.layers.BatchNormalization()
        model = tf_keras.Sequential([tf_keras.layers.Input((3, 5, 7)), norm])
        if synchronized:
            synchronize_norms(model)
        outputs.append([model(inputs, training=training).numpy() for training in (True, False)])
        kept.append([norm.moving_mean.numpy(), norm.moving_variance.numpy()])
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(kept[0], kept[1], rtol=1e-5)


class Pretended(Team):
    """The chief of two workers; ``other``: what the second one adds to a sum."""

    def __init__(self, other):
        self.workers, self.met, self._other = Workers(("a:1", "b:1"), 0), True, other

    def sum(self, array):
        return array + self._other(array)


def test_workers_that_differ_are_told():
    with pytest.raises(RunError, match="worker 1 has quantizer ranges other than the chief"):
        Pretended(lambda array: np.array([0, 7])).check_same(quantizer_ranges=b"x")
    Pretended(lambda array: array[::-1]).check_same(options=b"x")  # the second one has the same digest
    weights = [tf.Variable([1.0, 2.0])]
    near = Pretended(lambda array: np.array([0, 1e-7]) if array.dtype == np.float64 else 0)
    near.check_equal(weights, 3)
    for far in (1e-3, np.nan):
        apart = Pretended(lambda array, far=far: np.array([0, far]) if array.dtype == np.float64 else 0)
        with pytest.raises(TrainingDiverged, match="the weights and ranges of worker 1 differ .* after step 3"):
            apart.check_equal(weights, 3)


def small_folder(folder):
    """A dataset of three classes, which are shades of red."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 3)):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(0, 256, (4, 5, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            Image.fromarray(image).save(folder / split / "images" / f"{i}.png")
            Image.fromarray((image[..., 0] // 86).astype(np.uint8)).save(folder / split / "masks" / f"{i}.png")
    (folder / "classes.txt").write_text("dark\nmiddle\nlight\n")


def together(home, *commands):
    """Runs each (command, after how many steps it kills itself) in a process: (exit code, messages) of each."""
    cuts = [["after", STEP, number, command.split(), f"{i}.log"] for i, (command, number) in enumerate(commands)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1"}
    command = [sys.executable, str(CUT_OFF), json.dumps(cuts)]
    result = subprocess.run(command, cwd=home, capture_output=True, text=True, check=True, env=environment)
    codes = json.loads(result.stdout.splitlines()[-1])
    return [(code, (home / f"{i}.log").read_text()) for i, code in enumerate(codes)]


def losses(folder):
    """The loss of each step, as TensorBoard shows it; the last one of those that were taken twice."""
    found: dict[int, float] = {}
    for file in sorted(Path(folder, "tensorboard").iterdir()):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                if value.tag == "loss":
                    found[event.step] = float(tf.make_ndarray(value.tensor))
    return [found[step] for step in sorted(found)]


@pytest.mark.real
def test_two_workers_train_as_one_and_resume_when_one_is_killed(tmp_path):
    """Float and quantization-aware training with dropout and batch norm; the result converts in a fresh process."""
    small_folder(tmp_path / "data")
    float_training = "train --model tiny --data folder:data --size 32x40 --steps 12 --batch 4 --dropout 0.2"
    quantized = "qat --steps 8 --batch 4 --evaluations 2 --images 4 --freeze-statistics 1"

    def both(command, killed_after=NEVER):
        ports = "127.0.0.1:{},127.0.0.1:{}".format(
            *(w.rpartition(":")[2] for w in Workers.of("local:2", None, {}).addresses)
        )
        named = f"{command} --run two --workers {ports} --rank"
        return (f"{named} 0", NEVER), (f"{named} 1", killed_after)

    trained = together(tmp_path, (f"{float_training} --run one", NEVER), *both(float_training))
    assert [code for code, _ in trained] == [0, 0, 0], trained
    chief, killed = together(tmp_path, *both(quantized, killed_after=5))
    assert killed[0] == -9 and chief[0] == 2, (killed, chief)
    assert chief[1].count("another worker ended or cannot be reached") == 1 and "Traceback" not in chief[1]
    resumed = together(tmp_path, (f"{quantized} --run one", NEVER), *both(quantized))
    assert [code for code, _ in resumed] == [0, 0, 0], resumed
    assert "resuming from step" in resumed[1][1] and "the chief writes the result" in resumed[2][1]

    one, two = open_run(tmp_path / "one"), open_run(tmp_path / "two")
    for training in ("float_dir", "qat_dir"):
        np.testing.assert_allclose(losses(getattr(one, training)), losses(getattr(two, training)), rtol=2e-4)
    assert len(losses(one.float_dir)) == 12 and len(losses(one.qat_dir)) == 8
    ranges = [checkpoint.ranges_in(run.qat_training.last) for run in (one, two)]
    start = one.qat_training.start()
    assert ranges[0].keys() == ranges[1].keys() and start is not None
    assert any(abs(ranges[1][point].high - start.ranges[point].high) > 1e-4 for point in ranges[1])  # they were learned
    for point, ours in ranges[0].items():
        np.testing.assert_allclose([ours.low, ours.high], [ranges[1][point].low, ranges[1][point].high], rtol=1e-3)

    ((code, messages),) = together(tmp_path, ("convert --target cpu --run two", NEVER))
    assert code == 0 and list(tmp_path.glob("two/artifacts/cpu/*.tflite")), messages
