"""What a user meets: exit codes, one sentence and no traceback, and nothing written before is lost."""

import importlib.metadata
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest
from click import Option
from PIL import Image

from pipeline.cli import COMMANDS
from tests.conftest import ROOT, run_cli
from tests.support.single_ops import small_file


def fails(result, *words, code=2):
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith(("error:", "Error:"))]
    assert len(errors) == 1, result.stderr
    for word in words:
        assert word in errors[0], errors[0]


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
        (["train", "--data", "folder:/not/there"], ["/not/there", "does not exist"]),
        (["qat", "--size", "64x64"], ["64x64", "too small", "161x161"]),
        (["qat", "--size", "big"], ["'big'", "HEIGHTxWIDTH"]),
        (["qat", "--size", "9000x9000"], ["9000x9000", "at most 8192"]),
        (["qat", "--alpha", "9"], ["'--alpha': 9.0", "0<x<=4"]),
        (["convert", "--target", "edgetp"], ["unknown target 'edgetp'", "'edgetpu'"]),
        (["convert", "--target", "coral"], ["unknown target 'coral'", "it is called 'edgetpu' (Coral Edge TPU)"]),
        (["convert", "--target", "Pixel:9"], ["unknown target 'Pixel'", "'google-tensor' (", "'gpu' ("]),
        (["bench", "--target", "phone"], ["unknown target 'phone'", "'gpu' (", "'nnapi' ("]),
        (["convert", "--target", "nnapi:26"], ["nnapi:26", "no such feature level", "nnapi:27, nnapi:28"]),
        (["convert", "--target", "nnapi:29", "--level", "30"], ["nnapi:29 and level 30 contradict"]),
        (["convert", "--target", "all:29"], ["--target 'all:29'", "write all."]),
        (["agree", "--target", "qualcomm:SM865"], ["system on chip", "'SM8650'"]),
        (["evaluate", "--target", "cpu:1"], ["target 'cpu:1'", "write cpu."]),
        (["profile", "--target", "ethos-u55:100"], ["ethos-u55:100", "write one of ethos-u55:32"]),
        (["bench", "--device", "hst"], ["unknown device 'hst'", "'host'"]),
        (["bench", "--device", "pixel"], ["unknown device 'pixel'", "it is called 'android'"]),
        (["bench", "--device", "coral"], ["unknown device 'coral'", "it is called 'edgetpu'"]),
        (["bench", "--device", "ios"], ["nothing here reaches an iPhone"]),
        (["bench", "--run", "nowhere"], ["nowhere", "does not exist"]),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) and x[-1] != x[0] and x[0].isalpha() else "",
)
def test_what_does_not_exist_or_fit_is_said_in_one_sentence(cli, tmp_path, arguments, words):
    fails(cli(*arguments, cwd=tmp_path), *words)
    assert not list(tmp_path.iterdir())


NUMBERS = [
    "train --learning-rate",
    "train --alpha",
    "train --l2",
    "train --dropout",
    "qat --distil",
    "qat --learning-rate",
    "qat --freeze-statistics",
    "bench --seconds",
    "bench --max-drop",
    "bench --max-latency-ms",
    "inspect x --target cpu --wait",
    "gate --max-loss",
    "gate --max-class-loss",
    "gate --max-latency-ratio",
    "gate --max-size-ratio",
    "gate --max-coverage-loss",
    "gate --max-drop",
    "gate --max-latency-ms",
    "gate --min-coverage",
    "predict x --opacity",
    "predict x --seconds",
]


@pytest.mark.parametrize("option", NUMBERS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "NaN", "1e999"])
def test_every_number_is_finite(cli, tmp_path, option, value):
    fails(cli(*option.split(), value, cwd=tmp_path), "Invalid value for")
    assert not list(tmp_path.iterdir())


def test_every_number_of_every_command_is_among_these():
    from click import FLOAT, IntRange

    from cli import main
    from pipeline.cli.options import Number

    options, commands = set(), {name: main.get_command(None, name) for name in COMMANDS}
    for name, command in commands.items():
        for parameter in command.params:
            assert parameter.type is not FLOAT, f"{name} {parameter.opts}"
            if isinstance(parameter.type, Number):
                options.add(f"{name} {parameter.opts[0]}")
    same = {"qat": ["--alpha", "--l2", "--dropout"]}  # one option in two commands
    known = {" ".join([n.split()[0], n.split()[-1]]) for n in NUMBERS} | {f"{c} {o}" for c in same for o in same[c]}
    assert options == known
    counts = {p.opts[0]: p.type for p in commands["qat"].params if isinstance(p.type, IntRange)}
    assert all(counts[name].max is not None for name in ("--seed", "--steps", "--batch"))


@pytest.mark.parametrize("value", ["-1", str(2**31), "1" * 30])
def test_seeds_steps_and_batches_are_in_a_machines_reach(cli, tmp_path, value):
    for option in ("--seed", "--steps", "--batch"):
        fails(cli("qat", option, value, cwd=tmp_path), "Invalid value for")
    fails(cli("train", "--steps", "10000000", "--batch", "4000", cwd=tmp_path), "fewer than 2147483648 are allowed")
    assert not list(tmp_path.iterdir())


# What --json names


def asked(cli, tmp_path, destination, expect=0):
    """A command that is quick and writes numbers."""
    file = small_file(tmp_path)
    result = cli("inspect", str(file), "--target", "edgetpu", "--no-compiler", "--json", destination, cwd=tmp_path)
    assert result.returncode == expect, result.stdout + result.stderr
    return result


def test_json_goes_where_it_is_told_and_nowhere_else(cli, tmp_path):
    asked(cli, tmp_path, "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    device = tmp_path / "null"
    device.symlink_to("/dev/null")
    asked(cli, tmp_path, str(device))
    assert device.is_symlink() and not list(tmp_path.glob("null.*"))
    fifo, read = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: read.append(fifo.read_text()))
    reader.start()
    asked(cli, tmp_path, str(fifo))
    reader.join(20)
    assert json.loads(read[0])["inspections"] and stat.S_ISFIFO(fifo.stat().st_mode)
    for name in ("-", "/dev/stdout"):
        result = asked(cli, tmp_path, name)
        assert json.loads(result.stdout)["inspections"] and "ops accelerated" in result.stderr
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    asked(cli, tmp_path, "link.json")
    assert (tmp_path / "link.json").is_symlink() and json.loads((tmp_path / "real.json").read_text())
    assert (tmp_path / "real.json.1").read_text() == "old"
    folder = tmp_path / "folder"
    folder.mkdir()
    fails(asked(cli, tmp_path, str(folder), 2), "is a folder")
    fails(asked(cli, tmp_path, "", 2), "the name is empty")
    fails(asked(cli, tmp_path, str(tmp_path / "real.json" / "x"), 2), "cannot be written")
    assert folder.is_dir() and not list(folder.iterdir())


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


def fill(masks, value):
    for mask in masks.iterdir():
        Image.new("L", (170, 161), value).save(mask)


def quick(images):
    return ["--data", f"folder:{images}", "--size", "161x170", "--alpha", "0.125", "--batch", "2"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: (root / "train/images/1.png").write_bytes(b"no image"), ["1.png", "cannot be decoded"]),
        (lambda root: Image.new("L", (5, 5)).save(root / "train/masks/2.png"), ["2.png", "5x5", "161x170"]),
        (lambda root: Image.new("L", (170, 161), 9).save(root / "train/masks/3.png"), ["3.png", "the value 9"]),
        (lambda root: shutil.rmtree(root / "train/images"), ["train"]),
        (lambda root: Image.new("L", (170, 161), 9).save(root / "val/masks/1.png"), ["1.png", "the value 9"]),
        (lambda root: Image.new("RGB", (170, 161)).save(root / "val/masks/1.png"), ["1.png", "mode RGB"]),
        (
            lambda root: fill(root / "train/masks", 255),
            ["training split"],
        ),
        (lambda root: fill(root / "val/masks", 255), ["val split"]),
        (lambda root: fill(root / "train/masks", 0), ["one class only"]),
    ],
    ids=[
        "undecodable",
        "mask size",
        "label value",
        "missing folder",
        "val label",
        "val label of colours",
        "nothing labelled",
        "nothing labelled in val",
        "one class",
    ],
)
def test_bad_images_are_named(cli, images, tmp_path, damage, words):
    damage(images)
    result = cli("train", *quick(images), "--steps", "2", cwd=tmp_path)
    fails(result, *words)
    assert "step " not in result.stderr and not (tmp_path / "runs").exists()  # before anything is trained; no empty run
    fails(cli("train", *quick(images), "--steps", "2", "--run", "mine/run", cwd=tmp_path), *words)
    assert not (tmp_path / "mine/run").exists()


SOON = ("--runs", "5", "--seconds", "0", "--starts", "2")


def test_the_whole_path_on_a_folder_of_ones_own(cli, images, tmp_path):
    """Train, PTQ, QAT, all targets, reuse, refusal to overwrite, broken files: one small run, many questions."""
    result = cli("train", *quick(images), "--steps", "3", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
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

    other = cli("train", "--run", str(run), "--steps", "4", "--batch", "2", cwd=tmp_path)
    fails(other, "was trained with other settings, listed below: to train again, force it")
    assert other.stderr.endswith("\n  schedule.steps: 3, now 4\n") and "{" not in other.stderr
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
        result = cli("convert", "--target", name, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    assert "deprecated since Android 15" in result.stderr
    fails(
        cli("convert", "--target", "edgetpu", "--io", "float32", cwd=tmp_path), "input type (io) float32", "int8, uint8"
    )

    masked = cli("convert", "--target", "cpu", "--output", "mask", cwd=tmp_path)
    assert masked.returncode == 0 and "segquant_mask.c beside it" in masked.stderr, masked.stderr
    assert list((run / "artifacts/cpu").glob("fast-scnn-qat-*logits-stride8-uint8.h"))
    measured = cli("bench", "--target", "cpu", *SOON, cwd=tmp_path)
    assert measured.returncode == 0 and "latency is up to the logits at stride 8" in measured.stdout, measured.stderr

    scored = cli("evaluate", cwd=tmp_path)
    assert "artifact artifacts/cpu/" in scored.stderr and "3 other targets: --target NAME" in scored.stderr, (
        scored.stderr
    )
    title = next(line for line in scored.stdout.splitlines() if "images of folder:" in line)
    assert str(run.relative_to(tmp_path)) in title and str(images) in title  # on one line, to be copied
    assert "has no test split: make test/images/" in cli("evaluate", "--split", "test", cwd=tmp_path).stderr
    out = tmp_path / "numbers.json"
    image = images / "val/images/1.png"
    good = image.read_bytes()
    image.write_bytes(good[:-1])
    fails(cli("evaluate", cwd=tmp_path), "changed since", "--force", "data.json")
    (run / "data.json").unlink()
    skipping = cli("evaluate", "--on-bad-image", "skip", "--json", str(out), cwd=tmp_path)
    assert skipping.returncode == 0 and "on 1 of 2 (1 skipped) val images" in skipping.stdout, skipping.stderr
    assert "skipped 1 val image:\n  1: image " in skipping.stderr, skipping.stderr
    numbers = json.loads(out.read_text())
    assert numbers["images"] == 1 and list(numbers["skipped"]["val"]) == ["1"]
    image.write_bytes(good)
    (run / "data.json").unlink()
    measured = cli(
        "bench", "--device", "--target", "edgetpu", *SOON, "--json", str(out), "--max-drop", "100", cwd=tmp_path
    )
    assert "started 2 times" in measured.stdout.replace("\n", " ")
    assert measured.returncode == 0 and "best device attached" in measured.stderr, measured.stderr
    numbers = json.loads(out.read_text())
    assert numbers["images"] == 2 and len(numbers["artifact"]["latency"]["samples_ms"]) >= 5
    failed = cli("bench", "--target", "gpu", *SOON, "--max-latency-ms", "0.0001", cwd=tmp_path)
    fails(failed, "gate failed", "the limit is 0.0001 ms", code=1)

    (file,) = (run / "artifacts/edgetpu").glob("fast-scnn-qat-*logits-int8.tflite")
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    fails(cli("bench", "--target", "edgetpu", cwd=tmp_path), file.name)
    file.write_bytes(content)
    checkpoint = run / "qat/best.weights.h5"
    checkpoint.write_bytes(checkpoint.read_bytes()[:3000])
    fails(cli("convert", "--target", "cpu", "--output", "mask", cwd=tmp_path), "best.weights.h5", "broken")
    assert file.read_bytes() == content


def without_compiler():
    import os

    kept = [p for p in os.environ["PATH"].split(":") if not shutil.which("edgetpu_compiler", path=p)]
    return {**os.environ, "PATH": ":".join(kept)}


def test_a_python_without_the_dependencies_gets_one_sentence(tmp_path):
    shutil.copy(ROOT / "cli.py", tmp_path)
    command = [sys.executable, "-I", "-S", str(tmp_path / "cli.py"), "qat"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode != 0 and "Traceback" not in result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert "make install" in line and "tensorflow" in line


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_explains_every_option(cli, tmp_path, command):
    """Each has words of its own, beside its default and its range, and the help shows them."""
    from cli import main

    result = cli(command, "--help", cwd=tmp_path)
    assert result.returncode == 0
    shown = "".join(result.stdout.split())
    seen: dict[str, str] = {}
    for option in main.get_command(None, command).params:
        if isinstance(option, Option):
            words = re.sub(r"\[.*?\]", "", option.help or "").strip()
            assert len(words.split()) >= 2 and words.endswith("."), f"{option.opts[0]}: {words!r}"
            assert seen.setdefault(words, option.opts[0]) == option.opts[0]
            assert "".join(words.split()) in shown
    assert "None" not in result.stdout


def test_an_internal_error_is_one_sentence_and_a_log(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.cli.doctor.show_readiness", lambda: 1 // 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fails(cli("doctor", cwd=tmp_path), "internal error (ZeroDivisionError): please report", "segquant-error-", code=70)
    (log,) = tmp_path.glob("segquant-error-*.log")
    assert log.read_text().startswith("Traceback") and "ZeroDivisionError" in log.read_text()


def test_the_version_is_the_changelogs(cli, tmp_path):
    from pipeline.cli import VERSION

    headings = [x for x in (ROOT / "CHANGELOG.md").read_text().splitlines() if x.startswith("## ")]
    assert headings[0].split()[1].lower() == VERSION
    result = cli("--version", cwd=tmp_path)
    assert result.returncode == 0 and result.stdout.startswith(f"segquant {VERSION} (Python 3.")
    assert f"tensorflow {importlib.metadata.version('tensorflow')}" in result.stdout


def test_a_real_process_says_the_same(tmp_path):
    fails(run_cli("bench", "--device", cwd=tmp_path), "there is no run yet", "cli.py qat")
    assert not list(tmp_path.iterdir())


def test_a_phone_is_no_xeon_and_a_browser_is_a_target(cli, tmp_path):
    message = cli("convert", "--target", "phone", cwd=tmp_path).stderr
    assert "choose 'cpu' (" in message and "'cpu-amx' (" not in message
    assert "it is called 'web' (" in cli("inspect", "x.tflite", "--target", "Chrome", cwd=tmp_path).stderr
