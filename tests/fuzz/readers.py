"""What the program does with the bytes of a stranger's file, kind by kind; all refuse with SegquantError or BadJson.

A reader goes on as the commands do: a file that is read is judged, shown and written.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import click
import rich.console

from pipeline.cli import COMMANDS
from pipeline.cli import main as commands
from pipeline.cli.configuration import read
from pipeline.core.agreement import Agreement
from pipeline.core.errors import SegquantError
from pipeline.core.from_json import from_json
from pipeline.core.inspection import Inspection
from pipeline.core.json_file import BadJson, made, parse
from pipeline.core.measurement import HeadsMeasurement, Measurement
from pipeline.core.profile import Profile
from pipeline.core.recipe import About, Recipe
from pipeline.core.run import RunConfig, open_run
from pipeline.core.training import HistoryEntry, Training
from pipeline.data.class_list import read_classes
from pipeline.gate.standing import of_file
from pipeline.measure.inspect import inspect
from pipeline.measure.profile import stages_of
from pipeline.report import inspection as report
from pipeline.targets import targets
from pipeline.tflite.artifact import Sidecar
from pipeline.tflite.excerpt import excerpts
from pipeline.tflite.metadata import refusal
from pipeline.tflite.read import read_file, with_recipe, with_stored_sizes
from pipeline.weights import checkpoint, hdf5
from pipeline.weights.layers import Layer, read_arrays
from pipeline.weights.weight_files import open_weights
from tests.fuzz.seeds import WEIGHTS, known_recipe

REFUSED = (SegquantError, BadJson)
RULED = sorted((target for target in targets().values() if target.rules is not None), key=lambda target: target.name)


def tflite(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    target = RULED[zlib.crc32(data) % len(RULED)]
    _, graph = read_file(file)
    with contextlib.suppress(*REFUSED):
        recipe = graph.recipe()
        if recipe is not None:
            refusal(graph, recipe)
    seen = inspect(file, target, compiler=False)
    json.dumps(seen.to_json())
    nowhere = rich.console.Console(file=io.StringIO(), width=120, highlight=False)
    with mock.patch.object(report, "console", lambda: nowhere):
        report.show_inspection(seen, "x.tflite", bool(data[-1] & 1) if data else True)
    stages_of(graph, {})
    for edit in (with_stored_sizes, lambda data: with_recipe(data, known_recipe())):
        with contextlib.suppress(*REFUSED):
            edit(data)
    with contextlib.suppress(*REFUSED):
        excerpts(data, graph, [op.index for op in graph.ops[:1]])


NOUNS: tuple[Callable[[Any], Any], ...] = (
    *(functools.partial(from_json, noun) for noun in (RunConfig, About, Sidecar, HistoryEntry, Measurement)),
    *(functools.partial(from_json, noun) for noun in (HeadsMeasurement, Inspection, Profile)),
    Agreement.from_json,
    Recipe.from_json,
)


def json_text(file: Path, data: bytes) -> None:
    """As every file of a run: what one kind is, another refuses."""
    folder = file.parent / "run" / "qat"
    folder.mkdir(parents=True, exist_ok=True)
    training = Training(folder)
    for name in ("settings.json", "result.json", "ranges.json", "history.jsonl", "../run.json"):
        (folder / name).write_bytes(data)
    for reader in (
        training.settings, training.float_result, training.qat_result, training.start, training.history,
        lambda: open_run(folder.parent), lambda: of_file(folder / "result.json"),
    ):  # fmt: skip
        with contextlib.suppress(*REFUSED):
            reader()
    content = parse(data)
    for noun in NOUNS:
        with contextlib.suppress(*REFUSED):
            value = made(content, noun)
            json.dumps(value.to_json() if hasattr(value, "to_json") else None)


def weights(file: Path, data: bytes) -> None:

    file.write_bytes(data)
    layers = [Layer(name, "Conv2D", (("kernel", shape), ("bias", shape[-1:]))) for name, shape in WEIGHTS.items()]
    with mock.patch.object(hdf5, "SECONDS", 1):  # such files are soon read, and many loop for ever
        for reader in (checkpoint.ranges_in, checkpoint.class_weights_in):
            with contextlib.suppress(*REFUSED):
                reader(file)
        with open_weights(file, 4096) as source:
            read_arrays(source, layers)


def configuration(file: Path, data: bytes) -> None:

    file.write_bytes(data)

    def load(name: str) -> click.Command:
        command = commands.get_command(click.Context(commands), name)
        assert command is not None
        return command

    read(file, [name for name in COMMANDS if name != "run"], load)


def classes(file: Path, data: bytes) -> None:

    file.write_bytes(data)
    read_classes(file)


READERS: dict[str, Callable[[Path, bytes], None]] = {
    "tflite": tflite, "json": json_text, "weights": weights, "configuration": configuration, "classes": classes,
}  # fmt: skip
SHARE = {"tflite": 10, "json": 6, "weights": 1, "configuration": 1, "classes": 1}
"""Of the mutants, how many go to each."""
