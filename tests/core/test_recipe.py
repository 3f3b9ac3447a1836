"""What files a spec and a recipe can mean, that the JSON is what it always was, and that what is no recipe is said."""

import ast
import copy
import dataclasses
import json
from typing import Any

import pytest

from pipeline.core.calibration import CalibrationRecord
from pipeline.core.errors import ArtifactError, BadSpec
from pipeline.core.file_spec import FileSpec
from pipeline.core.ranges import Range
from pipeline.core.recipe import Approximation, Recipe
from pipeline.core.rewrite import AppliedRewrite
from pipeline.targets import target, targets
from tests.conftest import ROOT
from tests.support.recipes import origin, recipe

WRITTEN = {
    "schema": 1,
    "target": "edgetpu",
    "model": {
        "network": "fast-scnn",
        "height": 360,
        "width": 480,
        "num_classes": 2,
        "alpha": 1.0,
        "resize": "align_corners",
        "batch_norm": True,
        "l2": 0.0,
        "dropout": 0.1,
    },
    "size": "360x480",
    "classes": ["a", "b"],
    "colours": [[0, 0, 0], [1, 2, 3]],
    "data": "camvid",
    "preprocessing": {
        "height": 360,
        "width": 480,
        "channels": "RGB",
        "resize": "bilinear (Pillow)",
        "scale": 1 / 255,
        "zero_point": {"uint8": 0, "int8": -128},
    },
    "output": "logits",
    "mask": "their argmax over the last axis, the lowest index on ties",
    "io": "int8",
    "weights": "int8",
    "per_tensor": False,
    "level": None,
    "rewrites": ["mean", "depthwise"],
    "method": "qat",
    "calibration": {
        "method": "min-max",
        "selection": "random",
        "split": "train",
        "images": ["x", "y"],
        "images_sha256": "00",
    },
    "ranges": {"conv": [-1.5, 2.25]},
    "versions": {"numpy": "2.0"},
    "parent": {"checkpoint": "qat/best.weights.h5", "sha256": "ff"},
    "rewritten": [{"rewrite": "mean", "op": "AVERAGE_POOL_2D", "output": "pool", "why": "too large"}],
    "approximated": None,
    "output_stride": 8,
    "postprocess": "exact mask of int8 samples: segquant_mask of segquant_mask.c",
}
"""As `convert` wrote it when a recipe was a dictionary."""
LATER = (
    "per_tensor",
    "rewrites",
    "level",
    "mask",
    "rewritten",
    "approximated",
    "output_stride",
    "postprocess",
    "colours",
    "versions",
    "ranges",
    "calibration",
)
"""Keys that files of some earlier version have not."""


def test_the_json_is_what_it_always_was():
    read = Recipe.from_json(copy.deepcopy(WRITTEN))
    assert read.to_json() == WRITTEN and Recipe.loads(read.dumps()) == read
    assert read.file == FileSpec("logits", 8, "int8") and read.ranges == {"conv": Range(-1.5, 2.25)}
    assert read.applied_rewrites == (AppliedRewrite("mean", "AVERAGE_POOL_2D", "pool", "too large"),)
    assert read.origin.calibration == CalibrationRecord("min-max", "random", "train", ("x", "y"), "00")
    assert read.origin.model.size == "360x480" and read.known_origin.parent.checkpoint == "qat/best.weights.h5"
    effect: dict[str, Any] = {
        "data": "camvid",
        "split": "val",
        "images": 3,
        "agreement_percent": 99.5,
        "exact_miou_percent": 60,
        "miou_percent": 59.5,
        "drop_points": 0.5,
    }
    assert Recipe.from_json({**WRITTEN, "approximated": effect}).approximation == Approximation(**effect)


@pytest.mark.parametrize("key", LATER)
def test_a_file_of_an_earlier_version_is_read(key):
    Recipe.from_json({k: v for k, v in WRITTEN.items() if k != key})


def test_what_decides_nothing_makes_no_other_file():
    read = Recipe.from_json(WRITTEN)
    assert read.differences(dataclasses.replace(read, applied_rewrites=())) == []
    assert read.differences(dataclasses.replace(read, level=29)) == ["level"]
    moved = dataclasses.replace(read, origin=dataclasses.replace(read.origin, method="ptq"))
    assert moved.differences(read) == ["method"] and read.differences(recipe("edgetpu", read.file))
    lanes = recipe("web", FileSpec("mask", io="float32", argmax_lanes=4))
    before = {k: v for k, v in lanes.to_json().items() if k != "argmax_lanes"}
    assert lanes.to_json()["argmax_lanes"] == 4 and Recipe.from_json(before).differences(lanes) == []


def nested(path, value):
    changed = copy.deepcopy(WRITTEN)
    *way, last = path.split(".")
    place: Any = changed
    for key in way:
        place = place[key]
    place[last] = value
    return changed


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        *(
            ({"schema": 1, "target": "cpu"} | more, words)
            for more, words in (
                ({}, "has no 'output'"),
                ({"schema": 2}, "schema is 2"),
                ({"schema": None}, "schema is None"),
                ({"schema": True}, "schema is True"),
            )
        ),
        ([1], "is list, not dict"),
        (None, "is NoneType"),
        ({}, "schema is None"),
        (nested("colour", 1), "unknown key colour"),
        (nested("model.depth", 1), "model has the unknown key depth"),
        (nested("target", 5), "target is int, not str"),
        (nested("output", ["logits"]), "choose one of logits"),
        (nested("io", "int16"), "io is 'int16'"),
        (nested("output_stride", 3), "stride is 3"),
        (nested("output_stride", True), "stride is True"),
        (nested("output_stride", 8.0), "stride is 8.0"),
        (nested("per_tensor", "no"), "per_tensor is 'no'"),
        (nested("weights", "float16"), "float16 weights has no int8 input"),
        (nested("level", "29"), "level is str"),
        (nested("rewrites", "mean"), "rewrites is str"),
        (nested("rewrites", [1]), "entry of rewrites is int"),
        (nested("ranges", [1]), "ranges is list"),
        (nested("ranges.conv", [1, 2]), "cannot be quantized"),
        (nested("ranges.conv", [1]), "the range of conv is not two numbers"),
        (nested("ranges.conv", ["a", "b"]), "the range of conv.low is str, not float"),
        (nested("method", "magic"), "method is 'magic'"),
        (nested("model", None), "model is NoneType"),
        (nested("model.height", "360"), "model.height is str"),
        (nested("model", {}), "has no 'network'"),
        (nested("model.network", "[x](http://y)"), "is no name"),
        (nested("classes", "ab"), "classes is str"),
        (nested("classes", ["a"]), "1 classes, and the network has 2"),
        (nested("classes", ["a", "a"]), "one class is there twice"),
        (nested("colours", [[0, 0, 0]]), "1 colours for 2 classes"),
        (nested("colours", [[0, 0, 0], [0, -1, 256]]), "values from 0 to 255"),
        (nested("colours", [[1, 2]]), "three values"),
        (nested("calibration", []), "calibration is list"),
        (nested("calibration.images", "x"), "calibration.images is str, not list"),
        (nested("calibration.split", 1), "calibration.split is int, not str"),
        (nested("parent", {"checkpoint": "x"}), "has no 'sha256'"),
        (nested("parent.checkpoint", "/root/x.h5"), "does not lie in the run"),
        (nested("parent.checkpoint", "float/../../x.h5"), "does not lie in the run"),
        (nested("rewritten", [{"op": "ADD"}]), "has no 'rewrite'"),
        (nested("approximated", {"data": 1}), "approximated.data is int, not str"),
        (nested("versions", {"numpy": 2}), "versions.numpy is int"),
    ],
)
def test_what_is_no_recipe_of_ours_is_one_sentence(entries, words):
    with pytest.raises(ArtifactError, match=words):
        Recipe.from_json(entries)
    with pytest.raises(ArtifactError):
        Recipe.loads(json.dumps(entries))


def test_a_file_made_in_memory_names_no_run():
    with pytest.raises(ArtifactError, match="names no run"):
        _ = recipe().known_origin
    assert Recipe.from_json(recipe().to_json()) == recipe() and "model" not in recipe().to_json()
    full = recipe(origin=origin())
    assert Recipe.loads(full.dumps()) == full and full.known_origin.method == "ptq"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"output": "boxes"}, "logits, scores, mask"),
        ({"stride": 16}, "1, 2, 4, 8"),
        ({"io": "int4"}, "uint8, int8"),
        ({"weights": "float16"}, "no uint8 input"),
        ({"weights": "float32", "io": "float32", "per_tensor": True}, "scales"),
        ({"argmax_lanes": 4}, "no ARG_MAX"),
        ({"output": "mask", "argmax_lanes": 0}, "1 or more"),
    ],
)
def test_a_file_that_cannot_be_is_no_spec(wrong, words):
    with pytest.raises(BadSpec, match=words):
        FileSpec(**wrong)


def test_a_target_takes_its_own_specs_and_no_others():
    for each in targets().values():
        for output in ("logits", "scores", "mask"):
            for io in each.io:
                each.check(each.file_spec(output, 8, io))
    with pytest.raises(BadSpec, match="input type .* float32 does not fit target edgetpu: it takes int8, uint8"):
        target("edgetpu").file_spec(io="float32")
    for name, spec in (("edgetpu", FileSpec(io="float32")), ("gpu", FileSpec(io="float32")), ("web", FileSpec())):
        with pytest.raises(BadSpec):
            target(name).check(spec)


def test_files_are_named_as_they_always_were():
    names = {
        "fcn8-qat-logits-uint8.tflite": FileSpec(),
        "fcn8-qat-mask-stride4-int8.tflite": FileSpec("mask", 4, "int8"),
        "fcn8-float16-scores-float32.tflite": FileSpec("scores", io="float32", weights="float16"),
        "fcn8-qat-mask-uint8.tflite": FileSpec("mask", argmax_lanes=4, per_tensor=True),
    }
    for name, spec in names.items():
        assert spec.file_name("fcn8", "qat") == name
    assert FileSpec().file_name("fcn8", "qat-start") == "fcn8-qat-start-logits-uint8.tflite"


def by_key(tree):
    """The places where something called a recipe is read like a dictionary."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("recipe"):
            yield ast.unparse(node)
        if (
            isinstance(node, ast.Attribute)
            and node.attr in ("get", "items")
            and ast.unparse(node.value)[-6:] == "recipe"
        ):
            yield ast.unparse(node)


def test_nobody_reads_a_recipe_by_key():
    assert len(list(by_key(ast.parse("a.recipe['x'], recipe.get('y'), recipe.file, data['recipe']")))) == 2
    for folder in ("pipeline", "benchmarks", "tests"):
        for file in (ROOT / folder).rglob("*.py"):
            text = file.read_text()
            if "recipe[" in text or "recipe." in text:
                assert not list(by_key(ast.parse(text))), file
