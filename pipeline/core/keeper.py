"""Ends and removes what this process has begun, however this process ends.

SIGKILL, a crash in native code and the machine's out-of-memory killer leave no moment to clean up. So what must not
stay is kept in a list by a small process of its own: process groups, temporary folders, commands that clean up on
another machine. When its standard input ends, because this process has, it ends and removes what is still in the list.

It also hears the signals that this process gets: native code may hold Python's lock for minutes, and no Python code
runs in that time. If the signal is not answered within PATIENCE_SECONDS, the keeper cleans up and kills this process.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pipeline.core.files import claim

Kind = Literal["group", "mark", "directory", "command"]
"""What is kept: a process group's id; the value of MARK in the environment of processes; the path of a folder; the JSON
of a command's words."""
MARK = "SEGQUANT_BEGUN"
"""Environment variable by which a process is found that left its group."""
PATIENCE_SECONDS = 20
GRACE_SECONDS = 3
"""Between SIGTERM and SIGKILL: a client of docker stops its container in that time."""
COMMAND_SECONDS = 20
REPEATED_SECONDS = 5
"""A signal that comes within this time of another changes nothing: a second one often follows at once."""
AGAIN_SECONDS = 0.05
WORKER = Path(__file__).with_name("keeper_worker.py")
ANSWERED = -1


class Keeper:
    """This process's own. It is started when the first thing is kept."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._forget()

    def _forget(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._kept: set[int] = set()

    def started(self) -> int | None:
        """The descriptor through which it is told, non-blocking; None where it could not be started."""
        with self._lock:
            if self._process is None and sys.executable:
                times = (PATIENCE_SECONDS, GRACE_SECONDS, COMMAND_SECONDS)
                words = ["-I", "-S", str(WORKER), str(os.getpid()), MARK, *map(str, times)]
                with contextlib.suppress(OSError):
                    self._process = subprocess.Popen(
                        [sys.executable, *words],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                        cwd="/",
                        start_new_session=True,
                    )
                    assert self._process.stdin is not None
                    os.set_blocking(self._process.stdin.fileno(), False)
                    atexit.register(self._close_in_the_end)
            return self._process.stdin.fileno() if self._process and self._process.stdin else None

    def keep(self, kind: Kind, value: str) -> int:
        """The number to ``release`` it by."""
        with self._lock:
            number = next(self._numbers)
            self._kept.add(number)
            self._tell([number, kind, value])
            return number

    def release(self, number: int) -> None:
        with self._lock:
            if number in self._kept:
                self._kept.remove(number)
                self._tell([number])

    def answer(self) -> None:
        """The signal that came is being dealt with. Called within signal handlers: takes no lock."""
        self._write([ANSWERED])

    def _tell(self, words: list[object]) -> None:
        if self.started() is not None:
            self._write(words)

    def _write(self, words: list[object]) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):  # it was killed
                os.write(process.stdin.fileno(), json.dumps(words).encode() + b"\n")

    def close(self) -> None:
        """Ends it; what is still kept is cleaned up, and that is waited for."""
        with self._lock:
            process = self._process
            self._forget()
        atexit.unregister(self._close_in_the_end)
        if process is not None and process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS + COMMAND_SECONDS)

    def _close_in_the_end(self) -> None:
        """The command is over and has its exit code: Ctrl-C interrupts nothing more."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.close()

    def leave(self) -> None:
        """In a process that was forked off: the list is the other process's."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process.returncode = 0  # no child of this process
        self._lock = threading.RLock()
        self._forget()


KEEPER = Keeper()
os.register_at_fork(after_in_child=KEEPER.leave)


@contextlib.contextmanager
def kept(kind: Kind, value: str) -> Iterator[None]:
    """Inside, ``value`` is ended or removed should this process end."""
    number = KEEPER.keep(kind, value)
    try:
        yield
    finally:
        KEEPER.release(number)


@contextlib.contextmanager
def scratch_folder(prefix: str = "segquant-", parent: Path | str | None = None) -> Iterator[Path]:
    """A temporary folder that goes with the block or with this process, whichever ends first. Raises OSError."""
    place = Path(tempfile.gettempdir() if parent is None else parent).absolute()
    path = place / f"{prefix}{secrets.token_hex(8)}"
    number = KEEPER.keep("directory", str(path))  # before it is there: a signal may come right after
    try:
        path.mkdir(0o700)
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            claim(lock)  # or another command would take it for one that a dead process left
            yield path
        finally:
            os.close(lock)
    finally:
        shutil.rmtree(path, ignore_errors=True)
        KEEPER.release(number)  # not where a signal interrupts the removal, which the keeper then does


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP: what cleans up after Ctrl-C cleans up after these as well.

    Attributes:
      number: of the signal.
      exit_code: 143 or 129, as a shell has it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number, self.exit_code = number, 128 + number


_raised: list[KeyboardInterrupt] = []


def interruption() -> KeyboardInterrupt | None:
    """What a signal raised in this command; native code may have made another error of it."""
    return _raised[-1] if _raised else None


def _ctrl_c(number: int, frame: Any) -> None:
    _raised.append(KeyboardInterrupt())
    raise _raised[-1]


@contextlib.contextmanager
def signals_stop() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise Stopped in the main thread; one that is ignored (nohup) stays so.

    Python swallows what a signal raises while an object is being deleted: that signal, or Ctrl-C, is sent again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    raised = -float(REPEATED_SECONDS)
    swallowed = sys.unraisablehook

    def send_again(lost: Any) -> None:
        nonlocal raised
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            swallowed(lost)
            return
        raised = -float(REPEATED_SECONDS)
        again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), getattr(lost.exc_value, "number", signal.SIGINT)))
        again.daemon = True
        again.start()

    def stop(number: int, _: object) -> None:
        nonlocal raised
        KEEPER.answer()
        if time.monotonic() - raised >= REPEATED_SECONDS:  # a second one does not interrupt what cleans up
            raised = time.monotonic()
            _raised.append(Stopped(number))
            raise _raised[-1]

    wanted = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before: dict[int, Any] = {number: signal.signal(number, stop) for number in wanted}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, _ctrl_c)
    _raised.clear()
    channel = KEEPER.started()
    wakes = signal.set_wakeup_fd(channel, warn_on_full_buffer=False) if channel is not None else -1
    sys.unraisablehook = send_again
    try:
        yield
    finally:
        sys.unraisablehook = swallowed
        if channel is not None:
            signal.set_wakeup_fd(wakes)
        for number, handler in before.items():
            signal.signal(number, handler)
