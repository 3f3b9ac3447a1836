"""The plan of the house: imports go one way, and whatever is added is one new file."""

import ast
import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import models
import pipeline.data
import pipeline.devices
import pipeline.targets
from pipeline.nouns.dataset import DatasetSource
from pipeline.nouns.device import Device
from pipeline.nouns.spec import ModelSpec, Network
from pipeline.nouns.target import Target
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


REGISTRIES = ((models, Network), (pipeline.targets, Target), (pipeline.devices, Device), (pipeline.data, DatasetSource))
DEFAULTS = {"cpu", "host", "fast-scnn", "synthetic"}
"""What is taken where nobody says otherwise, and what everything is compared with: LiteRT on this machine's CPU."""
OTHER_MEANINGS = {
    "gpu": {"pipeline/devices/host_gpu.py", "pipeline/devices/litert_worker.py", "pipeline/targets/gpu_delegate.py"},
    "ssh": {"pipeline/devices/openssh.py", "pipeline/targets/elsewhere.py"}, "web": {"pipeline/targets/browser.py"},
    "openvino": {"pipeline/targets/openvino_ir.py"}, "android": {"pipeline/devices/survey.py"},
    "folder": {"cli.py", "pipeline/options.py"}, "openvino-ir": {"pipeline/devices/host_openvino.py"},
}  # fmt: skip
"""A registered name that stands elsewhere: a program, a package, a folder, a key; or what a device says it runs."""


def words_of(file):
    return {
        node.value
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_no_module_knows_what_another_registers():
    """A list of names somewhere is what a new file would have to be entered in."""
    home = {}
    for package, noun in REGISTRIES:
        for info in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{info.name}")
            for value in vars(module).values():
                if isinstance(value, noun):
                    home.setdefault(value.name, set()).add(str(Path(module.__file__).relative_to(ROOT)))
    assert set(home) >= DEFAULTS | set(OTHER_MEANINGS) | {"edgetpu", "fcn8", "unet", "camvid", "nnapi"}
    found = {}
    for file in sources():
        here = str(file.relative_to(ROOT))
        for word in words_of(file) & set(home) - DEFAULTS:
            if here not in home[word]:
                found.setdefault(word, set()).add(here)
    assert found == OTHER_MEANINGS


def test_no_module_knows_a_layer_s_name():
    layers = set()
    for name in models.networks():
        spec = ModelSpec(name, *models.network(name).min_size, 3, alpha=0.02)
        layers |= {layer.name for layer in models.build(spec).layers}
    knowing = {
        str(file.relative_to(ROOT)): words
        for file in sources()
        if file.parent.name != "models" and (words := words_of(file) & layers - {"image"})  # every network's input
    }
    assert {"logits_resize", "head_logits", "up4_concat"} <= layers and knowing == {}


NEW_FILES = {
    "models/two_layers.py": """
import tf_keras
from models.blocks import Blocks
from pipeline.nouns.spec import Network

def build(spec):
    b = Blocks(spec)
    image = tf_keras.layers.Input((spec.height, spec.width, 3), name="photograph")
    x = b.conv(image, spec.num_classes, 1, 4, norm=False, relu=False, bias=True, scaled=False, name="guess_all")
    return tf_keras.Model(image, b.resize(x, spec.height, spec.width, name="zoom"))

NEW = Network("two-layers", "Two layers", "nowhere", build, (1, 1), logits_stride=4, stages={"guess": "a wild guess"})
""",
    "pipeline/targets/toaster.py": """
import shutil
from pipeline.nouns.target import Compiled, Target

def toast(artifact):
    made = artifact.with_name(artifact.stem + "_toast.tflite")
    shutil.copy(artifact, made)
    made.with_suffix(".crumbs").write_bytes(bytes(1 << 20))
    return Compiled(made, "toasted")

NEW = Target(
    "toaster", "A toaster", "int8", ("int8",), source="its manual", compile=toast, compiled_suffix="_toast.tflite",
    companions=(".crumbs",), delegate="heat",
)
""",
    "pipeline/devices/kitchen.py": """
import dataclasses
from pipeline.devices.host import HOST, Host
from pipeline.nouns.errors import DeviceError

class Kitchen(Host):
    identity = "kitchen"
    def describe(self):
        return {**super().describe(), "device": "kitchen", "caution": "mind your fingers"}
    def open(self, file, how):
        if how.delegate != ("heat" if how.target == "toaster" else "xnnpack"):
            raise DeviceError(f"the toaster is cold: {how}")
        return super().open(file, how)

NEW = dataclasses.replace(
    HOST, name="kitchen", rank=-1, connect=lambda selector, settings: Kitchen(), runs_compiled=("toaster",)
)
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


QUICK = ("--runs", "3", "--seconds", "0", "--starts", "2")


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
    """None of them is named like one that is there: neither its layers, nor its delegate, nor what it compiles to."""
    listed = extended("list").stdout
    for name in ("two-layers", "toaster", "drawer", "kitchen", "plain"):
        assert name in listed
    done = extended("qat", "--model", "two-layers", "--data", "plain", "--batch", "2")
    assert done.returncode == 0, done.stderr
    done = extended("convert", "--target", "all", "--json", "made.json")
    assert done.returncode == 1 and f"1 of {len(targets()) + 2} targets failed: grill" in done.stderr, done.stderr
    made = {one["target"]: one for one in json.loads((extended.copy / "made.json").read_text())["targets"]}
    assert "it burnt" in made["grill"]["note"] and made["toaster"]["coverage"] is None
    assert made["cpu"]["coverage"]["by"].startswith("LiteRT") and made["nnapi"]["coverage"]["by"] == "rule"
    assert all((extended.copy / one["file"]).is_file() for one in made.values() if not one["failed"])
    (file,) = extended.copy.glob("runs/*/artifacts/toaster/*-int8.tflite")
    done = extended("bench", "--target", "toaster", "--device", "kitchen", *QUICK, "--json", "measured.json")
    assert done.returncode == 0, done.stderr
    measured = json.loads((extended.copy / "measured.json").read_text())
    compiled = file.with_name(f"{file.stem}_toast.tflite")
    assert measured["artifact"]["file"].endswith(compiled.name)
    assert measured["artifact"]["size_bytes"] == compiled.stat().st_size + (1 << 20)
    assert {"mind your fingers", "latency is of this device's CPU, not of toaster"} <= set(measured["notes"])
    done = extended("profile", str(file), "--runs", "4")
    assert done.returncode == 0 and "a wild guess" in done.stdout, done.stdout + done.stderr
    done = extended("bench", "--device", "drawer")
    assert done.returncode == 2 and "not attached" in done.stderr
