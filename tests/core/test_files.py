"""A file is there whole and lasts, or what was there before still is."""

import errno
import os
import re
from pathlib import Path

import pytest

from pipeline.core.files import descriptor, disk_error, may_name, sha256, write_atomically, write_new


@pytest.fixture
def calls(monkeypatch):
    """[what was synced or renamed, in order]; folders end with a slash."""
    seen = []
    fsync, replace = os.fsync, os.replace

    def synced(handle):
        path = re.sub(r"\.\d+-\d+\.part$", ".part", os.readlink(f"/proc/self/fd/{handle}"))
        seen.append(os.path.basename(path) + "/" * os.path.isdir(path))
        fsync(handle)

    def renamed(before, after):
        seen.append("rename")
        replace(before, after)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    return seen


def test_content_then_name_then_folder_reach_the_disk(tmp_path, calls):
    write_atomically(tmp_path / "a" / "b" / "x", [b"one ", memoryview(b"two")])
    assert calls == ["a/", f"{tmp_path.name}/", ".x.part", "rename", "b/"]
    assert (tmp_path / "a" / "b" / "x").read_bytes() == b"one two"
    calls.clear()
    write_atomically(tmp_path / "x", b"three", sync=False)
    assert calls == ["rename"]


@pytest.mark.parametrize("failing", ["write", "fsync", "rename"])
def test_a_write_that_fails_leaves_what_was_there_and_names_the_file(tmp_path, monkeypatch, failing):
    path = tmp_path / "x"
    path.write_bytes(b"before")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def pieces():
        yield b"some"
        if failing == "write":
            full()

    if failing != "write":
        monkeypatch.setattr(os, {"fsync": "fsync", "rename": "replace"}[failing], full)
    with pytest.raises(OSError, match="No space left on device") as raised:
        write_atomically(path, pieces())
    assert raised.value.errno == errno.ENOSPC and raised.value.filename == str(path)
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["x"]


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.EINVAL, "Invalid argument")))
    with pytest.raises(OSError, match="Invalid"):
        write_atomically(tmp_path / "x", b"y")  # the file itself must reach the disk

    def fsync(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "x", b"y")
    assert (tmp_path / "x").read_bytes() == b"y"


def test_a_full_disk_is_recognised_in_the_words_of_native_code():
    error = disk_error(RuntimeError("{{node Flush}} run/events.v2; No space left on device\nFailed to flush"), "run")
    assert (error.errno, error.filename) == (errno.ENOSPC, "run")
    assert disk_error(RuntimeError("shapes differ")) is None


def test_the_pipe_of_a_shells_substitution_gets_what_is_written():
    """bash's >(...) is /dev/fd/63, whose real path is none."""
    reading, writing = os.pipe()
    write_new(Path(f"/dev/fd/{writing}"), "text")
    os.close(writing)
    with open(reading) as pipe:
        assert pipe.read() == "text"


@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd", "/dev//fd"])
def test_a_file_that_the_shell_opened_is_written_where_it_is(tmp_path, folder):
    """As `--json /dev/fd/3 3>>log`, or /dev/stderr where 2>log: nothing is set aside, nor taken for a name."""
    with open(tmp_path / "log", "a") as log:
        log.write("before\n")
        log.flush()
        write_new(Path(f"{folder}/{log.fileno()}"), "text\n")
        (tmp_path / "log").unlink()
        write_new(Path(f"{folder}/{log.fileno()}"), "gone")
        assert os.listdir(tmp_path) == []
    (tmp_path / "log").write_text("before\n")
    with open(tmp_path / "log", "a") as log:
        write_new(Path(f"{folder}/{log.fileno()}"), "text\n")
    assert (tmp_path / "log").read_text() == "before\ntext\n" and os.listdir(tmp_path) == ["log"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        write_new(Path(f"{folder}/987654321"), "text")


def test_standard_error_is_an_open_file_too():
    assert (descriptor(Path("/dev/stderr")), descriptor(Path("/dev/fd/3"))) == (2, 3)
    assert descriptor(Path("/dev/null")) is descriptor(Path("fd/3")) is None


@pytest.mark.timeout(20)
def test_what_is_no_file_has_no_digest_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("pipe", "endless"):
        with pytest.raises(OSError, match="it is not a file"):
            sha256(tmp_path / name)


def test_a_name_is_what_the_system_takes():
    assert may_name("a \x1b ä \udcff") and not may_name("a\0") and not may_name("\ud800")
