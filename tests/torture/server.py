"""Runs commands in children of this process, which has loaded TensorFlow and started nothing of it.

Nothing that starts a thread may be called here: a child has only the thread that forked.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import os
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.torture import faults
from tests.torture.case import Case, Ended

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "support" / "tiny"
ENVIRONMENT = {
    **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "TF")},
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_USE_LEGACY_KERAS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}
LIMIT_SECONDS = 300
GRACE_SECONDS = 10
"""After the command: a keeper cleans up, workers notice that nobody asks them any more."""
SUBREAPER = 36
LOADED = [f"pipeline.cli.{name}" for name in ("train", "qat", "convert", "bench", "report")] + [
    "pipeline.train.adopt",
    "pipeline.train.qat",
    "pipeline.convert.convert",
    "pipeline.report.page.report",
]


def load() -> None:
    """Loads what the commands load, and lets trainings save after every step. Raises RuntimeError for a thread."""
    import models
    from pipeline.train import fit

    models.__path__.append(str(TINY))
    for name in (*LOADED, "cli"):
        importlib.import_module(name)
    fit.SAVE_SECONDS = 0
    from pipeline.data import sources
    from pipeline.devices import devices
    from pipeline.targets import targets

    for registered in (models.networks, targets, devices, sources):
        registered()
    if (threads := len(os.listdir("/proc/self/task"))) != 1:
        raise RuntimeError(f"loading the commands started {threads - 1} threads, which a forked process lacks")


def adopt_orphans() -> None:
    """What a command leaves running becomes a child of this process, which then knows of it."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)


def call(place: Path, words: Sequence[str], library: Path, case: Case | None = None) -> Ended:
    """Runs the command in the folder ``place``, with ``place``/tmp as temporary folder; ``case`` happens to it."""
    said, log = place.with_name(f"{place.name}.said"), place.with_name(f"{place.name}.changes")
    (place / "tmp").mkdir(exist_ok=True)
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        os.close(ready)
        _become(place, words, said)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        faults.arm(library, place, case, file)
        os.close(tell)
        _command(words)
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    began = time.monotonic()
    signalled, timed_out = _wait(child, case)
    _, status, used = os.wait4(child, 0)
    seconds, code = time.monotonic() - began, os.waitstatus_to_exitcode(status)
    return Ended(
        code if code >= 0 else 128 - code,
        said.read_text("utf-8", "replace"),
        seconds,
        used.ru_utime + used.ru_stime,
        tuple(log.read_text().splitlines()),
        _end_children(),
        signalled,
        timed_out,
    )


def _wait(child: int, case: Case | None) -> tuple[bool, bool]:
    """Sends the signal of a moment; returns whether that came in time, and whether the child had to be killed."""
    handle = os.pidfd_open(child)
    try:
        ending = select.poll()
        ending.register(handle, select.POLLIN)
        if case is not None and case.signal and not case.before_change:
            if ending.poll(1000 * case.at):
                return False, False
            if case.signal == signal.SIGINT:
                os.killpg(child, case.signal)  # as a terminal does
            else:
                os.kill(child, case.signal)
            if ending.poll(1000 * LIMIT_SECONDS):
                return True, False
        elif ending.poll(1000 * LIMIT_SECONDS):
            return case is not None, False
        os.kill(child, signal.SIGKILL)
        return True, True
    finally:
        os.close(handle)


def _become(place: Path, words: Sequence[str], said: Path) -> None:
    """The state in which a shell would start the command, but for what is loaded."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    nowhere, output = os.open(os.devnull, os.O_RDONLY), os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream, file in enumerate((nowhere, output, output)):
        os.dup2(file, stream)
    os.chdir(place)
    os.environ.pop(faults.PRELOAD)
    os.environ["TMPDIR"] = str(place / "tmp")
    tempfile.tempdir = None
    sys.argv = ["cli.py", *words]


def _command(words: Sequence[str]) -> None:
    """Does not return. What a Python program does at its end is done: threads, exit functions, buffers."""
    from cli import main

    code: int | str | None = 0
    try:
        main(list(words))
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _children() -> dict[int, str]:
    """What this process is the parent of, and what it runs; dead ones are buried."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    found = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            state, parent = Path(f"/proc/{name}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                words = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ")
                found[int(name)] = words.decode("utf-8", "replace").strip()[:200]
    return found


def _end_children(grace_seconds: float = GRACE_SECONDS) -> tuple[str, ...]:
    """Waits for what the command left running, then kills it; what was killed."""
    until = time.monotonic() + grace_seconds
    while (children := _children()) and time.monotonic() < until:
        time.sleep(0.05)
    left = children
    while left:
        for child in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        time.sleep(0.05)
        left = _children()  # what a killed one had begun
    return tuple(children.values())


def end_children_now() -> int:
    """Kills what runs, for a process that ends itself; 0."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _end_children(0)
    return 0
