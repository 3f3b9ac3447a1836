"""``benchmarks.side_by_side``, which trains by JAX, against the Keras network and pipeline.train: the same steps."""

from __future__ import annotations

import subprocess
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import models
from pipeline.core.spec import ModelSpec
from pipeline.train import feed
from pipeline.train.fit import prepare
from pipeline.train.schedule import Schedule
from pipeline.train.update import Lesson
from tests.conftest import ROOT

PYTHON = ROOT / ".jax" / "bin" / "python"
WORKER = ROOT / "tests" / "support" / "side_by_side_worker.py"
SIZE, CLASSES, STEPS = (192, 256), 11, 12
AUGMENTATION = feed.Augmentation((0.5, 2.5), True, 0.3, 0.6, 0.3, 0.25)
SCHEDULE = Schedule(STEPS, 2, 2e-3, weight_decay=0.1, hard=0.7)


def name_of(variable: tf.Variable) -> str:
    return str(variable.name).removesuffix(":0")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What TensorFlow makes of a case and what JAX makes of it; see side_by_side_worker.py."""
    if not PYTHON.exists():
        pytest.skip("JAX is not installed: run `make test-real`, which makes .jax")
    folder = tmp_path_factory.mktemp("side-by-side")
    case, ours = made(folder)
    np.savez(folder / "case.npz", **case)
    command = [PYTHON, WORKER, folder / "case.npz", folder / "out.npz"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return ours, dict(np.load(folder / "out.npz"))


def made(folder: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(3)
    tf_keras.utils.set_random_seed(5)
    model = models.build(ModelSpec("fast-scnn", *SIZE, CLASSES, dropout=0.0))
    class_weights = rng.uniform(0.2, 3, CLASSES).astype(np.float32)
    images = rng.uniform(0, 1, (2, *SIZE, 3)).astype(np.float32)
    coarse = rng.integers(0, CLASSES + 1, (2, 12, 16))
    labels = np.where(coarse < CLASSES, coarse, 255).astype(np.uint8).repeat(16, 1).repeat(16, 2)
    names = ("ltd_ds2_pw_relu", "ppm_out_relu")
    lesson = Lesson(None, class_weights, AUGMENTATION, 0, "align_corners", names)  # type: ignore[arg-type]
    update, progress, _ = prepare(model, lesson, SCHEDULE, folder)
    variables = {name_of(v): v for v in (*model.weights, *update._trained)}
    case: dict[str, Any] = {f"w:{name}": v.numpy() for name, v in variables.items()}
    for field in ("learning_rate", "weight_decay", "hard", "jaccard", "auxiliary", "average"):
        case[f"s:{field}"] = getattr(SCHEDULE, field)
    for field in ("colour", "exposure", "gamma"):
        case[f"s:{field}"] = getattr(AUGMENTATION, field)
    case |= {"s:scale_from": AUGMENTATION.scale[0], "s:scale_to": AUGMENTATION.scale[1], "s:dropout": 0.0}
    case |= {"images": images, "labels": labels, "class_weights": class_weights, "steps": STEPS}

    ours: dict[str, Any] = {}
    ours["logits"] = tf_keras.Model(model.input, model.get_layer("logits_resize").input)(images).numpy()
    _, gradients = tf.function(update._gradients)(images, labels, True)
    ours |= {f"g:{name_of(v)}": g.numpy() for v, g in zip(update._trained, gradients, strict=True)}
    ours["losses"] = [update(images, labels, True) for _ in range(STEPS)]
    ours |= {f"w:{name}": v.numpy() for name, v in variables.items()}
    ours |= {f"a:{name_of(v)}": a.numpy() for v, a in zip(progress.variables, progress.averages, strict=True)}

    pictures = rng.integers(0, 256, (9, 200, 300, 3)).astype(np.uint8)
    masks = rng.integers(0, CLASSES, (9, 200, 300)).astype(np.uint8)
    seeds = [tf.constant([n, 11]) for n in range(9)]
    augmented = [feed.augment(i, m, s, *SIZE, AUGMENTATION) for i, m, s in zip(pictures, masks, seeds, strict=True)]
    ours["augmented"], ours["augmented_labels"] = (np.stack(x) for x in zip(*augmented, strict=True))
    chosen = np.zeros((9, 256), bool)
    chosen[:, :CLASSES] = rng.uniform(size=(9, CLASSES)) < 0.3
    ours["pasted"], ours["pasted_labels"] = feed.paste(ours["augmented"], ours["augmented_labels"], chosen)
    seen = [tf.nn.conv2d(x / 255, case["w:ltd_conv/kernel"], 2, "SAME") for x in (pictures[:8], pictures[:8, :, ::-1])]
    ours["moving_mean"] = np.mean([np.mean(x, (0, 1, 2)) for x in seen], 0)
    ours["moving_variance"] = np.mean([np.var(x, (0, 1, 2), ddof=1) for x in seen], 0)
    fold = tf.random.experimental.stateless_fold_in
    case["look"] = np.stack([tf.random.stateless_uniform([12], s) for s in seeds])
    case["light"] = np.stack([tf.random.stateless_uniform([2], fold(s, feed.LIGHT)) for s in seeds])
    return case | {"pictures": pictures, "masks": masks, "chosen": chosen}, ours


@pytest.mark.real
def test_the_network_is_the_same(both):
    ours, theirs = both
    assert theirs["shapes"].tolist() == sorted(f"{n[2:]} {x.shape}" for n, x in ours.items() if n.startswith("w:"))
    np.testing.assert_allclose(theirs["logits"], ours["logits"], atol=1e-6 * np.abs(ours["logits"]).max())


@pytest.mark.real
@pytest.mark.parametrize("what", ["augmented", "pasted"])
def test_batches_are_augmented_alike(both, what):
    ours, theirs = both
    np.testing.assert_allclose(theirs[what], ours[what], atol=2e-4)
    np.testing.assert_array_equal(theirs[f"{what}_labels"], ours[f"{what}_labels"])
    assert len(np.unique(ours[f"{what}_labels"])) == CLASSES + 1


@pytest.mark.real
def test_gradients_are_the_same_but_for_rounding(both):
    """TensorFlow's are a hundredth away from those in float64 behind 20 layers of ReLU, JAX's a quarter of that."""
    ours, theirs = both

    def distance(name: str) -> float:
        return float(np.linalg.norm(theirs[name] - ours[name]) / np.linalg.norm(ours[name]))

    assert distance("g:head_logits/kernel") < 1e-4
    assert distance("g:aux_ltd_ds2_pw_relu/kernel") < 1e-4
    kernels = [name for name in ours if name.startswith("g:") and name.endswith(("kernel", "gamma"))]
    assert len(kernels) > 80
    assert max(map(distance, kernels)) < 0.1
    assert np.median([distance(name) for name in kernels]) < 0.03


@pytest.mark.real
def test_a_short_training_has_the_same_losses_and_ends_with_the_same_statistics(both):
    ours, theirs = both
    np.testing.assert_allclose(theirs["losses"][:3], ours["losses"][:3], rtol=0.01)
    np.testing.assert_allclose(theirs["losses"], ours["losses"], rtol=0.03)
    for name in ("w:ltd_conv/kernel", "a:ltd_conv/kernel", "w:ltd_conv_bn/moving_variance", "a:head_ds2_pw/kernel"):
        far = np.linalg.norm(theirs[name] - ours[name]) / np.linalg.norm(ours[name])
        assert far < 0.1, (name, far)


@pytest.mark.real
@pytest.mark.parametrize(("what", "before"), [("moving_mean", 0), ("moving_variance", 1)])
def test_statistics_settle_a_quarter_of_the_way_to_those_of_plain_images(both, what, before):
    ours, theirs = both
    np.testing.assert_allclose(theirs[what], 0.75 * before + 0.25 * ours[what], rtol=1e-4, atol=1e-5)
