"""Temporary files of a command, and of what it calls, go with it, however it ends."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from pipeline.core import temporary
from pipeline.core.program import run
from pipeline.core.temporary import PREFIX, own_temporary_folder, remove_those_of_the_dead, shared_temporary_folder
from tests.conftest import ROOT

WORK = """
import subprocess, sys, tempfile
from pipeline.core.program import start
from pipeline.core.temporary import own_temporary_folder
with own_temporary_folder():
    tempfile.mkdtemp("of a library")
    start(["sh", "-c", "mktemp; sleep 60"], stdout=subprocess.PIPE).stdout.readline()
    print("working", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def shared(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_all_is_in_one_folder_that_goes(shared):
    with own_temporary_folder(), own_temporary_folder():
        (own,) = shared.iterdir()
        assert own.name.startswith(PREFIX) and shared_temporary_folder() == shared
        assert Path(tempfile.mkdtemp()).parent == own
        assert run(["sh", "-c", "dirname $(mktemp)"], 20).out.strip() == str(own)
        remove_those_of_the_dead(shared)
        assert own.exists()
    assert not list(shared.iterdir()) and shared_temporary_folder() == shared


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_stays_of_a_killed_command(shared, number):
    process = subprocess.Popen(
        [sys.executable, "-c", WORK],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(shared)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "working\n" and len(list(shared.glob("*/*"))) == 2
    process.send_signal(number)
    process.communicate()
    until = time.monotonic() + 20
    while list(shared.iterdir()) and time.monotonic() < until:
        time.sleep(0.02)
    assert not list(shared.iterdir())


def test_folders_of_the_dead_go_and_no_others(shared, monkeypatch):
    names = [f"{PREFIX}a", f"{PREFIX}young", "segquant-other"]
    for name in names:
        (shared / name).mkdir()
        (shared / name / "file").write_text("")
        os.utime(shared / name, (1, 1))
    os.utime(shared / names[1])
    (shared / f"{PREFIX}link").symlink_to(names[2])
    remove_those_of_the_dead(shared)
    assert sorted(path.name for path in shared.iterdir()) == sorted([*names[1:], f"{PREFIX}link"])
    monkeypatch.setattr(temporary, "YOUNG_SECONDS", 0)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    remove_those_of_the_dead(shared)
    assert (shared / names[1]).exists()


def test_where_no_folder_can_be_made_the_command_goes_on(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with own_temporary_folder():
        assert tempfile.tempdir == str(tmp_path / "file")
