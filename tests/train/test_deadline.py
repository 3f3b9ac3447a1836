"""A worker that waits too long where no Python code can run: who is missing is named, and the exit code is 2."""

import socket
import subprocess
import sys
import time

from tests.conftest import ROOT

WAIT = """
import ctypes, sys
from pipeline.core.workers import Workers
from pipeline.train.deadline import deadline

with deadline(float(sys.argv[1]), Workers(tuple(sys.argv[3:]), 0)):
    ctypes.PyDLL(None).usleep(int(1e6 * float(sys.argv[2])))  # holds Python's lock, as TensorFlow does
print("connected")
"""


def waiting(seconds, connected_after, *others):
    command = [sys.executable, "-c", WAIT, str(seconds), str(connected_after), "10.0.0.1:1", *others]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_a_worker_says_for_whom_it_waited_too_long():
    with socket.create_server(("127.0.0.1", 0)) as there:
        present = f"127.0.0.1:{there.getsockname()[1]}"
        result = waiting(0.5, 100, present, "127.0.0.1:1")
        assert (result.returncode, result.stdout) == (2, ""), result
        assert result.stderr.startswith("error: after 0.5 s, worker 0 of 3 waited for 127.0.0.1:1, which cannot be")
        assert result.stderr.count("\n") == 1 and "start the same command on all machines" in result.stderr
        assert "waited for the others, which can be reached" in waiting(0.5, 100, present).stderr


def test_one_that_connects_in_time_goes_on():
    began = time.monotonic()
    result = waiting(60, 0.1, "127.0.0.1:1")
    assert (result.returncode, result.stdout, result.stderr) == (0, "connected\n", "") and time.monotonic() - began < 60
