"""The three commands on the built-in images, as a new user types them, and what the trained network must be."""

import json

import numpy as np
import pytest

from pipeline.cli.resolve import newest_artifact
from pipeline.convert.parent import load_float
from pipeline.core.run import open_run
from pipeline.data import open_dataset
from pipeline.data.decoded import Decoded
from pipeline.devices.host import HostRunner
from pipeline.measure.score import runner_infer, score_masks
from pipeline.tflite.artifact import open_artifact
from pipeline.tflite.read import read
from tests.support.colour_classifier import colour_classifier_miou


@pytest.fixture(scope="module")
def run(trained):
    return open_run(trained)


@pytest.fixture(scope="module")
def measured(trained, cli):
    """convert and bench after qat, with no argument but the issue's own."""
    home = trained.parent.parent
    converted = cli("convert", "--target", "edgetpu", cwd=home)
    assert converted.returncode == 0, converted.stderr
    benched = cli("bench", "--device", "--json", str(home / "bench.json"), cwd=home)
    assert benched.returncode == 0, benched.stderr
    return json.loads((home / "bench.json").read_text()), benched


def test_the_first_command_says_that_it_trains_the_parent(trained):
    log = trained / "log.txt"
    if not log.exists():
        pytest.skip("SEGQUANT_TRAINED names a run, and what its training said was not kept")
    text = log.read_text()
    assert "training it first. Plan: " in text
    assert text.index("float network: val mIoU") < text.index("QAT network: val mIoU of its int8 file")


def test_the_float_network_is_good_and_eight_bits_cost_at_most_a_point(measured):
    numbers, benched = measured
    assert numbers["parent"]["score"]["miou_percent"] >= 70
    assert numbers["drop_points"] <= 1.0
    assert numbers["agreement_percent"] > 90
    assert "best device attached" in benched.stderr
    for word in ("mIoU %", "IoU pedestrian", "latency median ms", "p90", "peak memory", "file MiB"):
        assert word in benched.stdout


def test_colour_alone_gets_less_than_half(measured):
    dataset = open_dataset("synthetic")
    train, val = ([(s.image(), s.label()) for s in dataset.splits[split]] for split in ("train", "val"))
    colour = colour_classifier_miou(train, val, len(dataset.classes))
    assert 5 < colour < measured[0]["parent"]["score"]["miou_percent"] / 2


def test_the_float_file_agrees_with_keras(run, measured):
    model = load_float(run, run.float_dir / "best.weights.h5")
    (path,) = (run.path / "artifacts" / "float32").glob("*.tflite")
    dataset = open_dataset("synthetic")
    with HostRunner(path, 2) as runner:
        for sample in dataset.splits["val"][:4]:
            image = run.preprocessing.tensor(sample.image(), "float32")
            expected = model(image).numpy()
            assert len(np.unique(expected.argmax(-1))) >= 4
            assert np.abs(runner.infer(image) - expected).max() < 1e-4 * max(1, np.abs(expected).max())


def test_the_int8_file_is_what_it_says(run, measured):
    artifact = newest_artifact(run, "edgetpu", print)
    graph = read(artifact.path.read_bytes())
    recipe = graph.recipe()
    assert recipe == artifact.recipe == open_artifact(artifact.path).recipe
    assert recipe.origin.method == "qat" and recipe.origin.model.size == "192x256" and len(recipe.origin.classes) == 9
    assert len(recipe.origin.calibration.images) == 100 and recipe.to_json()["preprocessing"]["scale"] == 1 / 255
    assert {op.name for op in graph.ops} == {
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "ADD",
        "AVERAGE_POOL_2D",
        "CONCATENATION",
        "RESIZE_BILINEAR",
        "RESHAPE",
    }
    (applied,) = recipe.applied_rewrites  # the pyramid's pool to one bin
    assert applied.rewrite == "repeats" and "ppm_resize1" in applied.output and "one pixel" in applied.why
    assert [graph.tensors[i].dtype for i in (*graph.inputs, *graph.outputs)] == ["int8", "int8"]


def test_what_bench_reports_is_the_score_of_that_file(run, measured):
    artifact = newest_artifact(run, "edgetpu", print)
    assert measured[0]["artifact"]["sha256"] == artifact.sha256
    dataset = open_dataset("synthetic")
    with HostRunner(artifact.path, 1) as runner:
        again = score_masks(Decoded(dataset.splits["val"]), runner_infer(runner, run.preprocessing), dataset.classes)
    assert again.miou_percent == pytest.approx(measured[0]["artifact"]["score"]["miou_percent"])


def test_repeating_the_commands_reuses_what_is_there(trained, measured, cli):
    home = trained.parent.parent
    before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    for command in (["qat"], ["convert", "--target", "edgetpu"]):
        result = cli(*command, cwd=home)
        assert result.returncode == 0 and "reused" in result.stderr, result.stderr
    assert {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()} == before


def test_an_edge_tpu_file_is_scored_through_its_twin(run, measured, trained, cli):
    from pipeline.tflite.artifact import with_compiled

    artifact = newest_artifact(run, "edgetpu", print)
    twin = artifact.path.with_name(f"{artifact.path.stem}_edgetpu.tflite")
    twin.write_bytes(b"compiled by nobody")
    beside = artifact.path.with_suffix(".json")
    kept = beside.read_text()
    try:
        with_compiled(artifact, twin, "by hand")
        result = cli(
            "bench", "--target", "edgetpu", "--images", "2", "--runs", "3", "--starts", "2", cwd=trained.parent.parent
        )
        assert result.returncode == 0 and "the uncompiled file" in result.stdout.replace("\n", " "), result.stderr
    finally:
        twin.unlink()
        beside.write_text(kept)


def test_keras_agrees_with_the_file(trained, cli):
    home = trained.parent.parent
    converted = cli("convert", "--target", "cpu", "--force", cwd=home)
    assert converted.returncode == 0, converted.stderr
    result = cli("agree", "--target", "cpu", "--images", "2", "--json", "agree.json", cwd=home)
    assert result.returncode == 0, result.stderr
    numbers = json.loads((home / "agree.json").read_text())
    assert numbers["parts"] is None and len(numbers["layers"]) > 40
    worst = [layer["layer"] for layer in numbers["layers"] if layer["worst_steps"]]
    assert (
        f"the first layer that differs at all: {worst[0]}, on " if worst else "no layer diverges\n"
    ) in result.stdout
    assert numbers["codes"] >= 50 and numbers["classes"] >= 4
    assert numbers["same_class_percent"] >= 99.5 and numbers["close_percent"] >= 99
    assert numbers["in_training_same_class_percent"] >= 97 and numbers["in_training_close_percent"] >= 90
