"""Work that is tried in a child first: whatever it does there is one sentence here."""

import os
import resource
import signal
import time

import h5py
import numpy as np
import pytest

from pipeline.core.confined import why_unsafe
from pipeline.core.errors import RunError
from pipeline.drivers.printed import Printed
from pipeline.weights import checkpoint, hdf5


def loop():
    while True:
        pass


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)


def fill():
    _ = bytearray(1 << 30)


def fail():
    raise ValueError("what it was\nand more")


@pytest.mark.parametrize(
    ("work", "why"),
    [
        (lambda: None, None),
        (fail, "what it was"),
        (lambda: os._exit(3), "its reader ended with 768"),
        (crash, "it ends its reader with SIGSEGV"),
        (os.abort, "it ends its reader with SIGABRT"),
        (loop, "it takes more than 1 s to be read"),
        (fill, "it needs more than 256 MiB of memory"),
    ],
)
def test_whatever_it_does_is_a_sentence(work, why, monkeypatch):
    children, fork = [], os.fork

    def forked():
        children.append(fork())
        return children[-1]

    monkeypatch.setattr(os, "fork", forked)
    assert why_unsafe(work, 1, 256 << 20) == why
    with pytest.raises(ChildProcessError):  # it was waited for
        os.waitpid(children[0], os.WNOHANG)


def test_work_that_sleeps_ends_as_well(monkeypatch):
    monkeypatch.setattr("pipeline.core.confined.BUSY_TIMES", 0.3)
    began = time.monotonic()
    assert why_unsafe(lambda: time.sleep(60), 1) == "it takes more than 1 s to be read"
    assert time.monotonic() - began < 20


def test_a_file_of_weights_is_read_in_a_child_once_and_again_where_it_changed(tmp_path, monkeypatch):
    file, calls = tmp_path / "x.weights.h5", []
    monkeypatch.setattr(hdf5, "why_unsafe", lambda work, seconds: calls.append(work()))
    for number, ranges in enumerate(('{"conv": [-1.0, 2.0]}', '{"conv": [-1.0, 3.0]}')):
        with h5py.File(file, "w") as written:
            written["a/b"] = np.arange(3.0)
            written.attrs["segquant_ranges"] = ranges
        os.utime(file, ns=(number, number))
        assert checkpoint.ranges_in(file)["conv"].high == checkpoint.ranges_in(file)["conv"].high == 2.0 + number
        assert len(calls) == number + 1
    monkeypatch.setattr(hdf5, "why_unsafe", lambda work, seconds: "it ends its reader with SIGSEGV")
    os.utime(file, ns=(9, 9))
    with pytest.raises(RunError, match=r"broken \(it ends its reader with SIGSEGV"):
        checkpoint.ranges_in(file)


def test_it_works_in_a_process_with_more_files_open_than_select_takes():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < 1200:
        pytest.skip("this user may open too few files: raise `ulimit -Hn` to 1200")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(1200, before[0]), before[1]))
    opened = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while opened[-1] < 1050:
            opened.append(os.dup(opened[0]))
        assert why_unsafe(lambda: None) is None
        reading, writing = os.pipe()
        printed = Printed(open(reading, "rb"))
        os.write(writing, b"said")
        os.close(writing)
        assert printed.text() == "said"
        printed.close()
    finally:
        for file in opened:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
