"""Files that are written completely or not at all: killed and failing at every change of a folder, full disks."""

import errno
import os
import resource
import subprocess
import sys
import threading

import pytest

from pipeline.core.files import new_part, unused, write_atomically, write_new, write_unused
from pipeline.core.leftovers import clear, clear_stages
from pipeline.core.together import together
from tests.conftest import ROOT
from tests.support.faults import KILLED, in_a_child

OLD, NEW = {"a.tflite": b"old", "a.json": b"{}"}, {"a.tflite": b"new" * 99, "a.json": b"[]", "a.h": b"sizes"}


def content(folder):
    return {path.name: path.read_bytes() if path.is_file() else path.name for path in folder.iterdir()}


def old_files(folder):
    folder.mkdir()
    for name, data in OLD.items():
        (folder / name).write_bytes(data)
    return folder


def replace_together(folder):
    with together(folder) as stage:
        for name, data in NEW.items():
            write_atomically(stage / name, data)


def replace_one(folder):
    write_atomically(folder / "a.tflite", NEW["a.tflite"])


CASES = [(replace_together, NEW), (replace_one, {**OLD, "a.tflite": NEW["a.tflite"]})]


@pytest.mark.parametrize(("work", "new"), CASES)
def test_killed_at_any_change_it_leaves_the_old_files_or_the_new_ones(tmp_path, work, new):
    seen = set()
    for number in range(1, 100):
        folder = old_files(tmp_path / str(number))
        code = in_a_child(lambda folder=folder: work(folder), folder, number)
        clear(tmp_path)
        after = content(folder)
        assert after in (OLD, new), number
        if code == 0:
            break
        assert code == KILLED
        seen.add(after == new)
    assert number > 3 and seen == {False, True} if work is replace_together else seen


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize(("work", "new"), CASES)
def test_whatever_change_fails_the_error_names_a_file_and_nothing_is_lost(tmp_path, work, new, error):
    for number in range(1, 100):
        folder = old_files(tmp_path / str(number))
        code = in_a_child(lambda folder=folder: work(folder), folder, number, error)
        clear(tmp_path)
        after = content(folder)
        assert after in (OLD, new), number
        if code == 0:
            break
        assert code == 1 or after == new  # making a folder that is there may fail
    assert number > 3


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path):
    def write():
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
        with pytest.raises(OSError, match="File too large.*a.tflite"):
            replace_one(tmp_path)
        raise OSError(errno.EFBIG, "as expected", "a.tflite")

    (tmp_path / "a.tflite").write_bytes(b"old")
    assert in_a_child(write, tmp_path, 0, errno.EFBIG) == 1
    assert content(tmp_path) == {"a.tflite": b"old"}


def test_an_error_names_the_place_that_a_file_was_for(tmp_path):
    with pytest.raises(OSError, match="No such file") as raised, together(tmp_path) as stage:
        (stage / "missing" / "a.tflite").write_bytes(b"")
    assert raised.value.filename == str(tmp_path / "missing" / "a.tflite") and not list(tmp_path.iterdir())


def test_what_living_processes_make_ready_is_left_alone(tmp_path):
    part, file = new_part(tmp_path / ("é" * 127))
    script = f"""
import sys
from pathlib import Path
from pipeline.core.together import together
with together(Path({str(tmp_path)!r})) as stage:
    print(stage, flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    stage = process.stdout.readline().strip()
    assert clear(tmp_path) == [] and part.exists() and os.path.isdir(stage)
    process.kill()
    process.communicate()
    file.close()
    assert clear(tmp_path) == ["removed 2 unfinished files of interrupted commands"] and not list(tmp_path.iterdir())


def test_what_tensorflow_left_in_a_training_is_removed_and_nothing_else(tmp_path):
    names = ["checkpoint.tmp1f", "ckpt-3.data-00000-of-00001.tempstate77", "checkpoint", "ckpt-3.index"]
    (tmp_path / "float" / "resume" / "ckpt-3_temp").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "float" / "resume"):
        for name in names:
            (folder / name).write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".x.part").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "artifacts").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "run" / ".link.part").symlink_to(tmp_path / "precious")
    assert clear(tmp_path / "run") == ["removed 1 unfinished file of interrupted commands"]
    assert (tmp_path / "elsewhere" / ".x.part").exists()
    clear(tmp_path / "float")
    assert sorted(path.name for path in (tmp_path / "float" / "resume").iterdir()) == ["checkpoint", "ckpt-3.index"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(names)


def test_in_a_folder_of_the_users_only_what_was_made_together_there_is_cleared(tmp_path):
    users = (".download.part", ".compiling-mine", ".staged-notes", "resume/thesis_temp", "deep/.staged-1-abcdefgh/file")
    for name in (*users, ".staged-1-abcdefgh/half", ".ready-staged-1-abcdefgh/whole"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    clear_stages(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*users, "whole"}


@pytest.mark.parametrize("link", ["artifacts", "artifacts/cpu"])
def test_what_counts_is_not_moved_through_a_link(tmp_path, link):
    """A stranger's run may hold both."""
    run, victim = tmp_path / "run", tmp_path / "home"
    (victim / "cpu").mkdir(parents=True)
    (run / link).parent.mkdir(parents=True)
    (run / link).symlink_to(victim)
    ready = run / ".ready-staged-1-abcdefgh" / "artifacts" / "cpu"
    ready.mkdir(parents=True)
    (ready / "authorized_keys").write_text("x")
    with pytest.raises(OSError, match="it is a link.*artifacts"):
        clear(run)
    assert [path for path in victim.rglob("*") if path.is_file()] == []


def test_names_are_taken_once_whoever_takes_them(tmp_path):
    paths = []
    threads = [
        threading.Thread(target=lambda: paths.append(write_unused(tmp_path, "bench", ".json", b"{}"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 8 == len(list(tmp_path.iterdir()))
    (tmp_path / "dangling").symlink_to("nowhere")
    assert unused(tmp_path, "dangling").name == "dangling-2"


def test_every_one_of_several_writers_keeps_what_the_others_wrote(tmp_path):
    script = "import sys; from pathlib import Path; from pipeline.core.files import write_new\n"
    script += "for i in range(5): write_new(Path(sys.argv[1]), f'{sys.argv[2]} {i}')"
    command = [sys.executable, "-c", script, str(tmp_path / "out.json")]
    processes = [subprocess.Popen([*command, str(i)], cwd=ROOT) for i in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    written = {path.read_text() for path in tmp_path.iterdir()}
    assert written == {f"{i} {j}" for i in range(4) for j in range(5)} and len(list(tmp_path.iterdir())) == 20


def test_what_dead_processes_left_of_a_file_that_the_user_names_goes_with_the_next_writing(tmp_path):
    (tmp_path / ".out.json.1-1.part").write_text("half")
    (tmp_path / ".other.json.1-1.part").write_text("half")
    part, file = new_part(tmp_path / "out.json")
    write_new(tmp_path / "out.json", "whole")
    file.close()
    assert {path.name for path in tmp_path.iterdir()} == {"out.json", ".other.json.1-1.part", part.name}


def test_where_the_file_system_has_no_links_files_are_renamed(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    for text in ("one", "two", "three"):
        write_new(tmp_path / "out", text)
    assert content(tmp_path) == {"out": b"three", "out.1": b"one", "out.2": b"two"}
    assert write_unused(tmp_path, "out", "", b"4").name == "out-2"
