"""Completion in the shell: click asks the program itself, as bash, zsh and fish do."""

import os
import subprocess
import sys

import pytest

import models
from pipeline.cli.completion import KINDS, networks
from pipeline.data import sources
from pipeline.devices import devices
from pipeline.targets import targets
from tests.conftest import ROOT


def offered(kind, incomplete=""):
    return [item.value for item in KINDS[kind](incomplete) if item.type == "plain"]


def test_every_registered_name_is_offered():
    assert [item.value for item in networks("")] == sorted(models.networks())
    assert offered("targets") == sorted(targets()) and "all" in offered("targets_or_all")
    assert set(offered("devices")) == {*devices(), "best"}
    assert {name.removesuffix(":") for name in offered("datasets")} == set(sources())


def test_what_follows_a_colon_is_offered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "phones", "other"):
        (tmp_path / "in" / name).mkdir(parents=True)
    assert offered("targets", "nnapi:3") == ["nnapi:30", "nnapi:31"]
    assert "ethos-u55:128" in offered("targets", "ethos-u55:1") and offered("targets", "nothing:") == []
    assert offered("datasets", "folder:in/ph") == ["folder:in/phones", "folder:in/photos"]
    assert offered("datasets", "folder:nowhere/") == [] and offered("datasets", "folder:i") == ["folder:in"]


def test_runs_are_offered_the_newest_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for age, name in enumerate(("b", "a", "c")):
        file = tmp_path / "runs" / name / "run.json"
        file.parent.mkdir(parents=True)
        file.write_text("{")
        os.utime(file, (100 + age, 100 + age))
    assert offered("runs") == ["runs/c", "runs/a", "runs/b"] == offered("files_or_runs")
    assert [item.type for item in KINDS["files_or_runs"]("x")] == ["file"]


COMPLETE = "import sys; sys.argv[0] = 'segquant'; from cli import main; main(prog_name='segquant')"


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("qat --model f", ["fast-scnn", "fastfcn8", "fcn8"]),
        ("train --data s", ["synthetic"]),
        ("convert --target al", ["all"]),
        ("gate --target edge", ["edgetpu"]),
        ("bench --device host", ["host", "host-gpu", "host-openvino"]),
        ("check cam", ["camvid:"]),
        ("report --run runs/m", ["runs/mine"]),
        ("inspect runs/m", ["runs/mine"]),
        ("in", ["inspect"]),
    ],
)
def test_a_shell_gets_them(typed, names, tmp_path):
    """One process for each Tab; TensorFlow takes seconds to load, and is not."""
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "run.json").write_text("{")
    words = f"segquant {typed}"
    asked = {"_SEGQUANT_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    heavy = "; import atexit; atexit.register(lambda: print('tensorflow' in sys.modules))"
    script = COMPLETE.replace("import sys", "import sys" + heavy, 1)
    environment = {**os.environ, **asked, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    lines = result.stdout.split()
    assert [line.removeprefix("plain,") for line in lines if line.startswith("plain,")] == names, result
    assert lines[-1] == "False"
