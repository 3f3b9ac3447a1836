"""Outputs of fewer samples than pixels: what the file gives, what lies beside it, and that masks come out the same."""

import json
import shutil
import subprocess
import zipfile

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import models
from models.pretrained import pretrained
from pipeline.convert.convert import convert, float_reference, spec_for
from pipeline.convert.parent import choose_parent
from pipeline.core.calibration import Calibration, Quantization
from pipeline.core.errors import ArtifactError, BadSpec
from pipeline.core.file_spec import FileSpec
from pipeline.core.files import sha256
from pipeline.core.mask import Grid
from pipeline.core.printable import well_formed
from pipeline.core.run import create
from pipeline.core.spec import ModelSpec
from pipeline.core.target import FLOAT
from pipeline.data import open_dataset
from pipeline.heads.exact import exact_mask
from pipeline.heads.full_size import mask_of
from pipeline.heads.shipping import c_comment, c_string
from pipeline.measure.score import runner_infer
from pipeline.quantize.fold import fold
from pipeline.quantize.to_tflite import to_tflite
from pipeline.targets import target
from pipeline.tflite.artifact import beside, open_artifact
from pipeline.tflite.read import packed, unpacked_model
from pipeline.weights import checkpoint
from tests.conftest import noise_images, still
from tests.support.stand_in_runner import StandInRunner


@pytest.mark.parametrize(
    ("name", "resize"),
    [
        *((name, "align_corners") for name, network in models.networks().items() if network.logits_stride > 1),
        ("fcn8", "half_pixel"),
    ],
)
def test_small_logits_expanded_are_the_networks_own(name, resize):
    model = still(name, resize=resize)
    image = noise_images(model)[:1]
    height, width = model.input_shape[1:3]
    full = model(image).numpy()
    # A random network has a favourite class; levelled out, the masks have something in them.
    mean, deviation = full.mean((0, 1, 2)), full.std((0, 1, 2))
    expected = ((full - mean) / deviation)[0].argmax(-1)
    assert (np.bincount(expected.ravel(), minlength=5) > 20).sum() >= 3

    def right_percent(logits, convention):
        return (
            100
            * (mask_of((logits - mean) / deviation, height, width, Grid(height, width, convention)) == expected).mean()
        )

    other = "half_pixel" if resize == "align_corners" else "align_corners"
    few, more = (fold(model, spec=FileSpec(stride=stride))(image).numpy() for stride in (8, 4))
    for logits, stride in ((few, 8), (more, 4)):
        assert logits.shape[1:3] == (-(-height // stride), -(-width // stride))
    assert right_percent(few, resize) > max(99.9, right_percent(few, other))
    assert right_percent(more, resize) > 90  # a bilinear function of a bilinear function is not quite one


def test_an_image_of_another_size_gets_what_the_networks_pixels_would_give_it():
    logits = np.random.default_rng(0).normal(size=(1, 5, 7, 4)).astype(np.float32)
    grid = Grid(33, 49, "align_corners")
    import tensorflow as tf

    full = tf.raw_ops.ResizeBilinear(images=logits, size=[33, 49], align_corners=True).numpy()
    assert (mask_of(logits, 60, 90, grid) == mask_of(full, 60, 90)).mean() > 0.999
    mask = np.random.default_rng(0).integers(0, 9, (1, 5, 7), np.int32)
    assert np.array_equal(mask_of(mask, 60, 90, grid), mask_of(mask_of(mask, 33, 49, grid)[None], 60, 90))


def test_a_network_that_resizes_nothing_has_no_other_stride():
    model = still("fcn8")
    import tf_keras

    flat = tf_keras.Model(model.input, model.layers[-1].input, name="flat")
    with pytest.raises(BadSpec, match="output stride 8 does not fit flat, which does not end in a resize"):
        fold(flat, spec=FileSpec(stride=8))
    coarse = model.layers[-1].input
    resized = models.blocks.BilinearResize(72, 104, name="logits_resize")
    finer = tf_keras.Model(
        model.input, resized(models.blocks.BilinearResize(36, 52, name="half")(coarse)), name="finer"
    )
    with pytest.raises(BadSpec, match="whose logits are 36x52 .* choose one of 1, 2"):
        fold(finer, spec=FileSpec(stride=4))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose float network was never trained."""
    spec = ModelSpec("fcn8", 72, 104, 9, alpha=0.125)
    home, dataset = tmp_path_factory.mktemp("strides") / "run", open_dataset("synthetic")
    new_run = create(home, spec, "synthetic", dataset.classes, dataset.colours, 0)
    new_run.float_dir.mkdir(parents=True)
    checkpoint.write(models.build(spec), new_run.float_dir / "best.weights.h5")
    (new_run.float_dir / "result.json").write_text("{}")
    return new_run


def outputs_of(path, image):
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


ASKED = Quantization("ptq", Calibration(images=2))


def test_what_ships_with_small_logits(run, tmp_path):
    messages: list[str] = []
    parent = choose_parent(run, target("cpu"), ASKED, messages.append)
    full_size = convert(run, target("cpu"), messages.append, source=parent)
    assert "output_stride" not in full_size.recipe.to_json() and full_size.recipe.file == FileSpec()
    assert not list(full_size.path.parent.glob("*.h"))
    small = convert(run, target("cpu"), messages.append, FileSpec(stride=8), source=parent)
    assert small.path.name == "fcn8-ptq-logits-stride8-uint8.tflite"
    assert "segquant_mask.c" in small.recipe.to_json()["postprocess"]
    assert open_artifact(small.path).recipe.file.stride == small.recipe.to_json()["output_stride"] == 8
    assert full_size.recipe.differences(small.recipe) == ["output_stride", "postprocess"]
    (small.path.parent / "segquant_mask.c").unlink()
    again = convert(run, target("cpu"), messages.append, FileSpec(stride=8), source=parent)
    assert "reused" in messages[-1] and again.sha256 == small.sha256

    image = np.rint(noise_images(still("fcn8"))[:1] * 255).astype(np.uint8)
    full, few = (outputs_of(artifact.path, image)[0] for artifact in (full_size, small))
    assert few.shape == (9, 13, 9) and few.dtype == np.int8
    mask = exact_mask(few, Grid(72, 104, "align_corners"))
    assert len(np.unique(mask)) > 1 and (mask == full.argmax(-1)).mean() > 0.97  # the graph's resize rounds

    header = small.path.with_suffix(".h")
    (tmp_path / "app.c").write_text(f"""
#include "segquant_mask.h"
#include "{header.name}"
#include <stdio.h>
static int8_t logits[SEGQUANT_OUTPUT_HEIGHT * SEGQUANT_OUTPUT_WIDTH * SEGQUANT_CLASSES];
static uint8_t mask[SEGQUANT_IMAGE_HEIGHT * SEGQUANT_IMAGE_WIDTH];
static int32_t scratch[SEGQUANT_MASK_SCRATCH(SEGQUANT_OUTPUT_WIDTH)];
static const char *const names[SEGQUANT_CLASSES] = SEGQUANT_CLASS_NAMES;
static const uint8_t colours[SEGQUANT_CLASSES][3] = SEGQUANT_CLASS_COLOURS;
int main(void) {{
    for (int i = 0; i < SEGQUANT_CLASSES; i++)
        printf("%s %d %d %d\\n", names[i], colours[i][0], colours[i][1], colours[i][2]);
    return sizeof logits != 9 * 13 * 9 || sizeof mask != 72 * 104 ||
           segquant_mask(logits, SEGQUANT_OUTPUT_HEIGHT, SEGQUANT_OUTPUT_WIDTH, SEGQUANT_CLASSES,
                         SEGQUANT_OUTPUT_WIDTH * SEGQUANT_CLASSES, mask, SEGQUANT_IMAGE_HEIGHT, SEGQUANT_IMAGE_WIDTH,
                         SEGQUANT_IMAGE_WIDTH, SEGQUANT_RESIZE, scratch) != SEGQUANT_OK;
}}
""")
    if shutil.which("cc"):
        command = [
            "cc",
            "-std=c99",
            "-Wall",
            "-Werror",
            f"-I{header.parent}",
            "app.c",
            str(header.parent / "segquant_mask.c"),
        ]
        assert subprocess.run([*command, "-o", "app"], cwd=tmp_path, check=False).returncode == 0
        result = subprocess.run([str(tmp_path / "app")], check=False, capture_output=True, text=True)
        assert result.returncode == 0
        classes = zip(run.config.classes, run.config.colours, strict=True)
        assert result.stdout.splitlines() == [f"{name} {r} {g} {b}" for name, (r, g, b) in classes]


def test_metadata_come_to_a_file_of_a_version_that_wrote_none(run):
    messages: list[str] = []
    parent = choose_parent(run, target("cpu"), ASKED, messages.append)
    artifact = convert(run, target("cpu"), messages.append, FileSpec(stride=4), source=parent)
    model = unpacked_model(artifact.path.read_bytes())
    model.metadata = [entry for entry in model.metadata if entry.name.decode() != "TFLITE_METADATA"]
    artifact.path.write_bytes(packed(model, artifact.path.stat().st_size))
    sidecar = json.loads(beside(artifact.path).read_text()) | {"sha256": sha256(artifact.path)}
    beside(artifact.path).write_text(json.dumps(sidecar))
    again = convert(run, target("cpu"), messages.append, FileSpec(stride=4), source=parent)
    assert "metadata added" in messages[-1] and zipfile.is_zipfile(again.path)
    assert open_artifact(again.path).recipe == artifact.recipe
    convert(run, target("cpu"), messages.append, FileSpec(stride=4), source=parent)
    assert messages[-1].endswith("reused")


NAMES = ['say "no"', "back\\slash", "what??/", "Straße", "tab\t1", "%s", "*/ int x; /*", "a\nb", "\udcff"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_a_c_string_and_fits_into_a_comment(name, tmp_path):
    if not shutil.which("cc"):
        pytest.skip("no C compiler")
    (tmp_path / "name.c").write_text(
        f"/* {c_comment(name)} */\n#include <stdio.h>\nint main(void) {{ fputs({c_string(name)}, stdout); return 0; }}"
    )
    command = ["cc", "-std=c99", "-trigraphs", "-Wall", "-Werror", "name.c", "-o", "name"]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    assert (
        subprocess.run([str(tmp_path / "name")], check=True, capture_output=True).stdout == well_formed(name).encode()
    )


def test_a_mask_on_cpu_is_made_of_small_logits_unless_asked_otherwise(run):
    def chosen(name, output, stride=None, io=None):
        messages: list[str] = []
        spec = spec_for(run, target(name), output, stride, io, messages.append)
        return spec.output, spec.stride, bool(messages)

    assert chosen("cpu", "mask") == ("logits", 8, True)
    assert chosen("cpu", "mask", 1) == ("mask", 1, False)
    assert chosen("cpu", "mask", 4) == ("mask", 4, False)
    assert chosen("cpu", "mask", io="float32") == ("mask", 1, False)
    assert chosen("cpu", "logits") == ("logits", 1, False)
    assert chosen("cpu", "scores", 8) == ("scores", 8, False)
    assert chosen("gpu", "mask") == ("mask", 1, False)


def test_the_float_parent_of_small_logits_has_small_logits_too(run):
    parent = float_reference(run, FileSpec(stride=8), lambda _: None)
    assert parent.recipe.target == FLOAT.name and parent.recipe.file == FLOAT.file_spec("logits", 8)
    assert parent.recipe.to_json()["postprocess"] is None and not list(parent.path.parent.glob("*.c"))
    mask = convert(run, FLOAT, lambda _: None, FLOAT.file_spec("mask", 4))
    assert "segquant_expand" in mask.recipe.file.postprocess
    assert "segquant_expand(output, SEGQUANT_OUTPUT_HEIGHT" in mask.path.with_suffix(".h").read_text()


def test_samples_without_a_convention_are_refused():
    class Small(StandInRunner):
        def infer(self, image):
            return np.zeros((1, 9, 13, 5), np.int8)

    from pipeline.core.preprocessing import Preprocessing

    image = np.zeros((72, 104, 3), np.uint8)
    with pytest.raises(ArtifactError, match="9x13 samples for 72x104 pixels"):
        runner_infer(Small(), Preprocessing(72, 104))(image)
    assert runner_infer(Small(), Preprocessing(72, 104), "align_corners")(image).shape == (72, 104)


@pytest.mark.real
def test_the_trained_network_on_real_images(real_data, tmp_path):
    """Logits of the trained CamVid network, as int8 at stride 8: C, NumPy and the definition agree on every pixel."""
    from calib.ranges import measure
    from pipeline.core.preprocessing import Preprocessing
    from pipeline.heads.native import NativeMask, compiler
    from pipeline.quantize.plan import plan
    from tests.heads.test_mask import dense

    model = models.build(ModelSpec("fast-scnn", 360, 480, 11))
    checkpoint.load(model, pretrained("fast-scnn")["camvid"])
    splits, preprocessing = open_dataset(f"camvid:{real_data / 'camvid'}").splits, Preprocessing(360, 480)
    planned = plan(model)
    images = [preprocessing.tensor(sample.image(), "float32") for sample in splits["train"][:4]]
    ranges = planned.share(measure(model, planned.points, lambda: iter(images)))
    interpreter = Interpreter(model_content=to_tflite(model, ranges, FileSpec(stride=8)))
    interpreter.allocate_tensors()
    native = NativeMask(tmp_path) if compiler() else None
    boundary = 0.0
    for sample in splits["val"][::10]:
        interpreter.set_tensor(
            interpreter.get_input_details()[0]["index"], preprocessing.tensor(sample.image(), "uint8")
        )
        interpreter.invoke()
        logits = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
        assert logits.shape == (45, 60, 11)
        for resize in ("align_corners", "half_pixel"):
            expected = dense(logits, 360, 480, resize)
            assert np.array_equal(exact_mask(logits, Grid(360, 480, resize)), expected)
            assert native is None or np.array_equal(native.exact(logits, Grid(360, 480, resize)), expected)
        boundary = max(boundary, (np.diff(expected.astype(int), axis=1) != 0).mean())
    assert 0.005 < boundary < 0.5  # real masks: neither empty nor noise
