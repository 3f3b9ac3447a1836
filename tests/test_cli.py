"""What a user meets: exit codes, one sentence and no traceback, and nothing written before is lost."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, run_cli
from PIL import Image


def fails(done, *words, code=2):
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith(("error:", "Error:"))]
    assert len(said) == 1, done.stderr
    for word in words:
        assert word in said[0], said[0]


def files_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "command", [["convert", "--target", "cpu"], ["bench"], ["bench", "--device"], ["evaluate"]], ids=" ".join
)
def test_without_a_run_it_says_to_run_qat_first(cli, tmp_path, command):
    fails(cli(*command, cwd=tmp_path), "there is no run yet", "cli.py qat")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["qat", "--model", "fast-scn"], ["unknown model 'fast-scn'", "'fast-scnn'"]),
        (["qat", "--data", "camvd:/x"], ["unknown dataset 'camvd'", "'camvid'"]),
        (["qat", "--data", "camvid"], ["names no folder", "camvid:DIR"]),
        (["qat", "--data", "camvid:/not/there"], ["/not/there", "does not exist"]),
        (["qat", "--size", "64x64"], ["64x64", "too small", "161x161"]),
        (["qat", "--size", "big"], ["'big'", "HEIGHTxWIDTH"]),
        (["qat", "--alpha", "9"], ["alpha is 9"]),
        (["convert", "--target", "edgetp"], ["unknown target 'edgetp'", "'edgetpu'"]),
        (["bench", "--device", "hst"], ["unknown device 'hst'", "'host'"]),
        (["bench", "--run", "nowhere"], ["nowhere", "does not exist"]),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) and x[0] in ("qat", "convert", "bench") else "",
)
def test_what_does_not_exist_or_fit_is_said_in_one_sentence(cli, tmp_path, arguments, words):
    fails(cli(*arguments, cwd=tmp_path), *words)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def images(tmp_path):
    """A folder dataset of noise with two classes."""
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(0, 256, (161, 170, 3), dtype=np.uint8)
            Image.fromarray(image).save(root / split / "images" / f"{i}.png")
            Image.fromarray((image[..., 0] > 127).astype(np.uint8)).save(root / split / "masks" / f"{i}.png")
    (root / "classes.txt").write_text("dark\nbright\n")
    return root


def quick(images):
    return ["--data", f"folder:{images}", "--size", "161x170", "--alpha", "0.125", "--batch", "2"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: (root / "train/images/1.png").write_bytes(b"no image"), ["1.png", "cannot be decoded"]),
        (lambda root: Image.new("L", (5, 5)).save(root / "train/masks/2.png"), ["2.png", "5x5", "161x170"]),
        (lambda root: Image.new("L", (170, 161), 9).save(root / "train/masks/3.png"), ["3.png", "the value 9"]),
        (lambda root: shutil.rmtree(root / "train/images"), ["train"]),
    ],
    ids=["undecodable", "mask size", "label value", "missing folder"],
)
def test_bad_images_are_named(cli, images, tmp_path, damage, words):
    damage(images)
    fails(cli("train", *quick(images), "--steps", "2", cwd=tmp_path), *words)


SOON = ("--runs", "5", "--seconds", "0", "--starts", "2")


def test_the_whole_path_on_a_folder_of_ones_own(cli, images, tmp_path):
    """Train, PTQ, QAT, all targets, reuse, refusal to overwrite, broken files: one small run, many questions."""
    done = cli("train", *quick(images), "--steps", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name == "fast-scnn-folder-161x170"

    ptq = cli("convert", "--target", "cpu", "--images", "3", cwd=tmp_path)
    assert ptq.returncode == 0 and "post-training quantization" in ptq.stderr, ptq.stderr
    before = files_of(run)
    again = cli("convert", "--target", "cpu", "--images", "3", cwd=tmp_path)
    assert again.returncode == 0 and "reused" in again.stderr and files_of(run) == before
    fails(
        cli("convert", "--target", "cpu", "--images", "2", cwd=tmp_path), "exists with another calibration", "--force"
    )
    assert files_of(run) == before

    fails(cli("train", "--run", str(run), "--steps", "4", cwd=tmp_path), "steps", "--force")
    fails(cli("train", "--run", str(run), "--seed", "5", cwd=tmp_path), "seed 0, not 5")
    assert files_of(run) == before

    trained = cli("qat", "--steps", "2", "--batch", "2", "--images", "3", cwd=tmp_path)
    assert trained.returncode == 0 and f"run {run.relative_to(tmp_path)}" in trained.stderr, trained.stderr
    reused = cli("qat", "--steps", "2", "--batch", "2", "--images", "3", cwd=tmp_path)
    assert "reused" in reused.stderr and reused.returncode == 0

    converted = cli("convert", "--target", "edgetpu", cwd=tmp_path, env=without_compiler())
    assert converted.returncode == 0 and "not compiled" in converted.stdout, converted.stderr
    required = cli("convert", "--target", "edgetpu", "--require-compiled", cwd=tmp_path, env=without_compiler())
    fails(required, "not compiled", "edgetpu-compiler", code=1)
    for name in ("gpu", "nnapi"):
        done = cli("convert", "--target", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "deprecated since Android 15" in done.stderr
    fails(cli("convert", "--target", "edgetpu", "--io", "float32", cwd=tmp_path), "--io float32", "int8, uint8")

    masked = cli("convert", "--target", "cpu", "--output", "mask", cwd=tmp_path)
    assert masked.returncode == 0 and "segquant_mask.c beside it" in masked.stderr, masked.stderr
    assert (run / "artifacts/cpu/fast-scnn-qat-logits-stride8-uint8.h").is_file()
    measured = cli("bench", "--target", "cpu", *SOON, cwd=tmp_path)
    assert measured.returncode == 0 and "latency is up to the logits at stride 8" in measured.stdout, measured.stderr

    out = tmp_path / "numbers.json"
    measured = cli(
        "bench", "--device", "--target", "edgetpu", *SOON, "--json", str(out), "--max-drop", "100", cwd=tmp_path
    )
    assert "started 2 times" in measured.stdout.replace("\n", " ")
    assert measured.returncode == 0 and "best device attached" in measured.stderr, measured.stderr
    numbers = json.loads(out.read_text())
    assert numbers["images"] == 2 and len(numbers["artifact"]["latency"]["samples_ms"]) >= 5
    failed = cli("bench", "--target", "gpu", *SOON, "--max-latency-ms", "0.0001", cwd=tmp_path)
    fails(failed, "gate failed", "--max-latency-ms allows 0.0001", code=1)

    file = run / "artifacts/edgetpu/fast-scnn-qat-logits-int8.tflite"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    fails(cli("bench", "--target", "edgetpu", cwd=tmp_path), "fast-scnn-qat-logits-int8.tflite")
    file.write_bytes(whole)
    checkpoint = run / "qat/best.weights.h5"
    checkpoint.write_bytes(checkpoint.read_bytes()[:3000])
    fails(cli("convert", "--target", "cpu", "--output", "mask", cwd=tmp_path), "best.weights.h5", "broken")
    assert file.read_bytes() == whole


def without_compiler():
    import os

    kept = [p for p in os.environ["PATH"].split(":") if not shutil.which("edgetpu_compiler", path=p)]
    return {**os.environ, "PATH": ":".join(kept)}


def test_a_python_without_the_dependencies_gets_one_sentence(tmp_path):
    shutil.copy(ROOT / "cli.py", tmp_path)
    command = [sys.executable, "-I", "-S", str(tmp_path / "cli.py"), "qat"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert "make install" in line and "tensorflow" in line


@pytest.mark.parametrize("command", ["train", "qat", "convert", "evaluate", "bench", "inspect", "doctor", "list"])
def test_help_explains_every_option(cli, tmp_path, command):
    done = cli(command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) >= 5 and "Options:" in done.stdout


def test_a_real_process_says_the_same(tmp_path):
    fails(run_cli("bench", "--device", cwd=tmp_path), "there is no run yet", "cli.py qat")
    assert not list(tmp_path.iterdir())
