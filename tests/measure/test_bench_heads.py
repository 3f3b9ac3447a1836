"""Every way to a full-size mask beside each other: their masks, what their times hold, and what cannot be compared."""

import contextlib
import dataclasses
import json

import numpy as np
import pytest

import models
from calib.ranges import measure
from pipeline.convert.convert import convert
from pipeline.convert.parent import Parent, load_float
from pipeline.core.device import DeviceOptions, RunnerOptions
from pipeline.core.errors import BadSpec, CompilerError, RunError
from pipeline.core.file_spec import FileSpec
from pipeline.core.mask import Grid
from pipeline.core.recipe import Checkpoint
from pipeline.core.target import CompileResult
from pipeline.data import open_dataset
from pipeline.devices import devices
from pipeline.devices.host import HostRunner
from pipeline.heads import native
from pipeline.measure.heads import bench_heads, ways
from pipeline.measure.plan import HeadsPlan
from pipeline.measure.saved import save
from pipeline.measure.score import score
from pipeline.quantize.plan import plan
from pipeline.quantize.quantize import Quantized, quantize
from pipeline.targets import target
from pipeline.weights import checkpoint
from tests.conftest import scrambled
from tests.heads.test_mask import dense
from tests.support.small_run import IMAGES, QUICK, empty_run

needs_cc = pytest.mark.skipif(native.compiler() is None, reason="no C compiler: apt-get install gcc libc6-dev")


def quiet(text):
    pass


@pytest.fixture(scope="module")
def run_and_artifact(tmp_path_factory):
    """(run, an int8 artifact of it that gives stride-8 logits); it predicts every class."""
    run = empty_run(tmp_path_factory.mktemp("heads"), alpha=0.125)
    model = scrambled("fast-scnn")
    samples = open_dataset(run.config.data).splits["val"]
    images = [run.preprocessing.tensor(sample.image(), "float32") for sample in samples]
    logits = np.concatenate([model(image, training=False).numpy() for image in images])
    kernel, bias = model.get_layer("head_logits").get_weights()
    model.get_layer("head_logits").set_weights([kernel, bias - np.median(logits, (0, 1, 2))])
    best = run.float_dir / "best.weights.h5"
    best.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write(model, best)
    planned = plan(model)
    parent = Parent("ptq", best, planned.share(measure(model, planned.points, lambda: images)))
    return run, convert(run, target("cpu"), quiet, FileSpec(stride=8), source=parent)


GRAPHS: dict[FileSpec, Quantized] = {}


@pytest.fixture
def few(monkeypatch):
    """The coarsest and the finest stride alone, each converted once."""

    def once(network, ranges, aim, spec):
        if spec not in GRAPHS:
            GRAPHS[spec] = quantize(network, ranges, aim, spec)
        return GRAPHS[spec]

    monkeypatch.setattr("pipeline.measure.heads.quantize", once)
    monkeypatch.setattr("pipeline.measure.heads.STRIDES", (8, 1))


def heads_of(run_and_artifact, images=None):
    run, artifact = run_and_artifact
    return bench_heads(HeadsPlan(run, artifact, QUICK, images=images), "host", DeviceOptions(), quiet)


@needs_cc
def test_every_head_is_scored_by_the_mask_that_it_gives(run_and_artifact, few, tmp_path):
    run, artifact = run_and_artifact
    measured = heads_of(run_and_artifact)
    assert [(head.output, head.stride) for head in measured.heads] == [
        ("logits", 8),
        ("logits", 8),
        ("mask", 1),
        ("mask", 8),
    ]
    alone, exact, in_file, *_ = measured.heads
    assert alone.measured.score is None and all(head.measured.score for head in measured.heads[1:])
    assert alone.times_first.ratio == 1 and all(head.measured.latency.runs >= 4 for head in measured.heads)
    assert measured.images == IMAGES and measured.artifact_sha256 == artifact.sha256

    height, width = run.preprocessing.height, run.preprocessing.width
    in_graph = tmp_path / "mask.tflite"
    in_graph.write_bytes(GRAPHS[FileSpec("mask")].data)
    samples = open_dataset(run.config.data).splits["val"]
    with HostRunner(artifact.path, 1) as logits, HostRunner(in_graph, 1) as mask:
        by_definition, by_file = [], []
        for sample in samples:
            image = sample.image()[None]
            by_definition.append((sample.label(), dense(logits.infer(image)[0], height, width, "align_corners")))
            by_file.append((sample.label(), mask.infer(image)[0].astype(np.uint8)))
    assert exact.measured.score == score(by_definition, run.config.classes)
    assert in_file.measured.score == score(by_file, run.config.classes)
    assert exact.measured.score != in_file.measured.score
    assert min(exact.measured.score.iou_percent.values()) > 1

    kept = json.loads((run.path / save(run, measured)).read_text())
    assert kept["kind"] == "heads" and kept["heads"][1]["measured"]["latency"]["samples_ms"]


@needs_cc
def test_a_timed_inference_holds_the_mask_that_is_made_outside(run_and_artifact):
    _, artifact = run_and_artifact
    large = Grid(3000, 3000, "align_corners")
    host = devices()["host"].connect("", DeviceOptions())
    image = np.random.default_rng(0).integers(0, 256, (1, *load_size(artifact), 3), np.uint8)
    with (
        contextlib.closing(host.open(artifact.path, RunnerOptions())) as plain,
        contextlib.closing(host.open(artifact.path, RunnerOptions(mask=large))) as masked,
    ):
        assert np.array_equal(plain.infer(image), masked.infer(image))
        # Nine million pixels take longer than this network by far.
        assert min(masked.time(20).samples_ms) > 3 * min(plain.time(20).samples_ms)


def load_size(artifact):
    return artifact.recipe.origin.model.height, artifact.recipe.origin.model.width


def test_without_a_c_compiler_times_end_with_the_file(run_and_artifact, few, monkeypatch):
    monkeypatch.setattr("pipeline.measure.heads.compiler", lambda: None)
    measured = heads_of(run_and_artifact, images=1)
    assert [head.mask_included for head in measured.heads] == [True, False, True, False]
    assert "times are up to the file's output" in measured.notes[0]


def test_float_logits_have_no_exact_mask():
    for name in ("gpu", "cpu"):
        assert [(way.output, way.stride, way.outside is None) for way in ways(target(name), "float32", 8)] == [
            ("logits", 8, True),
            ("mask", 1, True),
            ("mask", 2, False),
            ("mask", 4, False),
            ("mask", 8, False),
        ]
    assert [way.stride for way in ways(target("cpu"), "int8", 4)] == [4, 4, 1, 2, 4]


def test_what_cannot_be_compared_is_said(run_and_artifact, few, monkeypatch):
    run, artifact = run_and_artifact
    network = models.network("fast-scnn")
    with monkeypatch.context() as patched:
        patched.setattr("models.network", lambda name: dataclasses.replace(network, logits_stride=1))
        with pytest.raises(BadSpec, match="the logits of fast-scnn are of full size: bench its artifact"):
            heads_of(run_and_artifact)
    chip = dataclasses.replace(devices()["host"], runs_compiled=("cpu",))
    nowhere = dataclasses.replace(
        target("cpu"), compile=lambda file: CompileResult(None, "not compiled: buy its compiler.")
    )
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.measure.heads.device", lambda name: (chip, ""))
        patched.setattr("pipeline.measure.heads.target_named", lambda name: nowhere)
        with pytest.raises(CompilerError, match="each head is not compiled: buy its compiler"):
            heads_of(run_and_artifact)
    model = load_float(run, run.float_dir / "best.weights.h5")
    model.layers[-2].set_weights([w + 1 for w in model.layers[-2].get_weights()])
    other = run.float_dir / "other.weights.h5"
    checkpoint.write(model, other)
    origin = artifact.recipe.origin
    origin = dataclasses.replace(origin, parent=Checkpoint("float/other.weights.h5", origin.parent.sha256))
    moved = dataclasses.replace(artifact, recipe=dataclasses.replace(artifact.recipe, origin=origin))
    with pytest.raises(RunError, match=r"other\.weights\.h5 is not what .* was made from: `convert` again"):
        heads_of((run, moved))


def test_the_command(run_and_artifact, few, cli, tmp_path):
    run, _ = run_and_artifact
    soon = ("--images", "1", "--runs", "4", "--seconds", "0", "--starts", "2")
    result = cli("bench", "--run", str(run.path), "--heads", *soon, "--json", "heads.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "resize and argmax in the file" in result.stdout and "argmax at stride 8 in the file" in result.stdout
    assert json.loads((tmp_path / "heads.json").read_text())["kind"] == "heads"
    gated = cli("bench", "--run", str(run.path), "--heads", "--max-drop", "1", cwd=tmp_path)
    assert gated.returncode == 2 and "--heads goes with one --device" in gated.stderr
