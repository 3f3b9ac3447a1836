"""Quantization-aware training, in few steps on few small images: what it takes, keeps apart and says."""

import json
import re

import h5py
import numpy as np
import pytest
from PIL import Image

import models
from pipeline.core.dataset import Sample
from pipeline.core.ranges import ranges_from_json
from pipeline.core.recipe import Recipe
from pipeline.core.run import create, open_run
from pipeline.core.spec import ModelSpec
from pipeline.core.training import plain
from pipeline.data.camvid import CAMVID
from pipeline.tflite.artifact import open_artifact
from pipeline.train.held_out import hold_out
from pipeline.train.judge import fewest_held_out, judge_gain
from pipeline.train.train import FloatTraining, float_schedule, float_training
from pipeline.weights import checkpoint

SHORT = ("--steps", "3", "--batch", "2", "--evaluations", "1")
COMMON = (*SHORT, "--images", "3")


@pytest.fixture(scope="module")
def parent(tmp_path_factory, cli):
    """A folder dataset of 25 + 4 images, five of them held out in QAT, and a float parent of four steps."""
    home = tmp_path_factory.mktemp("qat")
    rng = np.random.default_rng(0)
    for split, count in (("train", 25), ("val", 4)):
        for kind in ("images", "masks"):
            (home / "data" / split / kind).mkdir(parents=True)
        for i in range(count):
            label = np.kron(rng.integers(0, 3, (6, 6)), np.ones((16, 16), int)).astype(np.uint8)
            image = (label[..., None] * 80 + rng.integers(0, 60, (96, 96, 3))).astype(np.uint8)
            Image.fromarray(image).save(home / "data" / split / "images" / f"{i}.png")
            Image.fromarray(label).save(home / "data" / split / "masks" / f"{i}.png")
    (home / "data" / "classes.txt").write_text("a\nb\nc\n")
    arguments = ("--data", "folder:data", "--model", "fcn8", "--size", "72x104", "--alpha", "0.125")
    process = cli("train", "--run", "runs/parent", *arguments, "--steps", "4", "--batch", "2", cwd=home)
    assert process.returncode == 0, process.stderr
    return home, arguments


def start(parent, cli, name, *more):
    home, arguments = parent
    weights = "runs/parent/float/best.weights.h5"
    common = SHORT if "--control" in more else COMMON
    process = cli("qat", "--run", f"runs/{name}", *arguments, "--parent", weights, *common, *more, cwd=home)
    assert process.returncode == 0, process.stderr
    return open_run(home / "runs" / name), process


def ranges_of_checkpoint(path):
    with h5py.File(path) as file:
        return ranges_from_json(json.loads(file.attrs["segquant_ranges"]))


def samples(count):
    return tuple(Sample(f"{i:03}", None, None) for i in range(count))


def test_held_out_images_are_not_trained_on():
    kept, out = hold_out(samples(367))
    assert len(out) == 40 and len(kept) == 327 and not set(kept) & set(out)
    for count, held in ((10, 2), (5, 1), (4, 0), (1, 0)):
        kept, out = hold_out(samples(count))
        assert len(out) == held and {*kept, *out} == set(samples(count)) and len(kept) + len(out) == count


@pytest.mark.parametrize("evaluations", [1, 2, 4, 100])
def test_as_many_are_held_out_that_a_gain_on_all_of_them_is_no_luck(evaluations):
    fewest = fewest_held_out(evaluations)
    assert 0.5**fewest <= 0.05 / evaluations < 0.5 ** (fewest - 1)  # all gain where each does so with even chance


def confusions(*hits):
    """Of images with 100 pixels of each of two classes, ``hits`` of them right."""
    return np.array([[[n, 100 - n], [100 - n, n]] for n in hits])


def test_a_gain_that_cannot_be_told_from_luck_is_not_judged():
    start, better = confusions(50, 60, 70, 55, 65), confusions(80, 85, 90, 95, 82)
    verdict = judge_gain(start, better, 1, 25)
    assert verdict.gained and verdict.points > verdict.needed > 0 and verdict.why_not is None
    for before, after, evaluations, words in (
        (start[:4], better[:4], 1, "4 of 25 images held out with labels .* 5. Give 25 training images"),
        (start[:1], better[:1], 1, "1 of 25"),
        (start, better, 2, "it takes 6. Give 30"),  # the better of two checkpoints
        (np.concatenate([start[:4], 0 * start[:1]]), np.concatenate([better[:4], 0 * start[:1]]), 1, "4 of 25"),
        (confusions(*[50] * 5), confusions(*[80] * 5), 1, "all alike"),
    ):
        verdict = judge_gain(before, after, evaluations, 25)
        assert not verdict.gained and verdict.points is verdict.error is None and verdict.needed == 100
        assert re.search(words, str(verdict)) and "the start is kept" in str(verdict)
    same = judge_gain(start, start, 1, 25)
    assert not same.gained and same.points == same.needed == 0 and same.why_not is None


def test_learned_ranges_move_and_travel_with_the_weights(parent, cli):
    run, process = start(parent, cli, "learned", "--learning-rate", "0.05")
    assert "20 images, 5 held out" in process.stderr
    result = json.loads((run.qat_dir / "result.json").read_text())
    assert result["held_out_images"] == 5 and result["held_out_against"] == "labels"
    start_ranges = ranges_from_json(json.loads((run.qat_dir / "ranges.json").read_text())["ranges"])
    trained = ranges_of_checkpoint(run.qat_dir / "last.weights.h5")  # the best may be the start
    moved = [abs(trained[p].high - start_ranges[p].high) > 1e-4 * start_ranges[p].high for p in start_ranges]
    assert trained.keys() == start_ranges.keys() and sum(moved) > len(moved) / 2
    home = parent[0]
    process = cli("convert", "--run", "runs/learned", "--target", "cpu", cwd=home)
    assert process.returncode == 0, process.stderr
    (beside,) = run.artifacts("cpu").glob("*-qat-*.json")
    recipe = Recipe.from_json(json.loads(beside.read_text())["recipe"])
    kept = ranges_of_checkpoint(run.qat_dir / "best.weights.h5")
    assert recipe.ranges == kept and recipe.file.per_tensor is False
    process = cli("convert", "--run", "runs/learned", "--target", "cpu", "--per-tensor", cwd=home)
    assert process.returncode == 2 and "trained for per-channel" in process.stderr
    process = cli(
        "convert",
        "--run",
        "runs/learned",
        "--target",
        "cpu",
        "--method",
        "ptq",
        "--per-tensor",
        "--calibration",
        "percentile",
        "--select",
        "coverage",
        "--images",
        "4",
        cwd=home,
    )
    assert process.returncode == 0, process.stderr
    (beside,) = run.artifacts("cpu").glob("*-ptq-*.json")
    recipe = Recipe.from_json(json.loads(beside.read_text())["recipe"])
    assert recipe.file.per_tensor and recipe.origin.calibration.method == "percentile"
    assert recipe.origin.calibration.selection == "coverage" and len(recipe.origin.calibration.images) == 4


@pytest.mark.parametrize(("rate", "steps", "gains"), [("1e-9", "1", False), ("0.001", "30", True)])
def test_the_start_is_kept_unless_training_gains_on_held_out_images(parent, cli, rate, steps, gains):
    run, process = start(parent, cli, f"gains-{gains}", "--learning-rate", rate, "--steps", steps, "--distil", "0")
    result = json.loads((run.qat_dir / "result.json").read_text())
    assert (result["gain_points"] > result["gain_needed_points"]) == gains
    of_one = {1: 1.6449, 2: 1.9600}[len(result["history"])]  # a normal deviate exceeds it once in 20, in 40 times
    assert result["gain_needed_points"] == pytest.approx(of_one * result["gain_standard_error_points"], rel=1e-4)
    assert ("the start is kept" in process.stderr) == (not gains) and (result["kept_step"] == 0) == (not gains)
    model = models.build(run.config.model)
    checkpoint.load(model, run.float_dir / "best.weights.h5")
    parent_weights = model.get_weights()
    checkpoint.load(model, run.qat_dir / "best.weights.h5")
    assert all(np.array_equal(a, b) for a, b in zip(parent_weights, model.get_weights(), strict=True)) == (not gains)
    ranges = ranges_from_json(json.loads((run.qat_dir / "ranges.json").read_text())["ranges"])
    assert (ranges_of_checkpoint(run.qat_dir / "best.weights.h5") == ranges) == (not gains)
    says_so(run, parent[0], cli, not gains, process.stderr)


def says_so(run, home, cli, kept, output):
    """Whether the start was kept: in what qat says, in the file's name and recipe, and in what `inspect` says."""
    assert ("as post-training quantization makes them" in output) == kept == ("as good as it gets" in output)
    converted = cli("convert", "--run", str(run.path), "--target", "cpu", cwd=home)
    assert converted.returncode == 0 and ("qat, which kept its start, checked" in converted.stdout) == kept, (
        converted.stderr
    )
    (file,) = (path for path in run.artifacts("cpu").glob("*.tflite"))
    assert file.name == f"fcn8-qat-{'start-' if kept else ''}logits-uint8.tflite"
    beside = Recipe.from_json(json.loads(file.with_suffix(".json").read_text())["recipe"])
    for recipe in (beside, open_artifact(file).recipe):
        assert recipe.origin.kept_start == kept and recipe.origin.method == "qat"
    seen = cli("inspect", str(run.path), "--no-compiler", cwd=home)
    assert ("kept its start" in " ".join(seen.stdout.split())) == kept, seen.stderr
    again = cli("convert", "--run", str(run.path), "--target", "cpu", cwd=home)
    assert again.returncode == 0 and "made the same way: reused" in again.stderr, again.stderr


def test_without_labels_and_with_images_of_a_folder(parent, cli, tmp_path):
    home = parent[0]
    rng = np.random.default_rng(1)
    (tmp_path / "more" / "deep").mkdir(parents=True)
    for i in range(7):
        image = rng.integers(0, 256, (90, 80, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "more" / ("deep" if i % 2 else "") / f"{i}.png")
    run, process = start(
        parent,
        cli,
        "free",
        "--no-labels",
        "--images-from",
        str(tmp_path / "more"),
        "--ranges",
        "frozen",
        "--per-tensor",
        "--select",
        "coverage",
        "--images",
        "7",
    )
    assert "6 images, 1 held out" in process.stderr and "the start will be kept, whatever" in process.stderr
    result = json.loads((run.qat_dir / "result.json").read_text())
    assert result["held_out_against"] == "class probabilities of the float parent"
    assert result["kept_step"] == 0 and "it takes 5. Give 25" in result["gain_not_judged"]
    assert result["gain_points"] is result["gain_standard_error_points"] is None
    assert result["gain_needed_points"] == 100  # no gain is enough
    assert result["held_out_start_percent"] is not None
    assert "class weights of the parent's loss are not known" not in process.stderr
    weights = checkpoint.class_weights_in(run.float_dir / "best.weights.h5")
    assert weights is not None  # they came with the parent, whose logits have lost half of their logarithm
    assert np.mean(np.square(weights)) == pytest.approx(1, abs=1e-4)
    data = json.loads((run.qat_dir / "ranges.json").read_text())
    names = {f"{i}.png" if i % 2 == 0 else f"deep/{i}.png" for i in range(7)}
    calibrated = set(data["calibration"]["images"])
    assert calibrated < names and len(calibrated) == 6  # the image held out judges the file, so it does not shape it
    assert ranges_of_checkpoint(run.qat_dir / "best.weights.h5") == ranges_from_json(data["ranges"])
    process = cli("convert", "--run", "runs/free", "--target", "cpu", cwd=home)
    assert process.returncode == 0, process.stderr
    process = cli(
        "qat",
        "--run",
        "runs/free",
        *COMMON,
        "--select",
        "class-balanced",
        "--images-from",
        str(tmp_path / "more"),
        "--force",
        cwd=home,
    )
    assert process.returncode == 2 and "needs labels" in process.stderr


def test_the_control_is_float_and_touches_nothing_and_without_images_held_out_the_start_is_kept(parent, cli, tmp_path):
    for i in range(3):
        Image.fromarray(np.full((80, 90, 3), 60 * i, np.uint8)).save(tmp_path / f"{i}.png")
    run, process = start(parent, cli, "control", "--control", "--no-labels", "--images-from", str(tmp_path))
    assert (run.control_dir / "result.json").is_file() and not run.qat_dir.exists()
    assert "float control" in process.stdout
    with h5py.File(run.control_dir / "best.weights.h5") as file:
        assert "segquant_ranges" not in file.attrs
    assert "3 images, 0 held out" in process.stderr and "0 of 3 images held out are too few to tell" in process.stderr
    result = json.loads((run.control_dir / "result.json").read_text())
    assert result["held_out_images"] == result["kept_step"] == 0 and result["best_step"] is None
    assert [e["miou_percent"] for e in result["history"]] == [None]
    assert (run.control_dir / "last.weights.h5").is_file()
    model = models.build(run.config.model)
    checkpoint.load(model, run.float_dir / "best.weights.h5")
    parent_weights = model.get_weights()
    checkpoint.load(model, run.control_dir / "best.weights.h5")
    assert all(np.array_equal(a, b) for a, b in zip(parent_weights, model.get_weights(), strict=True))


@pytest.mark.parametrize("images", [3, 25])
def test_the_last_step_is_kept_where_that_is_asked(parent, cli, tmp_path, images):
    """Though nothing is gained (of 25), or nothing can tell (of 3)."""
    for i in range(images):
        Image.fromarray(np.full((80, 90, 3), 9 * i, np.uint8)).save(tmp_path / f"{i}.png")
    options = ("--no-labels", "--images-from", str(tmp_path), "--keep", "last", "--evaluations", "2")
    run, process = start(parent, cli, f"last-{images}", *options, "--learning-rate", "1e-5")
    result = json.loads((run.qat_dir / "result.json").read_text())
    assert result["kept_step"] == 3 and (result["held_out_images"] == 0) == (images == 3)
    assert "the last step is kept, as asked" in process.stderr and "the start" not in process.stderr.replace(
        "start  m", ""
    )
    assert ("was not tested" in process.stderr) == (images == 3)
    models_weights = []
    for path in (run.qat_dir / "best.weights.h5", run.qat_dir / "last.weights.h5", run.float_dir / "best.weights.h5"):
        model = models.build(run.config.model)
        checkpoint.load(model, path)
        models_weights.append(np.concatenate([x.reshape(-1) for x in model.get_weights()]))
    best, last, before = models_weights
    assert np.array_equal(best, last) and not np.array_equal(best, before)
    assert ranges_of_checkpoint(run.qat_dir / "best.weights.h5") == ranges_of_checkpoint(
        run.qat_dir / "last.weights.h5"
    )
    says_so(run, parent[0], cli, False, process.stderr)
    start(parent, cli, f"last-{images}", *options, "--learning-rate", "1e-5")  # the settings are those it knows


def test_a_parent_is_copied_scored_and_checked(parent, cli, tmp_path):
    home, arguments = parent
    run, process = start(parent, cli, "adopted")
    scored = json.loads((home / "runs/parent/float/result.json").read_text())["best_val_miou_percent"]
    assert json.loads((run.float_dir / "result.json").read_text())["best_val_miou_percent"] == pytest.approx(scored)
    repeated = cli("qat", "--run", "runs/adopted", *COMMON, cwd=home)
    assert repeated.returncode == 0 and "reused" in repeated.stderr
    (tmp_path / "broken.weights.h5").write_bytes(b"no")
    for weights, words in (("nowhere.h5", "does not exist"), (str(tmp_path / "broken.weights.h5"), "is a broken .h5")):
        process = cli("qat", "--run", "runs/refused", *arguments, "--parent", weights, *COMMON, cwd=home)
        assert process.returncode == 2 and words in process.stderr and "Traceback" not in process.stderr
    process = cli(
        "train", "--run", "runs/refused", *arguments, "--parent", "runs/parent/float/best.weights.h5", cwd=home
    )
    assert process.returncode == 0, process.stderr


def test_every_way_to_calibrate_is_scored_once(parent, cli):
    home = parent[0]
    command = ("calibrate", "--run", "runs/parent", "--images", "3", "--json", "sweep.json")
    first = cli(*command, "--calibration", "mse", "--select", "first", "--select", "class-balanced", cwd=home)
    assert first.returncode == 0, first.stderr
    rows = json.loads((home / "sweep.json").read_text())["rows"]
    repeated = cli(*command, "--calibration", "mse", "--calibration", "entropy", "--select", "first", cwd=home)
    assert repeated.returncode == 0, repeated.stderr
    more = json.loads((home / "sweep.json").read_text())["rows"]
    assert more[0] == rows[0] and more[1]["method"] == "entropy"
    assert (home / "sweep.json.1").is_file()
    wrong = cli(*command, "--calibration", "entropi", cwd=home)
    assert wrong.returncode == 2 and "did you mean 'entropy'" in wrong.stderr


@pytest.mark.parametrize(
    "wrong", [{"init": "x"}, {"init": [1]}, {"init": {"file": 5}}, {"encoder_weights": [1]}], ids=str
)
def test_a_start_of_nonsense_in_the_settings_is_not_taken_for_one(tmp_path, wrong):
    """A stranger's run, whose float training was interrupted; ``is_finished`` then names what differs."""
    run = create(tmp_path / "run", ModelSpec("fast-scnn", 72, 104, 5), "synthetic", "abcde", [], 0)
    usual, begun = float_schedule(run, None, 2, None), float_schedule(run, 7, 3, 0.01)
    run.float_training.begin({"schedule": plain(begun), "encoder_weights": None, "init": {"file": "w.h5"}})
    assert float_training(run, None, 2, None) == FloatTraining(begun, None, "w.h5")
    run.float_training.begin({"schedule": plain(begun), **wrong}, force=True)
    assert float_training(run, None, 2, None) == FloatTraining(usual)


@pytest.mark.parametrize("network, rate", [("fast-scnn", 1.0), ("fcn8", 0.25)])
def test_the_schedule_is_the_datasets(tmp_path, network, rate):
    run = create(tmp_path / "run", ModelSpec(network, 72, 104, 5), "camvid:x", "abcde", [], 0)
    schedule, camvid = float_schedule(run, None, 8, None), CAMVID.training
    assert (schedule.steps, schedule.evaluations) == (camvid.steps, camvid.evaluations)
    assert schedule.learning_rate == pytest.approx(rate * camvid.learning_rate)
    assert (schedule.hard, schedule.weight_decay) == (camvid.hard, camvid.weight_decay) == (0.7, 0.1)
    assert float_schedule(run, None, 8, None, tuning=True).hard == 0.7


def test_the_float_steps_are_said_and_can_be_set(parent, cli):
    home, arguments = parent
    weights = "runs/parent/float/best.weights.h5"
    run = ("qat", "--run", "runs/steps", *arguments)
    process = cli(*run, "--parent", weights, "--float-steps", "5", cwd=home)
    assert process.returncode == 2 and "--parent gives one" in process.stderr and not (home / "runs/steps").exists()
    process = cli(*run, "--float-steps", "5", "--no-labels", "--distil", "0", cwd=home)  # before the float training
    assert process.returncode == 2 and not (home / "runs/steps").exists()
    process = cli("qat", "--run", "runs/parent", "--float-steps", "5", cwd=home)
    assert process.returncode == 2 and "was trained for 4 steps. Leave --float-steps out" in process.stderr
    config = open_run(home / "runs" / "parent").config
    steps = create(home / "runs" / "steps", config.model, config.data, config.classes, config.colours, config.seed)
    assert float_training(steps, 5, 2, None).schedule.steps == 5
    assert float_training(steps, None, 2, None).schedule.steps == 4000
    interrupted = float_schedule(steps, 7, 3, 0.01)  # a training keeps its schedule when it is resumed
    steps.float_training.begin({"schedule": plain(interrupted), "encoder_weights": None})
    assert float_training(steps, None, 2, None).schedule == interrupted
    assert float_training(open_run(home / "runs" / "parent"), 4, 2, None) is None
