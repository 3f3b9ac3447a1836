"""Ends this process with one sentence when it waits too long where TensorFlow holds Python's lock.

No Python code of this process runs there. A small process of its own waits as well: at the end of the time it sees
which workers can be reached, and says so. Then a timer of the C library ends this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from pipeline.core.workers import Workers

EXIT_CODE = 2
PROBE_SECONDS = 3
"""How long the other workers may take to answer at the end, all at once; and the sentence to be written."""
SCRIPT = """
import os, select, signal, socket, sys, threading, time

seconds, probe, parent, who, *others = sys.argv[1:]
if select.select([0], [], [], float(seconds))[0]:
    sys.exit()  # the workers are connected, or the process ended
reached = set()

def reach(address):
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), int(probe)).close()
        reached.add(address)
    except OSError:
        pass

threads = [threading.Thread(target=reach, args=[other], daemon=True) for other in others]
for thread in threads:
    thread.start()
until = time.monotonic() + int(probe)
for thread in threads:
    thread.join(max(0, until - time.monotonic()))
missing = [other for other in others if other not in reached]
if missing:
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    what = f"{', '.join(missing[:5])}{more}, which cannot be reached"
else:
    what = "the others, which can be reached and did not connect"
clear = chr(13) + chr(27) + "[2K" if sys.stderr.isatty() else ""
sys.stderr.write(f"{clear}error: {who} waited for {what}: start the same command on all machines, each with its --rank,"
                 " within that time; see that its messages show no error and that the ports are open between them.\\n")
sys.stderr.flush()
if not select.select([0], [], [], 5)[0]:
    os.kill(int(parent), signal.SIGKILL)  # where there is no such timer
"""


class _Event(ctypes.Structure):
    """The C library's ``struct sigevent`` on Linux (glibc and musl)."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("rest", ctypes.c_char * 32),
    )


BY_THREAD = 2
"""Of ``notify``: a new thread calls ``function`` with ``value``."""


@contextlib.contextmanager
def deadline(seconds: float, workers: Workers, stderr: TextIO | None = None) -> Iterator[None]:
    """Inside, this process ends after so many seconds, with exit code 2 and a sentence.

    ``stderr``: where the sentence is written; None: this process's own.
    """
    others = [each for each in workers.addresses if each != workers.addresses[workers.rank]]
    minutes = f"{seconds / 60:.0f} minutes" if seconds >= 60 else f"{seconds:g} s"
    who = f"after {minutes}, worker {workers.rank} of {workers.count}"
    helper = subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", SCRIPT, str(seconds), str(PROBE_SECONDS), str(os.getpid()), who, *others],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,  # Ctrl-C is for this process
    )
    try:
        with _exit_after(seconds + PROBE_SECONDS + 1):
            yield
    finally:
        assert helper.stdin is not None
        helper.stdin.close()
        helper.wait()


@contextlib.contextmanager
def _exit_after(seconds: float) -> Iterator[None]:
    """Inside, the C library calls ``_exit`` when the time is over; nothing happens where it has no such timer."""
    if sys.platform != "linux":  # elsewhere the structure has another order
        yield
        return
    try:
        library = ctypes.CDLL(None)
        create, set_time, delete = library.timer_create, library.timer_settime, library.timer_delete
    except (OSError, AttributeError):
        yield
        return
    event = _Event(EXIT_CODE, 0, BY_THREAD, ctypes.cast(library._exit, ctypes.c_void_p).value, None, b"")
    timer = ctypes.c_void_p()
    if create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)):
        yield
        return
    whole = int(seconds)
    times = (ctypes.c_long * 4)(0, 0, whole, int(1e9 * (seconds - whole)))  # repeated never; after seconds, nanoseconds
    set_time(timer, 0, ctypes.byref(times), None)
    try:
        yield
    finally:
        delete(timer)
