"""Options of which one makes another meaningless are refused together; a key for all commands is no such option."""

import json

import pytest
from PIL import Image

from tests.support.shipped import shipped

SOURCES = ("--calibration", "--select", "--images", "--images-from")
PAIRS = [
    ("evaluate --weights float", "--target cpu"),
    ("predict a.png", "--split train"),
    ("predict a.png", "--split val"),  # the default, typed
    ("predict photos", "--split test"),
    ("predict a.png --write mask", "--opacity 0.3"),
    ("train --parent x.h5", "--steps 4"),
    ("train --parent x.h5", "--batch 8"),
    ("train --parent x.h5", "--learning-rate 0.1"),
    ("train --parent x.h5", "--precision mixed"),
    ("train --parent x.h5", "--encoder-weights imagenet"),
    ("train --parent x.h5", "--workers local:2"),
    ("train --init x.h5", "--encoder-weights imagenet"),
    ("qat --parent x.h5", "--encoder-weights imagenet"),
    ("qat --control", "--ranges frozen"),
    ("qat --control", "--per-tensor"),
    *(("qat --control", f"{option} {value}") for option, value in zip(SOURCES, ("mse", "first", 8, "d"), strict=True)),
    *(("convert --target cpu --method qat", f"{option} 8") for option in SOURCES),
    *(("convert --target edgetpu --weights float32", f"{option} 8") for option in SOURCES),
    ("convert --target cpu --method qat", "--jobs 2"),
    ("convert --target edgetpu --weights float32", "--jobs 2"),
    ("convert --target cpu --weights float16", "--method ptq"),
    ("convert --target cpu --weights float16", "--per-tensor"),
    ("inspect x --target edgetpu --no-compiler", "--wait 3"),
    ("inspect x --target edgetpu --no-compiler", "--compiler true"),
    ("check synthetic --no-sheet", "--sheet a.png"),
    ("check synthetic --no-time", "--model fcn8"),
    ("check synthetic --no-time", "--size 64x64"),
    ("check synthetic --no-time", "--batch 2"),
    ("check synthetic --no-time", "--steps 2"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("given")
    (home / "photos").mkdir()
    for name in ("a.png", "photos/b.png"):
        Image.new("RGB", (40, 30), (9, 99, 200)).save(home / name)
    return home


@pytest.mark.parametrize(("command", "option"), PAIRS, ids=lambda text: text)
def test_an_option_without_effect_is_refused(cli, home, command, option):
    result = cli(*command.split(), *option.split(), cwd=home)
    name = option.split()[0]
    assert result.returncode == 2 and f"{name} has no effect with " in result.stderr, result.stdout + result.stderr
    assert f": leave {name} out." in result.stderr and "Traceback" not in result.stderr
    assert sorted(path.name for path in home.iterdir()) == ["a.png", "photos"]


def test_an_option_that_no_device_uses_is_refused(cli, tmp_path):
    run, _ = shipped(tmp_path)
    ask = ("bench", "--run", str(run.path), "--device", "host")
    for option in ("--remote-python", "--delegate-library", "--benchmark-binary"):
        result = cli(*ask, option, "x", cwd=tmp_path)
        assert result.returncode == 2 and f"{option} has no effect with device host: leave" in result.stderr
        assert "name one that uses it (" in result.stderr and "ssh" in result.stderr


def test_a_key_for_all_commands_and_a_default_are_no_options_given(cli, tmp_path):
    run, _ = shipped(tmp_path)
    image = tmp_path / "a.png"
    Image.new("RGB", (40, 30), (9, 99, 200)).save(image)
    (tmp_path / "c.yaml").write_text(
        f"run: {run.path}\ntarget: cpu\npredict: {{source: a.png, split: val, write: mask}}\n"
    )
    assert cli("predict", "--config", "c.yaml", cwd=tmp_path).returncode == 0
    kept = run.path / "configuration" / "predict.yaml"  # with all defaults
    result = cli("predict", "--config", str(kept), "--json", "p.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "p.json").read_text())["kinds"] == ["mask"]
    (tmp_path / "c.yaml").write_text("predict: {source: a.png, split: train}\n")
    result = cli("predict", "--config", "c.yaml", "--run", str(run.path), cwd=tmp_path)
    assert result.returncode == 2 and "--split has no effect with a.png, which is no dataset" in result.stderr
    # The run and the target are for other commands.
    file = next(run.path.glob("artifacts/cpu/*.tflite"))
    (tmp_path / "c.yaml").write_text(f"run: nowhere\ntarget: edgetpu\npredict: {{source: a.png, model: {file}}}\n")
    result = cli("predict", "--config", "c.yaml", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
