"""One process at a time, and of it one thread, writes into a run: the lock on its folder, and who holds it.

The lock is the kernel's (flock) on the file ``.lock`` in the run, so it ends with the process, however that ends. The
file's text only says who holds it. Where the file system has no such locks, the text is the lock: that of a process
which is gone does not count.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import functools
import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.contained import check_contained
from pipeline.core.errors import RunError
from pipeline.core.files import NO_FLOCK
from pipeline.core.from_json import from_json
from pipeline.core.json_file import BadJson, made, parse
from pipeline.core.leftovers import clear
from pipeline.core.printable import printable

FILE = ".lock"
MOST_BYTES = 4096
SETTLING_SECONDS = 0.2
"""Without flock: two processes that wrote their names at the same time both read the later one after this."""


@dataclasses.dataclass(frozen=True)
class Process:
    """A process on some machine.

    Attributes:
      start: when it started, in clock ticks since the machine did, as the kernel has it: a later process of the same id
        has another. None where the system does not say.
      since: when it took the lock, in UTC.
    """

    command: str
    pid: int
    host: str
    start: str | None
    since: str

    @staticmethod
    def this(command: str) -> Process:
        now = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
        return Process(command, os.getpid(), os.uname().nodename, start_of(os.getpid()), now)

    def may_live(self) -> bool:
        """False where it is known to have ended; of other machines nothing is known."""
        return self.host != os.uname().nodename or lives(self.pid, self.start)


def start_of(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError, ValueError):
        return None


def lives(pid: int, start: str | None = None) -> bool:
    """Whether the process ``pid`` of this machine runs; with ``start``, whether it is the one that started then."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        pass
    return start is None or start_of(pid) in (start, None)


@dataclasses.dataclass
class _Lock:
    """One lock of this process.

    Attributes:
      thread: the thread that took it, and alone may take it again.
      times: how often that thread holds it.
    """

    file: int
    process: Process
    thread: int = dataclasses.field(default_factory=threading.get_ident)
    times: int = 0


class _Held:
    """The locks of this process, by the real path of the run."""

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.locks: dict[str, _Lock] = {}

    def forget(self) -> None:
        """In a forked process, which holds nothing: else it would keep the lock after this one ended."""
        for lock in self.locks.values():
            os.close(lock.file)
        self.__init__()  # type: ignore[misc]


_HELD = _Held()
os.register_at_fork(after_in_child=_HELD.forget)


@contextlib.contextmanager
def writing(run: Path, command: str) -> Iterator[list[str]]:
    """Within it, no other process or thread writes into the folder ``run``, which is made where it is missing.

    ``command``: the word that another process shows for this one. May be nested. Yields in words what it finished or
    removed of processes that have ended. Raises RunError where another process or thread holds the lock, where the
    folder cannot be written, and where a link in it leads out of it.
    """
    key, notes = os.path.realpath(run), []
    with _HELD.guard:
        if (lock := _HELD.locks.get(key)) is None:
            process = Process.this(command)
            lock = _Lock(_take(run, process), process)
            try:
                notes = clear(run)
                check_contained(run)
            except RunError:
                _release(run, lock.file)
                raise
            except OSError as error:
                _release(run, lock.file)
                raise RunError(
                    f"{run} cannot be written: what an interrupted command left in it can neither be finished nor"
                    f" removed ({error.strerror}: {error.filename}). Make it writable and free some space, and repeat."
                ) from None
            _HELD.locks[key] = lock
        elif lock.thread != threading.get_ident():
            raise RunError(
                f"{run} is in use by another thread of this process: `{lock.process.command}` has written into it since"
                f" {lock.process.since}. Wait until that ends, and repeat, or take another run."
            )
        lock.times += 1
    try:
        yield notes
    finally:
        with _HELD.guard:
            if _HELD.locks.get(key) is lock:  # not in a forked process
                lock.times -= 1
                if not lock.times:
                    del _HELD.locks[key]
                    _release(Path(key), lock.file)


def _take(run: Path, process: Process) -> int:
    """The open and locked file."""
    path = run / FILE
    try:
        run.mkdir(parents=True, exist_ok=True)
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
            try:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise OSError(errno.EINVAL, "it is no regular file")
                locked = _flock(run, file)
                if _is_at(path, file):  # else its holder removed it meanwhile
                    _sign(run, file, process, locked)
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)
    except OSError as error:
        why = "it is a link" if error.errno == errno.ELOOP else error.strerror
        raise RunError(
            f"{run} cannot be written: its lock {path} cannot be taken ({why}). Make the folder writable and free some"
            " space, or copy the run to another folder; where the lock itself is the reason, delete it."
        ) from None


def _flock(run: Path, file: int) -> bool:
    """Whether the file is locked: False where the file system has no locks. Raises RunError where it is another's."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        raise _in_use(run, _holder(file)) from None
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
        return False


def _sign(run: Path, file: int, process: Process, locked: bool) -> None:
    """Writes who holds the lock; without flock, that takes it."""
    if not locked and (before := _holder(file)) is not None and before.may_live():
        raise _in_use(run, before)
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, (json.dumps(dataclasses.asdict(process)) + "\n").encode(), 0)
    except OSError:  # of a full disk
        with contextlib.suppress(OSError):
            (run / FILE).unlink()
        raise
    if locked:
        return
    time.sleep(SETTLING_SECONDS)
    if (holder := _holder(file)) != process:
        raise _in_use(run, holder)


def _release(run: Path, file: int) -> None:
    path = run / FILE
    with contextlib.suppress(OSError):
        if _is_at(path, file):  # a run that was removed took it along
            path.unlink()
    os.close(file)


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def _holder(file: int) -> Process | None:
    try:
        return made(parse(os.pread(file, MOST_BYTES, 0)), functools.partial(from_json, Process))
    except (OSError, BadJson):
        return None


def _in_use(run: Path, holder: Process | None) -> RunError:
    if holder is None:
        return RunError(f"{run} is in use by another process: wait until that ends, and repeat, or take another run.")
    here = holder.host == os.uname().nodename
    where = "" if here else f" on {printable(holder.host)}"
    remedy = f"end it (kill {holder.pid})" if here else f"end it there (where it ended already, delete {run / FILE})"
    return RunError(
        f"{run} is in use by another process: `{printable(holder.command)}` has written into it since"
        f" {printable(holder.since)} (process {holder.pid}{where}). Wait until that ends, or {remedy}, and repeat."
    )
