"""The lock on a run, held by real other processes."""

import concurrent.futures
import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pipeline.core import lock
from pipeline.core.errors import RunError
from pipeline.core.lock import FILE, Process, lives, start_of, writing
from tests.conftest import ROOT
from tests.support.small_run import empty_run

HOLD = """
import sys
from pathlib import Path
from pipeline.core.lock import writing
with writing(Path(sys.argv[1]), "qat"):
    print("held", flush=True)
    sys.stdin.read()
"""
COUNT = """
import sys, time
from pathlib import Path
from pipeline.core.errors import RunError
from pipeline.core.lock import writing
run, counter = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(25):
    while True:
        try:
            with writing(run, "count"):
                number = int(counter.read_text())
                time.sleep(0.001)
                counter.write_text(str(number + 1))
            break
        except RunError:
            time.sleep(0.002)
"""


def started(script, *arguments, **options):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@contextlib.contextmanager
def held_elsewhere(run):
    process = started(HOLD, run)
    try:
        assert process.stdout.readline() == "held\n", process.stderr.read()
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_process_is_refused_by_name_and_a_dead_one_holds_nothing(tmp_path):
    run = tmp_path / "new" / "run"
    with held_elsewhere(run) as process:
        with (
            pytest.raises(
                RunError, match=rf"{run} is in use by .*`qat`.* \(process {process.pid}\).*kill {process.pid}"
            ),
            writing(run, "train"),
        ):
            pass
        assert (run / FILE).is_file()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert (run / FILE).is_file()
        with writing(run, "train"):
            assert json.loads((run / FILE).read_text())["pid"] == os.getpid()
    assert not (run / FILE).exists()


def test_a_process_does_not_refuse_itself(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with writing(tmp_path / "run", "run"), writing(tmp_path / "link", "qat"):
        with writing(tmp_path / "run", "train"):
            pass
        assert (tmp_path / "run" / FILE).is_file()
    assert not (tmp_path / "run" / FILE).exists()


def test_a_second_thread_is_refused_until_the_first_has_ended(tmp_path):
    def train():
        with writing(tmp_path / "run", "train"), writing(tmp_path / "run", "convert"):
            return "trained"

    with concurrent.futures.ThreadPoolExecutor(1) as other:
        with writing(tmp_path / "run", "qat"):
            with pytest.raises(RunError, match=r"run is in use by another thread of this process: `qat` .*Wait until"):
                other.submit(train).result()
            assert (tmp_path / "run" / FILE).is_file()
        assert other.submit(train).result() == "trained"
    assert not (tmp_path / "run" / FILE).exists()


@pytest.mark.parametrize("how", ["started", "forked"])
def test_a_child_does_not_keep_the_lock(tmp_path, how):
    with writing(tmp_path, "bench"):
        if how == "started":
            child = subprocess.Popen(["sleep", "60"], close_fds=False).pid
        elif not (child := os.fork()):
            time.sleep(60)
            os._exit(0)
    try:
        with held_elsewhere(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_only_one_at_a_time_writes_whoever_removes_the_file_meanwhile(tmp_path):
    (tmp_path / "counter").write_text("0")
    processes = [started(COUNT, tmp_path / "run", tmp_path / "counter") for _ in range(4)]
    errors = [process.communicate()[1] for process in processes]
    assert (tmp_path / "counter").read_text() == "100", errors


@pytest.fixture
def no_flock(monkeypatch):
    def refused(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refused)
    monkeypatch.setattr(lock, "SETTLING_SECONDS", 0.0)


@pytest.mark.usefixtures("no_flock")
def test_without_flock_the_text_is_the_lock(tmp_path):
    def hold(**change):
        holder = {**vars(Process.this("bench")), **change}
        (tmp_path / FILE).write_text(json.dumps(holder))

    def refused():
        try:
            with writing(tmp_path, "convert"):
                return None
        except RunError as error:
            return str(error)

    assert refused() is None
    hold()
    assert "`bench`" in refused()
    hold(start="1")  # a later process has the id
    assert refused() is None
    hold(pid=2**30)
    assert refused() is None
    hold(pid=2**30, host="elsewhere\x1b[31m")
    assert r"on elsewhere\x1b[31m)" in refused() and f"delete {tmp_path / FILE}" in refused()
    (tmp_path / FILE).write_text("[" * 5000)
    assert refused() is None


def test_what_is_no_lock_of_ours_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("x")
    for name, make in (("link", lambda file: file.symlink_to(tmp_path / "precious")), ("pipe", os.mkfifo)):
        (tmp_path / name).mkdir()
        make(tmp_path / name / FILE)
        with pytest.raises(RunError, match="delete it"), writing(tmp_path / name, "train"):
            pass
    assert (tmp_path / "precious").read_text() == "x"
    with (
        pytest.raises(RunError, match="cannot be written.*Not a directory"),
        writing(tmp_path / "precious" / "run", "qat"),
    ):
        pass


def test_processes_are_told_apart():
    assert lives(os.getpid(), start_of(os.getpid())) and not lives(2**30)
    assert start_of(os.getpid()) is None or not lives(os.getpid(), "1")


def test_commands_that_write_are_refused_and_others_are_not(cli, tmp_path):
    run = empty_run(tmp_path).path
    with held_elsewhere(run) as process:
        for words in (
            "train --steps 1",
            "qat --steps 1",
            "convert --target cpu",
            "calibrate",
            "agree",
            "bench",
            "bundle --target cpu",
        ):
            result = cli(*words.split(), "--run", str(run), cwd=tmp_path)
            assert result.returncode == 2 and f"process {process.pid}" in result.stderr, (words, result)
        result = cli("report", "--run", str(run), "--out", "page.html", cwd=tmp_path)
        assert result.returncode == 0, result.stderr


def test_a_new_run_is_locked_before_it_is_made(cli, tmp_path):
    with held_elsewhere(tmp_path / "run"):
        result = cli("train", "--run", "run", "--size", "168x176", "--steps", "1", cwd=tmp_path)
    assert result.returncode == 2 and "in use by another process" in result.stderr, result
    assert not (tmp_path / "run" / "run.json").exists()


def test_on_a_full_disk_no_empty_lock_stays(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(RunError, match=r"No space left on device\).*free some space"), writing(tmp_path, "train"):
        pass
    assert not list(tmp_path.iterdir())
