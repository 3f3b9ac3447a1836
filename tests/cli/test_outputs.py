"""Where commands write what they are told to write: each option of each command, and what it refuses."""

import os
import re
import subprocess
import sys

import click
import pytest

from pipeline.cli import COMMANDS, main
from pipeline.cli.options import Folder, OutputFile, threads_of
from pipeline.core.errors import BadSpec
from tests.conftest import ROOT, call_cli
from tests.support.small_run import empty_run

WRITTEN = ("json", "junit", "markdown", "save", "out")
FOLDERS = {("predict", "--out"), ("bundle", "--out")}


def options():
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        yield from ((name, parameter) for parameter in command.params if isinstance(parameter, click.Option))


def test_every_option_that_names_an_output_checks_it_before_the_command_starts():
    found = {(name, o.opts[0]): type(o.type) for name, o in options() if o.opts[0].removeprefix("--") in WRITTEN}
    assert len(found) > 12 and set(found) >= FOLDERS
    assert {key: kind for key, kind in found.items() if kind is not (Folder if key in FOLDERS else OutputFile)} == {}
    assert {name for name, o in options() if o.opts[0] == "--run" and type(o.type) is not Folder} == set()


@pytest.mark.parametrize(
    "words",
    [
        "report --out",
        "predict x.png --out",
        "bundle --target cpu --out",
        "convert --target cpu --run",
        "evaluate --json",
    ],
)
def test_an_empty_name_is_no_place(tmp_path, words):
    result = call_cli(*words.split(), "", cwd=tmp_path)
    assert result.returncode == 2 and "the name is empty" in result.stderr, result
    assert not list(tmp_path.iterdir())


def test_a_report_goes_where_it_is_told(tmp_path):
    run = str(empty_run(tmp_path).path)
    words = ("report", "--run", run, "--format", "md", "--out")
    printed = call_cli(*words, "-", cwd=tmp_path)
    assert printed.returncode == 0 and printed.stdout.startswith("#"), printed
    narrow = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, str(ROOT / "cli.py"), *words, "-"]
    narrowly = subprocess.run(command, cwd=tmp_path, env=narrow, capture_output=True).stdout.decode()
    assert _without_time(narrowly) == _without_time(printed.stdout)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "ä").symlink_to(run)
    listed = subprocess.run([*command[:2], "list", "--runs"], cwd=tmp_path, env=narrow, capture_output=True)
    assert listed.returncode == 0 and rb"runs/\xe4" in listed.stdout, listed
    assert call_cli(*words, "/dev/null", cwd=tmp_path).returncode == 0
    assert os.stat("/dev/null").st_rdev == os.makedev(1, 3)
    refused = call_cli(*words, run, cwd=tmp_path)
    assert refused.returncode == 2 and "is a folder: name a file in it" in refused.stderr
    for _ in range(2):
        assert call_cli(*words, "new/page.md", cwd=tmp_path).returncode == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"page.md", "page.md.1"}
    assert _without_time((tmp_path / "new" / "page.md").read_text()) == _without_time(printed.stdout)


def _without_time(page):
    """A page of `report` without the minute in which it was written."""
    assert "; written 20" in page
    return re.sub(r"; written [-0-9]+ [:0-9]+ UTC", "", page)


class ResourceExhaustedError(Exception):
    pass


@pytest.mark.parametrize("error", [MemoryError(), ResourceExhaustedError("OOM when allocating tensor")])
def test_out_of_memory_is_no_internal_error(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr("pipeline.report.page.report.page_of", fail)
    result = call_cli("report", "--run", str(empty_run(tmp_path).path), cwd=tmp_path)
    assert result.returncode == 2 and "out of memory: take fewer images at once" in result.stderr, result


@pytest.mark.parametrize("text", ["9" * 5000, "65", "0", "1,,2", "²", ""])
def test_threads_are_as_many_as_a_machine_has(text):
    with pytest.raises(BadSpec, match="give numbers from 1 to 64"):
        threads_of(text)


def test_a_descriptor_that_is_not_open_is_refused_before_the_command_starts(tmp_path):
    result = call_cli("inspect", "x.tflite", "--json", "/dev/fd/987", cwd=tmp_path)
    assert result.returncode == 2 and "/dev/fd/987 is not open" in " ".join(result.stderr.split()), result
