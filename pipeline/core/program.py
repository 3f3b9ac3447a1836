"""Runs other programs: in a session of their own, for a limited time, with bounded output, and ended with their block.

A program can print without end, leave a child that keeps its output open, ignore SIGTERM, or never end. None of that
stops the caller, and no process that a program began outlives it. See ``pipeline/core/keeper.py`` for what happens
where this process itself is killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import resource
import secrets
import selectors
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from pipeline.core import temporary
from pipeline.core.keeper import KEEPER, MARK
from pipeline.core.keeper_worker import kill_marked

KEPT_BYTES = 8 << 20
"""Of each stream of a program: half from its beginning, half from its end."""
MOST_PRINTED_BYTES = 4 << 30
"""A program that prints more is ended."""
LONGEST_LINE = 4000
"""Characters of a line that are read."""
GRACE_SECONDS = 5
"""Between SIGTERM and SIGKILL: docker stops its container in that time."""
DRAIN_SECONDS = 2
"""How long output is waited for that a process in another session keeps open."""
POLL_SECONDS = 0.05
CHUNK_BYTES = 1 << 18


@dataclasses.dataclass(frozen=True)
class Ended:
    """A program that ended by itself.

    Attributes:
      code: its exit code, or minus the number of the signal that ended it.
      stdout, stderr: what it printed; where that was more than ``kept_bytes``, without its middle.
    """

    code: int
    stdout: bytes
    stderr: bytes = b""

    @property
    def out(self) -> str:
        return text_of(self.stdout)

    @property
    def err(self) -> str:
        return text_of(self.stderr)


class NotEnded(Exception):
    """A program that was ended: 'did not finish in 600 s', 'printed more than 4 GiB'.

    Attributes:
      so_far: what it printed.
    """

    def __init__(self, why: str, so_far: Ended) -> None:
        super().__init__(why)
        self.so_far = so_far


def text_of(output: bytes) -> str:
    """Printed bytes as text, its lines cut to LONGEST_LINE characters."""
    text = output.decode("utf-8", "replace").replace("\r\n", "\n")
    if len(text) <= LONGEST_LINE:
        return text
    return "\n".join(line[:LONGEST_LINE] for line in text.split("\n"))


class Bounded:
    """The beginning and the end of a stream of bytes."""

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._head, self._tail = bytearray(), bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        room = self._half - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > 2 * self._half:
            del self._tail[: -self._half]

    def __bytes__(self) -> bytes:
        tail = self._tail[-self._half :]
        left_out = self.total - len(self._head) - len(tail)
        gap = f"\n… {left_out} bytes left out …\n".encode() if left_out else b""
        return bytes(self._head) + gap + bytes(tail)


_running: dict[int, tuple[int, list[int], str]] = {}
"""Process id → the thread that started it, the keeper's numbers, its mark."""
_lock = threading.Lock()
_ended: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
"""Threads that can start no more programs."""


def start(
    command: Sequence[str],
    env: Mapping[str, str] | None = None,
    daemon_stays: bool = False,
    memory_bytes: int | None = None,
    **pipes: Any,
) -> subprocess.Popen[bytes]:
    """As ``subprocess.Popen``, in a session of its own; ``end`` it. Raises OSError.

    ``daemon_stays``: what leaves the session is not ended with it, such as the server that adb starts.
    ``memory_bytes``: that it may write to, on Linux; an allocation beyond fails, which ends most programs.
    """
    mark = "" if daemon_stays else secrets.token_hex(8)
    environment = {**(os.environ if env is None else env), MARK: mark}
    if not daemon_stays:  # such a program outlives this command's folder
        environment |= temporary.environment()
    numbers = [KEEPER.keep("mark", mark)] if mark else []  # before it is there: a signal may come while it starts
    try:
        process = _started(command, environment, memory_bytes, **pipes)
        numbers.append(KEEPER.keep("group", str(process.pid)))
        with _lock:
            _running[process.pid] = (threading.get_ident(), numbers, mark)
    except OSError:
        for number in numbers:
            KEEPER.release(number)
        raise
    except BaseException:
        _end_marked(mark)
        raise
    if threading.current_thread() in _ended:
        end(process, 0)
        raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
    return process


def _started(
    command: Sequence[str], environment: Mapping[str, str], memory_bytes: int | None, **pipes: Any
) -> subprocess.Popen[bytes]:
    try:
        process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
    except ValueError as error:  # a NUL character in a word
        raise OSError(None, str(error)) from None
    if memory_bytes is not None and hasattr(resource, "prlimit"):
        with contextlib.suppress(OSError, ValueError):  # it has ended already, or may have less
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    return process


def end(process: subprocess.Popen[bytes], grace_seconds: float | None = None) -> int:
    """Ends a started program and all that it began; its exit code. Harmless where it has ended already."""
    grace_seconds = GRACE_SECONDS if grace_seconds is None else grace_seconds
    try:
        if process.poll() is None and grace_seconds:
            _signal(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_seconds)
    finally:
        with _lock:
            _, numbers, mark = _running.pop(process.pid, (0, [], ""))
        if numbers or process.poll() is None:
            _signal(process.pid, signal.SIGKILL)
            _end_marked(mark)
        code = process.wait()
        for number in numbers:
            KEEPER.release(number)
    return code


def end_those_of(*threads: threading.Thread, for_good: bool = False) -> None:
    """Kills the programs that these threads have started; the threads themselves ``end`` them.

    ``for_good``: they can start no more: one that goes on with its next file would keep this process waiting.
    """
    if for_good:
        _ended.update(threads)
    starters = {thread.ident for thread in threads}
    with _lock:
        killed = [(process, mark) for process, (starter, _, mark) in _running.items() if starter in starters]
    for process, mark in killed:
        _signal(process, signal.SIGKILL)
        _end_marked(mark)


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _end_marked(mark: str) -> None:
    """Kills what left its group."""
    kill_marked(MARK, [mark] if mark else [])


@contextlib.contextmanager
def begun(
    command: Sequence[str], grace_seconds: float | None = None, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """``start`` and ``end``."""
    process = start(command, **options)
    try:
        yield process
    finally:
        end(process, grace_seconds)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def run(
    command: Sequence[str],
    seconds: float,
    *,
    data: bytes = b"",
    kept_bytes: int = KEPT_BYTES,
    joined: bool = False,
    stays_open: bool = False,
    **options: Any,
) -> Ended:
    """Runs a program to its end; ``joined``: its standard error comes on standard output.

    ``data`` goes to its standard input, which then ends, or with ``stays_open`` ends with this process. ``options``:
    env and cwd, as ``subprocess`` has them, and those of ``start``.

    Raises OSError where it cannot be started, and NotEnded where it runs longer than ``seconds`` or prints without end.
    """
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE if data else subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT if joined else subprocess.PIPE,
    }
    with begun(command, **pipes, **options) as process:
        out, err = Bounded(kept_bytes), Bounded(kept_bytes)
        try:
            _exchange(process, data, {process.stdout: out, process.stderr: err}, seconds, stays_open)
        except TimeoutError:
            why = f"did not finish in {seconds:g} s"
            raise NotEnded(why, Ended(-signal.SIGKILL, bytes(out), bytes(err))) from None
        except OverflowError:
            why = f"printed more than {MOST_PRINTED_BYTES >> 30} GiB"
            raise NotEnded(why, Ended(-signal.SIGKILL, bytes(out), bytes(err))) from None
    return Ended(process.returncode, bytes(out), bytes(err))


def _exchange(
    process: subprocess.Popen[bytes],
    data: bytes,
    kept: Mapping[IO[bytes] | None, Bounded],
    seconds: float,
    stays_open: bool,
) -> None:
    """Writes ``data`` and reads what is printed until the program's end. Raises TimeoutError and OverflowError."""
    until, ended, left = time.monotonic() + seconds, False, memoryview(data)
    with selectors.DefaultSelector() as selector:
        for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_WRITE if pipe is process.stdin else selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(POLL_SECONDS) if selector.get_map() else ():
                stream: IO[bytes] = key.fileobj  # type: ignore[assignment]
                if stream is process.stdin:
                    left = _written(stream, left)
                    open_still = bool(left)
                else:
                    open_still = _read(stream, kept[stream])
                if not open_still:
                    selector.unregister(stream)
                    if stream is not process.stdin or not stays_open:
                        stream.close()
            if not selector.get_map() and ended:
                return
            if not ended and process.poll() is not None:
                _signal(process.pid, signal.SIGKILL)  # what it began and left keeps its output open
                ended, until = True, min(until, time.monotonic() + DRAIN_SECONDS)
            if time.monotonic() >= until:
                if ended:
                    return
                raise TimeoutError
            if not selector.get_map() and not ended:
                time.sleep(POLL_SECONDS / 10)  # it closed its output and goes on


def _written(stream: IO[bytes], data: memoryview) -> memoryview:
    """The rest of ``data``: nothing where the program reads no more."""
    try:
        return data[os.write(stream.fileno(), data[:CHUNK_BYTES]) :]
    except BlockingIOError:
        return data
    except OSError:
        return data[:0]


def _read(stream: IO[bytes], kept: Bounded) -> bool:
    """Whether more may come."""
    try:
        chunk = os.read(stream.fileno(), CHUNK_BYTES)
    except BlockingIOError:
        return True
    kept.add(chunk)
    if kept.total > MOST_PRINTED_BYTES:
        raise OverflowError
    return bool(chunk)
