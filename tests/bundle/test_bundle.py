"""A bundle's programs against its golden files, and against `predict`, which they know nothing of."""

import csv
import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ai_edge_litert
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from pipeline.bundle.browser_file import browser_file
from pipeline.bundle.bundle import bundle
from pipeline.bundle.golden import Golden
from pipeline.bundle.readme import readme
from pipeline.cli.bundle import first_image
from pipeline.compilers.browser import HOME, missing
from pipeline.core.errors import RunError
from pipeline.core.file_spec import FileSpec
from pipeline.core.recipe import About
from pipeline.predict.segmenter import segmenter
from pipeline.targets import target
from pipeline.tflite.metadata import refusal
from pipeline.tflite.read import read
from tests.support.live_page import driven
from tests.support.shipped import COLOURS, file_of, shipped, shipped_into

SPECS = {
    "uint8 logits": ("cpu", FileSpec()),
    "int8 logits at stride 8": ("ethos-u55", FileSpec(stride=8, io="int8")),
    "float16": ("gpu", FileSpec(io="float32", weights="float16")),
    "mask at stride 8": ("cpu", FileSpec(output="mask", stride=8)),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return shipped(tmp_path_factory.mktemp("shipped"))[0]


@pytest.fixture(scope="module")
def bundled(run, tmp_path_factory):
    """A case of SPECS → (its artifact, its folder), each made once."""
    bundles = {}

    def of(name):
        if name not in bundles:
            chip, spec = SPECS[name]
            artifact = shipped_into(run, chip, spec)
            folder = tmp_path_factory.mktemp("bundle")
            bundle(artifact, target(chip), first_image(run), folder, lambda _: None)
            bundles[name] = artifact, folder
        return bundles[name]

    return of


def photo(height, width, seed=5):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 9 + 1, width // 9 + 1, 3))
    noisy = coarse.repeat(9, 0).repeat(9, 1)[:height, :width] + rng.integers(-20, 20, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def python(folder, *arguments):
    command = [sys.executable, str(folder / "python" / "segment.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def masks_by_predict(artifact, images):
    with segmenter(artifact) as network:
        return [network.infer(image) for image in images]


def test_the_folder_says_what_an_app_needs_to_know(run, bundled):
    artifact, folder = bundled("uint8 logits")
    model = run.config.model
    network = json.loads((folder / "network.json").read_text())
    assert network["input"] == {
        **{"height": model.height, "width": model.width, "channels": "RGB", "dtype": "uint8"},
        **{"scale": pytest.approx(1 / 255), "zero_point": 0},
    }
    assert network["classes"] == list("abcde") and network["colours"] == [list(colour) for colour in COLOURS]
    assert (folder / "labels.txt").read_text() == "a\nb\nc\nd\ne\n"
    rows = list(csv.reader(io.StringIO((folder / "palette.csv").read_text())))
    assert rows[1] == ["0", "a", "#{:02x}{:02x}{:02x}".format(*COLOURS[0])]
    assert (folder / artifact.path.name).read_bytes() == artifact.path.read_bytes()
    text = (folder / "README.md").read_text()
    for fact in (
        "**R, G, B**",
        f"{model.height} rows and {model.width} columns",
        "1/255",
        "zero point 0",
        "not run here",
    ):
        assert fact in text, fact
    assert "Version: 000000000000" in text
    for program in ("createFromOptions", "ImageSegmenter(options:", "CompiledModel.create", artifact.path.name):
        assert program in text, program
    assert "$" not in text
    phones = text.partition("| phone |")[2].partition("\n\n")[0]
    named = re.findall(r"`([^`]+)`", phones)
    assert len(named) >= 5 and all(target(name) for name in named)
    golden = np.asarray(Image.open(folder / "golden" / "image.png"))
    assert golden.shape[:2] != (model.height, model.width), "a wrong resize would pass"
    assert (folder / "golden" / "image.ppm").read_bytes().endswith(golden.tobytes())
    (mask,) = masks_by_predict(artifact, [golden])
    assert (np.asarray(Image.open(folder / "golden" / "mask.png")) == mask).all() and len(np.unique(mask)) >= 3


def test_a_file_that_mediapipe_misreads_comes_without_its_code_and_a_small_mask_says_how_to_expand_it(run, tmp_path):
    spec = FileSpec(output="mask", stride=8)
    artifact = shipped_into(run, "cpu", FileSpec(), recipe_spec=spec, about=About(author="[x](http://y) @someone"))
    graph = read(artifact.path.read_bytes())
    nothing = Golden(np.zeros((9, 9, 3), np.uint8), np.zeros(1, np.int32), np.zeros((9, 9), np.uint8))
    text = readme(artifact, graph, target("cpu"), nothing, refusal(graph, artifact.recipe))
    assert "cannot use this file: it takes the argmax itself" in text and "createFromOptions" not in text
    assert "one sample for 8 pixels" in text and "network's size first (`segquant_expand`, `align_corners`)" in text
    assert "Author: " in text and not any(live in text for live in ("[x](", "@someone")) and "CompiledModel" in text


def test_the_python_program_checks_itself_and_gives_predicts_mask(bundled, tmp_path):
    artifact, folder = bundled("uint8 logits")
    copy = tmp_path / "app"
    shutil.copytree(folder, copy)
    result = python(copy)
    assert result.returncode == 0 and result.stdout.endswith("PASSED\n"), result.stdout + result.stderr
    image = photo(150, 220)
    Image.fromarray(image).save(tmp_path / "photo.png")
    result = python(copy, tmp_path / "photo.png", tmp_path / "mask.png")
    assert result.returncode == 0 and len(result.stdout.splitlines()) == 5, result.stderr
    mask = Image.open(tmp_path / "mask.png")
    assert (np.asarray(mask) == masks_by_predict(artifact, [image])[0]).all()
    assert np.reshape(mask.getpalette()[:15], (5, 3)).tolist() == [list(colour) for colour in COLOURS]
    for name, at in (("output.bin", 100), ("image.png", None)):
        golden = copy / "golden" / name
        kept = golden.read_bytes()
        if at is None:
            Image.fromarray(photo(150, 220)).save(golden)
        else:
            golden.write_bytes(kept[:at] + bytes([kept[at] ^ 1]) + kept[at + 1 :])
        result = python(copy)
        assert result.returncode == 1 or "Error" in result.stderr, (name, result.stdout)
        golden.write_bytes(kept)


def test_a_folder_that_is_not_empty_stays_as_it_is(run, bundled, tmp_path):
    artifact, _ = bundled("uint8 logits")
    for name in ("mine.txt", ".mine.part"):
        (tmp_path / name).write_text("mine")
    ask = (artifact, target("cpu"), photo(40, 50), tmp_path, lambda _: None)
    with pytest.raises(RunError, match="--force"):
        bundle(*ask)
    assert {file.name for file in tmp_path.iterdir()} == {"mine.txt", ".mine.part"}
    result = bundle(*ask, force=True)
    assert (tmp_path / "mine.txt").read_text() == "mine" and all(file.is_file() for file in result.files)


def test_what_a_compiler_made_comes_along(bundled, tmp_path):
    artifact, _ = bundled("uint8 logits")
    chip = target("openvino-ir")
    twin = tmp_path / f"net{chip.compiled_suffix}"
    files = chip.files_of(twin)
    assert len(files) > 1, "a file that belongs to the compiled one proves more"
    for file in files:
        file.write_bytes(file.name.encode())
    image = photo(*artifact_size(artifact))
    result = bundle(dataclasses.replace(artifact, compiled=twin), chip, image, tmp_path / "app", lambda _: None)
    assert all((result.folder / file.name).read_bytes() == file.name.encode() for file in files)
    text = (result.folder / "README.md").read_text()
    assert f"`{twin.name}` is the same network, compiled" in text and "no resize is checked" in text
    assert json.loads((result.folder / "network.json").read_text())["compiled"] == twin.name


@pytest.mark.parametrize(
    ("compiled", "made_for", "other"),
    [
        ("net_SM8550_qualcomm.tflite", "qualcomm:SM8550", "qualcomm:SM8650"),
        ("net_ethos-u55-128_vela.tflite", "ethos-u55:128", "ethos-u55:256"),
        ("net_vela.tflite", "ethos-u55:256", "ethos-u55:128"),
    ],
)
def test_a_file_that_was_compiled_for_another_chip_is_refused_or_called_what_it_is(
    bundled, tmp_path, compiled, made_for, other
):
    artifact, _ = bundled("uint8 logits")
    twin = tmp_path / compiled
    twin.write_bytes(b"compiled")
    artifact, image = dataclasses.replace(artifact, compiled=twin), photo(*artifact_size(artifact))
    with pytest.raises(RunError, match=f"compiled for {made_for}: for {other} run"):
        bundle(artifact, target(other), image, tmp_path / "no", lambda _: None)
    for name in (made_for, made_for.partition(":")[0]):
        result = bundle(artifact, target(name), image, tmp_path / name, lambda _: None)
        title = target(made_for).title
        text = (result.folder / "README.md").read_text()
        assert f"compiled for {title}" in text and f"This bundle is for `{made_for}`" in text


def artifact_size(artifact):
    model = artifact.recipe.origin.model
    return model.height, model.width


def test_the_command_makes_it_of_the_first_validation_image(cli, run, tmp_path):
    result = cli("bundle", "--run", str(run.path), "--target", "cpu", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = Path(result.stdout.strip())
    assert folder == run.path / "bundles" / "cpu" and (folder / "README.md").is_file()
    (folder / "node_modules").mkdir()  # of `npm ci`
    again = cli("bundle", "--run", str(run.path), "--target", "cpu", cwd=tmp_path)
    assert again.returncode == 0 and "reused" in again.stderr and again.stdout == result.stdout
    (folder / "labels.txt").write_text("mine\n")
    changed = cli("bundle", "--run", str(run.path), "--target", "cpu", cwd=tmp_path)
    assert changed.returncode == 2 and "--force" in changed.stderr
    assert (folder / "labels.txt").read_text() == "mine\n"
    none = cli("bundle", "--run", str(run.path), "--target", "web", cwd=tmp_path)
    assert none.returncode == 2 and "convert --target web" in none.stderr


def output_of(data, image):
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    (input_detail,), (output_detail,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(input_detail["index"], image.astype(input_detail["dtype"]))
    interpreter.invoke()
    return input_detail, output_detail, interpreter.get_tensor(output_detail["index"])


@pytest.mark.parametrize("spec", [FileSpec(), pytest.param(FileSpec(stride=8, io="int8"), marks=pytest.mark.real)])
def test_the_file_for_browsers_loses_nothing(spec):
    """In LiteRT here; LiteRT.js is asked below."""
    data = file_of(spec)
    raw = photo(400, 400)
    shape = Interpreter(model_content=data).get_input_details()[0]["shape"]
    raw = raw[None, : shape[1], : shape[2]]
    shift = 128 if spec.io == "int8" else 0
    _, int8_detail, expected = output_of(data, raw.astype(np.int16) - shift)
    input_detail, output_detail, got = output_of(browser_file(data), raw)
    assert input_detail["dtype"] == np.uint8 and output_detail["dtype"] == np.float32
    scale, zero_point = int8_detail["quantization"]
    assert (np.rint(got / scale + zero_point) == expected).all() and len(np.unique(expected)) > 20


@pytest.mark.real
@pytest.mark.parametrize("name", SPECS)
def test_python_and_cpp_give_predicts_mask(bundled, tmp_path, name):
    if not shutil.which("g++") or not shutil.which("make"):
        pytest.skip("no C++ compiler: run `apt-get install g++ make`")
    artifact, folder = bundled(name)
    litert = Path(ai_edge_litert.__file__).parent
    result = subprocess.run(
        ["make", "-C", str(folder / "cpp"), "check", f"LITERT={litert}"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0 and "PASSED" in result.stdout and "warning:" not in result.stderr, (
        result.stdout + result.stderr
    )
    assert python(folder).stdout.endswith("PASSED\n")
    images = [photo(150, 220), photo(37, 300), photo(241, 201)]
    for image, expected in zip(images, masks_by_predict(artifact, images), strict=True):
        height, width = expected.shape
        (tmp_path / "photo.ppm").write_bytes(f"P6\n{width} {height}\n255\n".encode() + image.tobytes())
        program = [str(folder / "cpp" / "segment"), str(tmp_path / "photo.ppm"), str(tmp_path / "mask.pgm")]
        assert subprocess.run(program, capture_output=True, check=False).returncode == 0
        by_cpp = np.asarray(Image.open(tmp_path / "mask.pgm"))
        Image.fromarray(image).save(tmp_path / "photo.png")
        assert python(folder, tmp_path / "photo.png", tmp_path / "mask.png").returncode == 0
        by_python = np.asarray(Image.open(tmp_path / "mask.png"))
        assert (by_cpp == expected).all() and (by_python == expected).all(), (name, image.shape)


@pytest.mark.real
@pytest.mark.parametrize("name", SPECS)
def test_the_page_gives_predicts_mask_of_what_is_dropped_and_filmed(bundled, tmp_path, monkeypatch, name):
    if (needed := missing()) is not None:
        pytest.skip(f"LiteRT.js cannot be asked here: {needed}")
    artifact, source = bundled(name)
    folder = tmp_path / "app"
    shutil.copytree(source, folder)
    (folder / "browser" / "node_modules").symlink_to(HOME / "node_modules")
    images = {"wide.png": photo(37, 300, seed=6), "tall.png": photo(241, 201)}
    files = {}
    for each, image in images.items():
        Image.fromarray(image).save(buffer := io.BytesIO(), "PNG")
        files[each] = buffer.getvalue()
    reports = driven(folder, files, monkeypatch)
    assert json.loads(reports["end"]) == []
    golden = json.loads(reports["golden"])
    assert golden["passed"] and "PASSED" in golden["text"], golden
    with segmenter(artifact) as network:
        for each in (*images, "camera"):
            size = json.loads(reports[each])
            shape = size["height"], size["width"]
            rgb = np.frombuffer(reports[f"{each}.rgb"], np.uint8).reshape(*shape, 3)
            if each in images:
                assert (rgb == images[each]).all()
            expected = network.infer(rgb)
            mask = np.frombuffer(reports[f"{each}.mask"], np.uint8).reshape(shape)
            same = (mask == expected).mean()
            assert same == 1 if artifact.recipe.file.weights == "int8" else same > 0.999, (each, same)
            shown = np.frombuffer(reports[f"{each}.canvas"], np.uint8).reshape(*shape, 4)[..., :3].astype(float)
            assert np.abs(shown - (rgb.astype(float) + np.asarray(COLOURS)[mask]) / 2).max() <= 1
            assert f"{shape[1]} × {shape[0]} pixels" in size["status"]
