"""The pages of docs/: every target and device has one, none is stale, and the examples run."""

import json
import re
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from docs.tables import MARKED, ROOT, TABLES, unnamed, with_tables
from pipeline.core.ranges import Range
from pipeline.devices import devices
from pipeline.targets import targets
from tests.support.notebook import code_cells, executed, source_of
from tests.support.single_ops import conv, model

PAGES = [("targets", name) for name in targets()] + [("devices", name) for name in devices()]


@pytest.mark.parametrize(("folder", "name"), PAGES, ids=lambda word: word)
def test_every_target_and_device_has_a_page_that_is_as_registered(folder, name):
    text = (ROOT / "docs" / folder / f"{name}.md").read_text()
    assert f"{folder[:-1]}-{name}" in {match["name"] for match in MARKED.finditer(text)}
    assert with_tables(text) == text, "run `python docs/tables.py`"
    assert f"({folder}/{name}.md)" in (ROOT / "docs" / f"{folder}.md").read_text()


def test_what_is_registered_and_not_written_about_is_found(monkeypatch):
    assert unnamed() == []
    monkeypatch.setattr("pipeline.devices.devices", lambda: {"toaster": None})
    assert "docs/devices/toaster.md is missing: write it" in unnamed()
    assert "docs/devices/host.md is of nothing registered" in unnamed()


def test_a_stale_table_is_seen():
    marked = "<!-- device-host: docs/tables.py -->\n| old |\n<!-- /device-host -->"
    assert with_tables(marked) != marked and "XNNPACK" in TABLES["device-host"]()


def examples(page):
    """The Python examples of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)


def test_a_file_is_read_as_the_page_on_int8_says(tmp_path):
    (tmp_path / "conv.tflite").write_bytes(model(conv("c")))
    (script,) = examples("int8.md")
    names: dict[str, Any] = {}
    exec(script.replace("FILE.tflite", str(tmp_path / "conv.tflite")), names)
    assert names["mask"].shape == tuple(names["given"]["shape"][:3]) and names["scale"] > 0
    assert np.array_equal(names["mask"], names["logits"].argmax(-1))


def test_a_convolution_is_what_the_page_on_int8_says(tmp_path):
    """Written from the page's formulas; LiteRT's kernel is the oracle, one step apart at most."""
    interpreter = Interpreter(model_content=model(conv("c", kernel=1)))
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    rng = np.random.default_rng(0)
    x_q = rng.integers(-128, 128, source["shape"]).astype(np.int8)
    interpreter.set_tensor(source["index"], x_q)
    interpreter.invoke()
    constants = [
        each for each in interpreter.get_tensor_details() if each["index"] not in (source["index"], result["index"])
    ]
    (kernel,) = (each for each in constants if len(each["shape"]) == 4 and each["dtype"] == np.int8)
    (bias,) = (each for each in constants if each["dtype"] == np.int32 and len(each["shape"]) == 1)
    w_q, b_q = (interpreter.get_tensor(each["index"]).astype(np.int64) for each in (kernel, bias))
    (scale_x, z_x), (scale_y, z_y) = source["quantization"], result["quantization"]
    accumulator = (x_q.astype(np.int64) - z_x) @ w_q[:, 0, 0].T + b_q
    factor = kernel["quantization_parameters"]["scales"].astype(np.float64) * scale_x / scale_y
    y_q = np.clip(z_y + np.round(factor * accumulator), -128, 127)
    assert len(np.unique(y_q)) > 20 and np.abs(interpreter.get_tensor(result["index"]) - y_q).max() <= 1


def test_a_range_is_what_the_page_on_int8_says():
    for low, high in ((-1.5, 4.0), (0.0, 6.0), (-3.0, 0.0)):
        scale = (high - low) / 255
        zero_point = round(-128 - low / scale)
        assert (Range(low, high).scale, Range(low, high).zero_point) == (scale, zero_point)
        assert scale * (127 - zero_point) == pytest.approx(high, abs=scale / 2)


def texts(outputs):
    """What a reader sees of a cell's outputs, without the numbers, which depend on the machine."""
    found = ["".join(each.get("text") or each["data"]["text/plain"]) for each in outputs]
    return [re.sub(r"\d+(\.\d+)?", "N", text) for text in found]


@pytest.mark.real
def test_the_tutorial_runs_and_shows_what_it_shows(tmp_path, monkeypatch):
    """In a fresh folder; `python -m tests.support.notebook docs/tutorial.ipynb` writes what it shows anew."""
    notebook = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text())
    monkeypatch.chdir(tmp_path)
    for cell, outputs in zip(code_cells(notebook), executed(notebook), strict=True):
        assert texts(outputs) == texts(cell["outputs"]), source_of(cell)
    pictures = [out for cell in code_cells(notebook) for out in cell["outputs"] if "image/png" in out.get("data", {})]
    assert len(pictures) == 2 and (tmp_path / "report.html").is_file()


def test_a_notebook_s_cell_gives_what_jupyter_would():
    def cell(text):
        return {"cell_type": "code", "source": text.splitlines(keepends=True)}

    notebook = {"cells": [cell("a = 2\nprint(a)\na + 1"), {"cell_type": "markdown"}, cell("b = a"), cell("print(b)")]}
    outputs = list(executed(notebook))
    assert [texts(each) for each in outputs] == [["N\n", "N"], [], ["N\n"]]
    assert outputs[0][0]["text"] == ["2\n"] and outputs[0][1]["data"]["text/plain"] == ["3"]


PARTS = ("pipeline", "models", "calib", "results")
CALLS = """
import json, sys
from click.testing import CliRunner
from cli import main
results = [CliRunner().invoke(main, words.split()) for words in json.loads(sys.argv[1])]
print(json.dumps([(result.exit_code, result.stdout + result.stderr + repr(result.exception)) for result in results]))
"""


@pytest.mark.real
def test_the_examples_of_a_new_network_target_device_and_dataset_run(tmp_path):
    """Each as the page has it, in a file of its own, and used together."""
    home, board = tmp_path / "copy", tmp_path / "my-board"
    home.mkdir()
    compiled = shutil.ignore_patterns("__pycache__")  # another process may write there meanwhile
    for name in PARTS:
        shutil.copytree(ROOT / name, home / name, ignore=compiled)
    shutil.copy(ROOT / "cli.py", home)
    network, target, device, dataset = examples("development.md")
    board.touch()
    for name, text in (
        ("models/one_layer.py", network),
        ("pipeline/targets/my_chip.py", target),
        ("pipeline/devices/my_board.py", device.replace("/dev/my-board", str(board))),
        ("pipeline/data/weeds.py", dataset),
    ):
        (home / name).write_text(text)
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for folder in (split, f"{split}labels"):
            (tmp_path / "weeds" / folder).mkdir(parents=True)
        for i in range(count):
            label = np.kron(rng.integers(0, 3, (4, 4)), np.ones((8, 8), int)).astype(np.uint8)
            Image.fromarray(np.stack([label * 80] * 3, -1)).save(tmp_path / "weeds" / split / f"{i}.jpg")
            Image.fromarray(label).save(tmp_path / "weeds" / f"{split}labels" / f"{i}.png")
    commands = [
        "list",
        f"train --model one-layer --data weeds:{tmp_path / 'weeds'} --size 32x32 --steps 2 --batch 2",
        "convert --target my-chip --method ptq --images 2",
        "inspect runs/one-layer-weeds-32x32 --target my-chip",
        "bench --target my-chip --device my-board --runs 3 --seconds 0 --starts 2",
    ]
    process = subprocess.run(
        [sys.executable, "-c", CALLS, json.dumps(commands)], cwd=home, capture_output=True, text=True, check=True
    )
    results = json.loads(process.stdout.splitlines()[-1])
    for command, (code, output) in zip(commands, results, strict=True):
        assert code == 0, f"{command}: {output}"
    assert all(name in results[0][1] for name in ("one-layer", "my-chip", "my-board", "weeds:DIR"))
    assert "device my-board" in results[4][1] and "ops accelerated" in results[3][1]
