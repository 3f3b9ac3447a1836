"""--init: all layers but the head start from other weights, whatever their classes and size, and nothing else does."""

import json
from typing import Any

import h5py
import numpy as np
import pytest

import models
from models.pretrained import pretrained
from pipeline.core.errors import RunError, WeightsError
from pipeline.core.run import create, open_run
from pipeline.core.spec import ModelSpec
from pipeline.train.initialize import as_setting, check_started_from, initialize, weights_file
from pipeline.weights import checkpoint
from tests.conftest import scrambled, small_size, still
from tests.support.small_run import small_data

HEADS = {
    "fast-scnn": {"head_logits"},
    "fcn8": {"score8", "score16", "score32", "up8", "up16"},
    "fastfcn8": {"score8_pw", "score16_pw", "score32_pw", "up8", "up16"},
    "unet": {"classifier"},
}


@pytest.mark.parametrize("name", models.networks())
def test_every_layer_but_those_that_classes_shape_comes_from_the_file(name, tmp_path):
    height, width = small_size(name)
    source = still(name)  # five classes
    checkpoint.write(source, tmp_path / "w.weights.h5")
    for classes in (5, 3) if name == "fast-scnn" else (3,):
        spec = ModelSpec(name, 2 * height, 2 * width, classes, alpha=0.125)
        model = models.build(spec)
        before = {layer.name: layer.get_weights() for layer in model.layers}
        head = initialize(model, spec, tmp_path / "w.weights.h5")
        assert head == HEADS.get(name, head) and head
        for layer in model.layers:
            expected = before[layer.name] if layer.name in head else source.get_layer(layer.name).get_weights()
            for got, wanted in zip(layer.get_weights(), expected, strict=True):
                np.testing.assert_array_equal(got, wanted)


def test_weights_of_another_network_or_no_weights_are_refused_and_nothing_is_set(tmp_path):
    checkpoint.write(still("fcn8"), tmp_path / "fcn8.weights.h5")
    checkpoint.write(scrambled("fast-scnn", alpha=0.25), tmp_path / "wide.weights.h5")
    (tmp_path / "text.weights.h5").write_text("no weights")
    height, width = small_size("fast-scnn")
    spec = ModelSpec("fast-scnn", height, width, 3, alpha=0.125)
    model = models.build(spec)
    before = [w.copy() for w in model.get_weights()]
    for name in ("fcn8", "wide", "text"):
        with pytest.raises(WeightsError, match=r"Give a .* file of fast-scnn with alpha 0.125"):
            initialize(model, spec, tmp_path / f"{name}.weights.h5")
    for got, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, wanted)
    with pytest.raises(WeightsError, match="one of the weights that ship for fast-scnn: camvid"):
        weights_file("cambid", "fast-scnn")
    with pytest.raises(WeightsError, match="no such weights ship, and the file does not exist. Give a file\\.$"):
        weights_file("camvid", "unet")


def test_qat_does_not_take_a_parent_that_started_otherwise_for_what_init_asks(tmp_path):
    run = create(tmp_path / "run", ModelSpec("fast-scnn", 192, 256, 3), "synthetic", "abc", (), 0)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"schedule": {}, "init": None}, "started from fresh weights"),
        ({"schedule": {}, "init": {"file": "old.h5", "sha256": "0"}}, "started from old.h5"),
        ({"parent_sha256": "0"}, "was given with --parent"),
    ]
    for settings, words in cases:
        run.float_training.begin(settings, force=True)
        with pytest.raises(RunError, match=f"{words}. Leave --init out"):
            check_started_from(run, "camvid")
    run.float_training.begin({"init": as_setting(weights_file("camvid", "fast-scnn"))}, force=True)
    check_started_from(run, "camvid")


def test_the_weights_that_ship_are_those_of_their_network():
    assert set(pretrained("fast-scnn")) == {"camvid"}
    spec = ModelSpec("fast-scnn", 161, 193, 4)
    assert initialize(models.build(spec), spec, weights_file("camvid", "fast-scnn")) == {"head_logits"}


def test_train_starts_from_them_keeps_which_and_goes_on_in_qat(cli, tmp_path):
    data = small_data(tmp_path, 161, 193)
    options = ("--run", "r", "--data", data, "--size", "161x193", "--batch", "2")
    result = cli("train", *options, "--init", "camvid", "--steps", "2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "all layers but head_logits start from" in result.stderr and "(trained at 720x960)" in result.stderr
    settings = json.loads((tmp_path / "r" / "float" / "settings.json").read_text())
    assert settings["init"]["file"].endswith("fast-scnn-720x960.weights.h5") and len(settings["init"]["sha256"]) == 64
    assert settings["schedule"]["learning_rate"] == pytest.approx(1e-3)
    # The first layer has hardly moved from the weights that ship; from scratch it would be elsewhere.
    spec = ModelSpec("fast-scnn", 161, 193, 5)
    shipped, trained, fresh = models.build(spec), models.build(spec), models.build(spec)
    initialize(shipped, spec, weights_file("camvid", "fast-scnn"))
    checkpoint.load(trained, tmp_path / "r" / "float" / "best.weights.h5")
    first = next(layer.name for layer in shipped.layers if layer.get_weights())
    kernels = [m.get_layer(first).get_weights()[0] for m in (shipped, trained, fresh)]
    assert np.abs(kernels[0] - kernels[1]).max() < 0.1 * np.abs(kernels[0] - kernels[2]).max()
    other = cli("train", *options, "--steps", "2", cwd=tmp_path)
    assert other.returncode == 2 and "init" in other.stderr  # a run's settings do not change unseen
    again = cli("train", *options, "--init", "camvid", "--steps", "2", cwd=tmp_path)
    assert again.returncode == 0 and "reused" in again.stderr
    both = cli("train", *options, "--init", "camvid", "--parent", "x", cwd=tmp_path)
    assert both.returncode == 2 and "leave one out" in both.stderr


def test_a_parents_size_is_the_networks_where_none_is_given(cli, tmp_path):
    data = small_data(tmp_path, 161, 193)
    spec = ModelSpec("fast-scnn", 168, 200, 5)
    checkpoint.write(models.build(spec), tmp_path / "w.weights.h5")
    ask = ("train", "--data", data, "--parent", "w.weights.h5", "--run")
    result = cli(*ask, "r", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "input size 168x200, as w.weights.h5 was trained for" in result.stderr
    assert open_run(tmp_path / "r").config.model.size == "168x200"
    assert cli(*ask, "r", cwd=tmp_path).returncode == 0  # the run is there, and has its size
    assert cli(*ask, "other", "--size", "161x193", cwd=tmp_path).returncode == 0
    assert open_run(tmp_path / "other").config.model.size == "161x193"
    with h5py.File(tmp_path / "w.weights.h5", "a") as file:
        file.attrs["segquant_size"] = "huge"
    refused = cli(*ask, "new", cwd=tmp_path)
    assert refused.returncode == 2 and "w.weights.h5: its segquant_size is 'huge'" in refused.stderr
    assert not (tmp_path / "new").exists()
