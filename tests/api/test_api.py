"""The Python API: loaded when it is used, the same names for people and for mypy, and the verbs do what commands do."""

import ast
import doctest
import importlib
import inspect
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import pipeline
from pipeline import Quantization, Schedule, create_run, open_dataset
from pipeline.core.calibration import Calibration
from pipeline.core.errors import ArtifactError, BadSpec, DataError, RunError, UnknownName
from pipeline.core.spec import ModelSpec
from pipeline.data import dataset_to_score
from pipeline.data.decoded import Decoded
from pipeline.measure.confusion import confusion
from pipeline.measure.score import on_this_machine, score, score_masks
from tests.conftest import ROOT, noise_images, ranges_of, still
from tests.support.small_run import QUICK, small_data

VERBS = (
    *("build", "calibrate", "check", "convert", "gate", "inspect", "measure", "predict", "quantize"),
    *("quantize_aware_train", "report", "score", "train"),
)


def test_the_example_of_the_docstring():
    assert pipeline.__doc__.count(">>> ") == 9
    failed, tried = doctest.testmod(pipeline)
    assert failed == 0 and tried == 9


@pytest.mark.parametrize("before", ["", "import pipeline.quantize, pipeline.train, pipeline.convert, pipeline.measure"])
def test_importing_a_verb_loads_no_framework(before):
    lazy = f"""
{before}
from pipeline import quantize, train, convert, measure, FileSpec, Recipe, Range, ModelSpec, open_run, SegquantError
import sys, pipeline
assert set({VERBS}) <= set(dir(pipeline)) and callable(quantize) and callable(train)
print([n for n in ("tensorflow", "tf_keras", "ai_edge_litert") if n in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", lazy], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_name_is_there_for_people_and_for_mypy():
    tree = ast.parse((ROOT / "pipeline" / "__init__.py").read_text())
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    names = {alias.asname for node in typed.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert {name for name in names if name} == set(pipeline._PLACES)
    for name, (module, attribute) in pipeline._PLACES.items():
        value, loaded = getattr(pipeline, name), importlib.import_module(f"pipeline.{module}")
        assert name in dir(pipeline) and (value is getattr(loaded, attribute) or name in VERBS)
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        _ = pipeline.quantise
    with pytest.raises(ImportError):
        importlib.import_module("pipeline.quantise")


def test_a_verb_that_is_a_package_stays_both():
    from pipeline.quantize import plan

    assert vars(pipeline.quantize)["plan"] is plan and "ranges" in inspect.signature(pipeline.quantize).parameters
    assert "encoder_weights" in inspect.signature(pipeline.train).parameters


def test_quantize_and_score_do_what_the_stages_do(tmp_path):
    from pipeline.quantize.quantize import quantize

    model, data = still("fcn8"), open_dataset("synthetic")
    images = [np.rint(image * 255).astype(np.uint8) for image in noise_images(model)]
    ranges = pipeline.calibrate(model, images)
    assert ranges.keys() == ranges_of("fcn8").keys()
    assert all(abs(ranges[k].high - r.high) < 1e-4 * (r.high - r.low) for k, r in ranges_of("fcn8").items())
    quantized = pipeline.quantize(model, ranges, "edgetpu")
    assert quantized.data == quantize(model, ranges, pipeline.target("edgetpu")).data
    file = tmp_path / "net.tflite"
    file.write_bytes(quantized.data)
    seen = pipeline.inspect(quantized, "edgetpu", compiler=False)
    assert seen == pipeline.inspect(file, "edgetpu", compiler=False) and seen.coverage.ops > 20
    with pytest.raises(UnknownName, match="did you mean 'edgetpu'"):
        pipeline.quantize(model, ranges, "edgetp")
    with pytest.raises(BadSpec, match="calibrate got no image"):
        pipeline.calibrate(model, [])
    with pytest.raises(BadSpec, match="no split 'test'"):
        pipeline.score(quantized, data, split="test")
    for network in (model, quantized, str(file)):
        with pytest.raises(BadSpec, match="the network has 5 classes and synthetic has 9"):
            pipeline.score(network, data)
    others: list[Any] = [images[0] / 255, images[0][..., :2], images[0][None], "photo.jpg"]
    for wrong in others:
        with pytest.raises(BadSpec, match=r"give uint8 \[height, width, 3\]"):
            pipeline.calibrate(model, [wrong])
        with pytest.raises(BadSpec, match=r"give uint8 \[height, width, 3\]"):
            next(pipeline.predict(str(file), [wrong]))
    assert pipeline.inspect(str(file), "edgetpu", compiler=False) == seen


def test_what_python_gives_is_refused_in_a_sentence_or_taken(tmp_path):
    run = create_run(str(tmp_path / "run"), ModelSpec("fast-scnn", 192, 256, 9), "synthetic")
    assert pipeline.open_run(str(run.path)) == pipeline.open_run(run.path) == run
    with pytest.raises(ArtifactError, match="cannot be read"):
        pipeline.open_artifact(str(tmp_path / "none.tflite"))
    with pytest.raises(BadSpec, match="method is 'qta': choose 'qat', 'ptq'"):
        Quantization("qta")
    for wrong in ({"l2": "a"}, {"dropout": 1}, {"dropout": float("nan")}):
        with pytest.raises(BadSpec, match=next(iter(wrong))):
            ModelSpec("fast-scnn", 192, 256, 9, **wrong)
    for given in ({"size": "192x256"}, {"num_classes": 9}, {"alpha": 0.5}):
        with pytest.raises(BadSpec, match=f"{next(iter(given))}=.* has no effect beside a ModelSpec"):
            pipeline.build(run.config.model, **given)
    network = pipeline.build("fast-scnn", "192x256", 9, 0.125)
    with pytest.raises(BadSpec, match="resize='half_pixel' has no effect for a Keras network"):
        pipeline.score(network, "synthetic", resize="half_pixel")
    with pytest.raises(BadSpec, match="resize='half_pixel' has no effect for a Keras network"):
        next(pipeline.predict(network, noise_images(network, 1), "half_pixel"))
    with pytest.raises(BadSpec, match="report got no run"):
        pipeline.report()
    with pytest.raises(DataError, match="no split 'tset' to score: choose one of train, val, test"):
        dataset_to_score(run, "tset")


def test_a_class_beyond_is_not_counted_as_another_one():
    label = np.zeros((2, 2), np.uint8)
    assert confusion(label, label + 8, 9)[0, 8] == 4
    with pytest.raises(BadSpec, match="the masks hold class 10, and the labels have classes 0 to 8"):
        confusion(label, label + 10, 9)


def test_a_run_goes_through_all_verbs(tmp_path):
    """Trained for two steps on five images; what the commands reuse is reused."""
    data = small_data(tmp_path, 72, 104)
    run = create_run(tmp_path / "run", ModelSpec("fcn8", 72, 104, 5, alpha=0.125), data)
    with pytest.raises(RunError, match="no trained network yet"):
        pipeline.quantize_aware_train(run)
    schedule = Schedule(2, 2, 0.01, evaluations=1)
    trained = pipeline.train(run, schedule)
    assert [entry.step for entry in trained.history] == [2] and trained.seconds > 0
    assert pipeline.train(run, schedule) == trained == run.float_training.float_result()
    how = Quantization("ptq", Calibration(images=2))
    messages: list[str] = []
    artifact = pipeline.convert(run, "cpu", how=how)
    again = pipeline.convert(run, "cpu", how=how, say=messages.append)
    assert again == artifact == pipeline.open_artifact(artifact.path) and "reused" in messages[-1]
    network = pipeline.build(run.config.model)
    assert network.output_shape == (None, 72, 104, 5)
    measured = pipeline.measure(run, artifact, protocol=QUICK, images=2)
    dataset = open_dataset(data)
    with on_this_machine(artifact.path, run.preprocessing) as infer:
        expected = score_masks(Decoded(dataset.splits["val"]), infer, dataset.classes, 2)
    assert measured.artifact.score == pipeline.score(artifact, data, images=2) == expected
    images = [dataset.splits["val"][i].image() for i in range(2)]
    labels = [dataset.splits["val"][i].label() for i in range(2)]
    masks = list(pipeline.predict(artifact, images))
    assert score(zip(labels, masks, strict=True), dataset.classes) == expected
    assert pipeline.gate(measured, pipeline.Limits(max_drop_points=100.0), baseline=measured).passed
    assert not pipeline.gate(measured, pipeline.Limits(class_floors={"a": 100.0})).passed
    assert "fcn8 on folder" in pipeline.report(run, markdown=True) and "<!doctype html>" in pipeline.report(run)
    checked = pipeline.check(data)
    assert checked.splits["val"].images == 5 and checked.classes == dataset.classes
