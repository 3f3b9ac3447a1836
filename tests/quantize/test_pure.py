"""The heart in one function: it is what its stages are one after the other, and touches nothing else."""

import dataclasses

import numpy as np
import pytest

from pipeline.core.errors import BadSpec, ContractViolation
from pipeline.core.file_spec import FLOAT32, FileSpec
from pipeline.core.recipe import Recipe
from pipeline.core.target import FLOAT
from pipeline.quantize.fold import fold
from pipeline.quantize.quantize import finish, quantize
from pipeline.quantize.to_tflite import tflite_bytes, to_tflite
from pipeline.rewrites.apply import rewrite
from pipeline.targets import target
from pipeline.tflite.read import read
from tests.conftest import ranges_of, still
from tests.support.recipes import origin


def test_it_is_its_stages_one_after_the_other_and_says_nothing(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, ranges, chosen = still("fcn8"), ranges_of("fcn8"), target("qualcomm")
    weights_before = [weight.copy() for weight in model.get_weights()]
    spec = chosen.file_spec("mask", 8, "uint8")
    quantized = quantize(model, ranges, chosen, spec)
    data, applied = rewrite(tflite_bytes(fold(model, ranges, spec), spec), chosen)
    assert (quantized.data, quantized.applied) == (data, applied) and applied
    assert quantized.recipe == Recipe.loads(quantized.recipe.dumps()) and quantized.recipe.target == "qualcomm"
    assert quantized.recipe.file == spec and quantized.recipe.ranges == ranges and quantized.recipe.origin is None
    assert quantized.recipe.versions["tensorflow"] and quantized.recipe.rewrites
    graph = read(quantized.data)
    assert graph.recipe() is None and graph.tensors[graph.inputs[0]].dtype == "uint8"
    assert all(np.array_equal(a, b) for a, b in zip(weights_before, model.get_weights(), strict=True))
    finished = finish(to_tflite(model, ranges, spec), ranges, chosen, spec, origin())
    assert finished.data == quantized.data and finished.recipe.origin == origin()
    assert finished.recipe.differences(dataclasses.replace(quantized.recipe, origin=origin())) == []
    assert capfd.readouterr().out == "" and not list(tmp_path.iterdir())


def test_the_float_path_is_the_same_and_has_no_use_for_ranges():
    model = still("fcn8")
    plain = quantize(model, None, FLOAT)
    assert plain.data == to_tflite(model, ranges_of("fcn8"), FLOAT32) and plain.recipe.file == FLOAT32
    half = quantize(model, ranges_of("fcn8"), target("gpu"))
    assert half.recipe.file.weights == "float16" and half.recipe.ranges is None
    assert len(half.data) < 0.6 * len(plain.data)


def test_what_does_not_fit_is_refused_before_anything_is_converted(monkeypatch):
    monkeypatch.setattr("pipeline.quantize.to_tflite.fold", None)
    model, ranges = still("fcn8"), ranges_of("fcn8")
    with pytest.raises(BadSpec, match="input type .* float32 does not fit target edgetpu"):
        quantize(model, ranges, target("edgetpu"), FileSpec(io="float32"))
    with pytest.raises(BadSpec, match="is not for target cpu"):
        quantize(model, ranges, target("cpu"), FLOAT32)
    with pytest.raises(BadSpec, match="needs the range of each activation"):
        quantize(model, None, target("cpu"))


def test_a_file_that_breaks_the_contract_does_not_come_out():
    ranges = {name: each for name, each in ranges_of("fcn8").items() if name != "block2_conv1_relu"}
    with pytest.raises(ContractViolation):
        quantize(still("fcn8"), ranges, target("cpu"))
