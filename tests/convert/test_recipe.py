"""What a recipe says of a file, and what of it makes the file another one than was asked for."""

import dataclasses
import json

import numpy as np
import pytest

from pipeline.convert.convert import convert
from pipeline.convert.parent import Parent
from pipeline.core import run as runs
from pipeline.core.errors import BadSpec, RunError, UnknownName
from pipeline.core.file_spec import MASKS, FileSpec
from pipeline.core.ranges import Range
from pipeline.core.spec import ModelSpec
from pipeline.data import open_dataset
from pipeline.heads.full_size import mask_of
from pipeline.measure.score import deployed
from pipeline.targets import target, targets
from pipeline.tflite.edit import GraphEdit
from pipeline.tflite.read import read
from tests.support.single_ops import VALID, Case, Data, argmax, model

HEIGHT, WIDTH, CLASSES = 72, 104, 9
LOGITS = Range(-6.4, 6.35)


def network(resize, output):
    """A .tflite file that gives logits or a mask: patches of 8x8 pixels by random filters, enlarged to the image."""
    rng = np.random.default_rng(0)
    filters = rng.integers(-100, 101, (CLASSES, 8, 8, 3))
    filters -= filters.mean((1, 2, 3), keepdims=True).round().astype(int)  # so that no class wins everywhere
    case = Case(
        "patches",
        "CONV_2D",
        3,
        (
            Data((1, HEIGHT, WIDTH, 3), scale=1 / 255, zero_point=-128),
            Data(filters.shape, values=filters, scale=np.full(CLASSES, 0.02)),
            Data((CLASSES,), "int32", np.zeros(CLASSES), np.full(CLASSES, 0.02 / 255)),
        ),
        Data((1, HEIGHT, WIDTH, CLASSES), scale=0.05),
        {"padding": VALID, "strideH": 8, "strideW": 8, "dilationHFactor": 1, "dilationWFactor": 1},
    )
    edit = GraphEdit(model(case))
    op, end = edit.op(0), int(edit.op(0).outputs[0])
    small = edit.like(end, "patches/x", (1, HEIGHT // 8, WIDTH // 8, CLASSES))
    size = edit.constant("size", np.array([HEIGHT, WIDTH], np.int32))
    how = {"alignCorners": resize == "align_corners", "halfPixelCenters": resize == "half_pixel"}
    op.outputs = [small]
    edit.tensor(end).name = "logits/x"
    last = edit.new_op("RESIZE_BILINEAR", 3, [small, size], [end], "ResizeBilinearOptions", **how)
    if output == "logits":
        edit.replace(0, [op, last])
        return edit.to_bytes()
    mask = edit.constant("mask/x", np.zeros((1, HEIGHT, WIDTH), np.int32))
    edit.tensor(mask).buffer = 0
    axis = edit.constant("axis", np.array([-1], np.int32))
    top = edit.new_op("ARG_MAX", 2, [end, axis], [mask], "ArgMaxOptions", outputType=edit.tensor(mask).type)
    edit.replace(0, [op, last, top])
    edit.graph.outputs = [mask]
    return edit.to_bytes()


class ConvertedRun:
    """A run whose network TensorFlow has converted already."""

    def __init__(self, home, resize):
        dataset = open_dataset("synthetic")
        spec = ModelSpec("fcn8", HEIGHT, WIDTH, len(dataset.classes), resize=resize)
        self.run = runs.create(home, spec, "synthetic", dataset.classes, dataset.colours, 0)
        self.run.float_dir.mkdir()
        weights = self.run.float_dir / "best.weights.h5"
        weights.write_bytes(b"weights")
        graphs = {FileSpec(output, io="int8"): network(resize, output) for output in ("logits", "mask")}
        self.parent = Parent("ptq", weights, {"logits": LOGITS}, graphs=graphs)

    def convert(self, chosen, output="logits", **options):
        """(the artifact, what was said)."""
        messages: list[str] = []
        artifact = convert(
            self.run, chosen, messages.append, chosen.file_spec(output, io="int8"), source=self.parent, **options
        )
        return artifact, " ".join(messages)


@pytest.fixture
def aligned(tmp_path):
    return ConvertedRun(tmp_path / "run", "align_corners")


@pytest.fixture
def half_pixel(tmp_path, monkeypatch):
    """With few validation images: each is inferred twice."""
    dataset = open_dataset("synthetic")
    few = dataclasses.replace(dataset, splits={**dataset.splits, "val": dataset.splits["val"][:3]})
    monkeypatch.setattr("pipeline.measure.approximate.dataset_of", lambda *_: few)
    return ConvertedRun(tmp_path / "run", "half_pixel")


def test_a_file_of_another_feature_level_is_another_file(aligned):
    nnapi = target("nnapi")
    first, _ = aligned.convert(nnapi.with_level(29))
    assert first.recipe.level == 29 and read(first.path.read_bytes()).recipe().level == 29
    again, log = aligned.convert(nnapi.with_level(29))
    assert "reused" in log and again.sha256 == first.sha256
    with pytest.raises(RunError, match="exists with another level: to replace it"):
        aligned.convert(nnapi.with_level(30))
    with pytest.raises(RunError, match="another level"):
        aligned.convert(nnapi)  # the default level is one that was not asked for by number
    other, log = aligned.convert(nnapi.with_level(30), force=True)
    assert other.path == first.path and other.recipe.level == 30 and "reused" not in log
    beside = json.loads(other.path.with_suffix(".json").read_text())
    assert beside["recipe"]["level"] == 30


def test_a_chain_is_measured_and_in_the_recipe(half_pixel):
    plain = target("ethos-u55")
    exact, log = half_pixel.convert(plain)
    files = [exact.path.read_bytes()]
    assert exact.recipe.approximation is None and "mIoU" not in log
    assert [applied.rewrite for applied in exact.recipe.applied_rewrites] == ["products"]
    asked = plain.with_approximations(["resize-chain"])
    with pytest.raises(RunError, match="exists with another rewrites"):
        half_pixel.convert(asked)
    chained, log = half_pixel.convert(asked, force=True)
    assert [applied.rewrite for applied in chained.recipe.applied_rewrites] == ["resize-chain"]
    effect = dataclasses.asdict(chained.recipe.approximation)
    assert effect["images"] == 3 and effect["split"] == "val" and f"{effect['agreement_percent']:.2f} %" in log
    # Independent: the two files themselves, on the same images.
    samples = open_dataset("synthetic").splits["val"][:3]
    labels = np.stack([sample.label() for sample in samples])
    masks = []
    for data in (*files, chained.path.read_bytes()):
        with deployed(data, half_pixel.run.preprocessing) as infer:
            masks.append(np.stack([infer(sample.image()) for sample in samples]))
    assert effect["agreement_percent"] == pytest.approx(100 * (masks[0] == masks[1]).mean(), abs=1e-9)
    assert 50 < effect["agreement_percent"] < 100
    for key, mask in (("exact_miou_percent", masks[0]), ("miou_percent", masks[1])):
        seen, ious = labels != 255, []
        for kind in range(len(half_pixel.run.config.classes)):
            a, b = (labels == kind) & seen, (mask == kind) & seen
            if (a | b).any():
                ious.append(100 * (a & b).sum() / (a | b).sum())
        assert effect[key] == pytest.approx(np.mean(ious))
    assert effect["drop_points"] == pytest.approx(effect["exact_miou_percent"] - effect["miou_percent"])
    again, log = half_pixel.convert(asked)
    assert "reused" in log and dataclasses.asdict(again.recipe.approximation) == effect


def test_a_network_that_aligns_corners_has_no_chain(aligned):
    with pytest.raises(BadSpec, match="resize-chain does not fit.*aligns corners has no chain"):
        aligned.convert(target("ethos-u55").with_approximations(["resize-chain"]))
    assert not (aligned.run.path / "artifacts").exists()


def test_what_is_not_equal_is_asked_for_by_name(cli, tmp_path):
    u65 = target("ethos-u65")
    assert u65.with_approximations([]) is u65
    assert [rewrite.name for rewrite in u65.with_approximations(["resize-chain"] * 2).rewrites][:2].count(
        "resize-chain"
    ) == 1
    with pytest.raises(UnknownName, match="did you mean 'resize-chain'"):
        u65.with_approximations(["resize-chains"])
    for words, message in (
        (("--target", "cpu", "--approximate", "resize-chain"), "target cpu has no approximate rewrites"),
        (("--target", "ethos-u55", "--no-rewrite", "--approximate", "resize-chain"), "leave one of them out"),
        (("--target", "all", "--approximate", "resize-chain"), "--approximate goes with one target"),
    ):
        result = cli("convert", *words, cwd=tmp_path)
        assert result.returncode == 2 and message in result.stderr, result.stderr


def test_a_mask_that_the_cpu_makes_is_said_and_so_is_what_can_be_had_in_its_place(aligned):
    for name in ("edgetpu", "gpu-delegate", "mediatek"):
        rule = target(name).rules.ops["ARG_MAX"]
        assert "--output logits" in rule.remedy
    artifact, log = aligned.convert(target("edgetpu"), "mask")
    assert "the CPU makes the mask" in log and "--output logits" in log
    assert read(artifact.path.read_bytes()).ops[-1].name == "ARG_MAX"  # what was asked for is what is made
    assert "the CPU makes the mask" not in aligned.convert(target("ethos-u55"), "mask")[1]
    assert "the CPU makes the mask" not in aligned.convert(target("edgetpu"))[1]


def test_the_mask_of_logits_is_the_argmax_that_the_recipe_says(aligned):
    logits, _ = aligned.convert(target("edgetpu"))
    mask, _ = aligned.convert(target("edgetpu"), "mask")
    assert logits.recipe.to_json()["mask"] == MASKS["logits"] != mask.recipe.to_json()["mask"] == MASKS["mask"]
    image = np.ascontiguousarray(open_dataset("synthetic").splits["val"][0].image()[:HEIGHT, :WIDTH])
    masks = []
    for artifact in (logits, mask):
        with deployed(artifact.path.read_bytes(), aligned.run.preprocessing) as infer:
            masks.append(infer(image))
    assert np.array_equal(masks[0], masks[1]) and len(np.unique(masks[0])) > 3


def test_on_ties_the_lowest_index_wins_in_the_file_and_on_the_host():
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model(argmax("ties", "int32")))
    interpreter.allocate_tensors()
    scores = np.random.default_rng(0).integers(-2, 2, (1, 16, 16, 8), dtype=np.int8)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], scores)
    interpreter.invoke()
    inside = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
    first = np.array([[min(i for i in range(8) if p[i] == max(p)) for p in row] for row in scores[0].tolist()])
    assert np.array_equal(inside, first) and np.array_equal(mask_of(scores, 16, 16), first)
    assert (np.sort(scores[0], -1)[..., -1] == np.sort(scores[0], -1)[..., -2]).mean() > 0.5


def test_every_approximation_says_what_it_is_for():
    for rewrite in {rewrite for each in targets().values() for rewrite in each.approximations}:
        assert rewrite.needs and rewrite.how
