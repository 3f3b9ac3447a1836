"""The plan of the house: imports go one way, and whatever is added is one new file."""

import ast
import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from pipeline.targets import targets

LAYERS = [
    ("nouns", ["pipeline/nouns"]),
    ("parts", ["models", "calib", "pipeline/targets", "pipeline/devices", "pipeline/data", "pipeline/heads"]),
    ("verbs", ["pipeline"]),
    ("cli", ["cli.py"]),
]


def layer_of(path):
    for rank, (_, places) in enumerate(LAYERS):
        if any(path == place or path.startswith(place + "/") for place in places):
            return rank
    raise AssertionError(path)


def imported_files(file):
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        for name in names:
            path = name.replace(".", "/")
            for found in (f"{path}.py", f"{path}/__init__.py"):
                if (ROOT / found).is_file():
                    yield found


def sources():
    return [ROOT / "cli.py", *(f for d in ("pipeline", "models", "calib") for f in (ROOT / d).rglob("*.py"))]


def test_imports_go_one_way():
    wrong = []
    for file in sources():
        here = str(file.relative_to(ROOT))
        wrong += [f"{here} imports {found}" for found in imported_files(file) if layer_of(found) > layer_of(here)]
    assert not wrong


def test_no_file_outgrows_its_subject():
    cli = ROOT / "cli.py"  # every command with its options: a list, which grows with the commands
    assert not [str(f) for f in sources() if f != cli and len(f.read_text().splitlines()) > 400]
    assert not [str(f) for f in sources() if f.stem in ("utils", "helpers", "misc", "common")]


NEW_FILES = {
    "models/one_layer.py": """
import tf_keras
from models.blocks import Blocks
from pipeline.nouns.spec import Network

def build(spec):
    image = tf_keras.layers.Input((spec.height, spec.width, 3), name="image")
    x = Blocks(spec).conv(image, spec.num_classes, 1, norm=False, relu=False, bias=True, scaled=False, name="only")
    return tf_keras.Model(image, x)

NEW = Network("one-layer", "One layer", "nowhere", build, (1, 1))
""",
    "pipeline/targets/toaster.py": """
from pipeline.nouns.target import Target
NEW = Target("toaster", "A toaster", "int8", ("int8",), source="its manual")
""",
    "pipeline/targets/grill.py": """
from pipeline.nouns.errors import CompilerError
from pipeline.nouns.target import Target
def burn(artifact):
    raise CompilerError("it burnt")
NEW = Target("grill", "A grill", "int8", ("int8",), source="its manual", compile=burn)
""",
    "pipeline/devices/drawer.py": """
from pipeline.nouns.device import Device
NEW = Device("drawer", "The phone in the drawer", 9, lambda: None, None)
""",
    "pipeline/data/plain.py": """
import numpy as np
from pipeline.nouns.dataset import Dataset, DatasetSource, Sample, TrainingDefaults

def open_plain(_):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(4)]
    samples = tuple(
        Sample(str(i), lambda x=x: x, lambda x=x: (x[..., 0] > 127).astype(np.uint8)) for i, x in enumerate(images)
    )
    return Dataset("plain", ("dark", "bright"), ((0, 0, 0), (255, 0, 0)), {"train": samples, "val": samples})

NEW = DatasetSource("plain", "Noise", "", open_plain, TrainingDefaults("16x16", 4, 2, 0.01, 0.001, 1))
""",
}


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the project with one new file of each kind and nothing else changed."""
    copy = tmp_path_factory.mktemp("extended")
    for name in ("cli.py", "pipeline", "models", "calib"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, copy / name)
    for name, text in NEW_FILES.items():
        (copy / name).write_text(text)

    def call(*arguments):
        command = [sys.executable, "cli.py", *arguments]
        return subprocess.run(command, cwd=copy, capture_output=True, text=True, env={**os.environ}, check=False)

    call.copy = copy
    return call


def test_a_new_model_target_device_and_dataset_are_one_file_each(extended):
    listed = extended("list").stdout
    for name in ("one-layer", "toaster", "drawer", "plain"):
        assert name in listed
    done = extended("qat", "--model", "one-layer", "--data", "plain", "--batch", "2")
    assert done.returncode == 0, done.stderr
    done = extended("convert", "--target", "toaster")
    assert done.returncode == 0, done.stderr
    done = extended("bench", "--device", "--runs", "3", "--seconds", "0", "--starts", "2")
    assert done.returncode == 0, done.stderr
    assert "toaster" in done.stdout
    done = extended("convert", "--target", "all", "--json", "made.json")
    assert done.returncode == 1 and f"1 of {len(targets()) + 2} targets failed: grill" in done.stderr, done.stderr
    made = {one["target"]: one for one in json.loads((extended.copy / "made.json").read_text())["targets"]}
    assert "it burnt" in made["grill"]["note"] and made["toaster"]["coverage"] is None
    assert made["cpu"]["coverage"]["by"].startswith("LiteRT") and made["nnapi"]["coverage"]["by"] == "rule"
    assert all((extended.copy / one["file"]).is_file() for one in made.values() if not one["failed"])
    done = extended("bench", "--device", "drawer")
    assert done.returncode == 2 and "not attached" in done.stderr
