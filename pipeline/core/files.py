"""Files that are written completely or not at all, and their digests."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import re
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.core.printable import well_formed

PART = ".part"
LONGEST_PART = 150
"""Bytes of a file's name in that of its part, which must not be longer than a name may be."""
SWAP_SECONDS = 10
NO_FLOCK = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL)
"""What flock raises where the file system has no locks."""
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EACCES)
DESCRIPTOR = re.compile(r"/dev/stderr|/(?:dev|proc/self)/fd/([0-9]{1,9})")
Content = bytes | Iterable[bytes | memoryview]
"""Of a file: whole, or in pieces."""
_numbers = itertools.count(1)


def write_atomically(path: Path, data: Content, sync: bool = True) -> None:
    """Writes beside ``path``, syncs (what can be made again need not be), then renames over it.

    The folder is synced as well: a rename lasts only with it. Raises OSError, which names ``path``; what was there
    before then stays.
    """
    with _part(path, data, sync) as part:
        os.replace(part, path)
        if sync:
            sync_folder(path.parent)


def write_unused(folder: Path, stem: str, suffix: str, data: bytes) -> Path:
    """Writes stem, stem-2, stem-3, ..., each with ``suffix``: the first at which nothing is yet; returns its path."""
    with _part(folder / f"{stem}{suffix}", data, sync=True) as part:
        while True:
            path = unused(folder, stem, suffix)
            if _linked(part, path):
                break
        sync_folder(folder)
    return path


@contextlib.contextmanager
def _part(path: Path, data: Content, sync: bool) -> Iterator[Path]:
    """A file with the data beside ``path``; if it is still there at the end, it is removed."""
    part = None
    try:
        _make_folder(path.parent, sync)
        part, file = new_part(path)
        with file:  # it stays locked, and so alive, until it has been renamed
            for piece in (data,) if isinstance(data, bytes) else data:
                file.write(piece)
            file.flush()
            if sync:
                os.fsync(file.fileno())
            yield part
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def _part_prefix(path: Path) -> str:
    return f".{os.fsdecode(os.fsencode(path.name)[:LONGEST_PART])}."


def _remove_dead_parts(path: Path) -> None:
    """Removes what processes that have ended left of writing ``path``: in a run that is done for the next command, and
    here it may be any folder."""
    with contextlib.suppress(OSError):
        for name in os.listdir(path.parent):
            if name.startswith(_part_prefix(path)) and name.endswith(PART):
                with contextlib.suppress(OSError), open_regular(path.parent / name, sys.maxsize) as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    (path.parent / name).unlink()


def new_part(path: Path) -> tuple[Path, BinaryIO]:
    """A new file in which ``path`` is made ready. While it is open, nothing takes it for the rest of a dead process."""
    while True:
        part = path.with_name(f"{_part_prefix(path)}{os.getpid()}-{next(_numbers)}{PART}")
        file = open(part, "xb")
        claim(file.fileno())
        if os.fstat(file.fileno()).st_nlink:  # else it was removed before it was locked
            return part, file
        file.close()


def claim(file: int) -> bool:
    """Locks an open file or folder for this process; False where another has it. True without locks as well."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
    return True


def sync_folder(folder: Path) -> None:
    """Makes what was created, renamed or removed in the folder last, where its file system can."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # it may be written in, and not read
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise OSError(error.errno, error.strerror, str(folder)) from None
    finally:
        os.close(handle)


def _make_folder(folder: Path, sync: bool) -> None:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing if sync else ():
        sync_folder(each.parent)


def unused(folder: Path, stem: str, suffix: str = "") -> Path:
    """A path in ``folder`` at which nothing is yet: stem, stem-2, stem-3, ..., each with ``suffix``."""
    path, number = folder / f"{stem}{suffix}", 2
    while os.path.lexists(path):
        path, number = folder / f"{stem}-{number}{suffix}", number + 1
    return path


def _linked(file: Path, path: Path) -> bool:
    """Gives ``file`` the name ``path`` as well, or instead where there are no links; False where something is there."""
    try:
        os.link(file, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if os.path.lexists(path):
            return False
        os.rename(file, path)
    return True


def descriptor(path: Path) -> int | None:
    """The open file of this process that ``path`` stands for, such as 2 for /dev/stderr; None for another path."""
    match = DESCRIPTOR.fullmatch(os.path.normpath(path))
    return None if match is None else 2 if match[1] is None else int(match[1])


def write_new(path: Path, text: str) -> None:
    """Writes a file that the user named; keeps a regular file of that name as <name>.1, .2, ...

    Writes to a device, a pipe, a terminal and an open file (``descriptor``) as it is, and follows links. Raises
    OSError.
    """
    number = descriptor(path)
    if number is not None or (path.exists() and not path.is_file()):
        try:
            with open(path if number is None else os.dup(number), "wb") as file:
                file.write(well_formed(text).encode())
        except OSError as error:  # one of writing names no file
            raise OSError(error.errno, error.strerror, str(path)) from None
        return
    path = Path(os.path.realpath(path))  # not before: a pipe in /dev/fd has none that can be opened
    _remove_dead_parts(path)
    with _part(path, well_formed(text).encode(), sync=True) as part, _swapping(path.parent):
        number = 1
        while path.exists() and not _linked(path, path.with_name(f"{path.name}.{number}")):
            number += 1
        os.replace(part, path)
        sync_folder(path.parent)


@contextlib.contextmanager
def _swapping(folder: Path) -> Iterator[None]:
    """Within it, no other process of this program replaces a file of the folder; waits for one that does."""
    try:
        file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:  # a folder that may be written and not be listed
        yield
        return
    try:
        until = time.monotonic() + SWAP_SECONDS
        while not claim(file) and time.monotonic() < until:  # a process that was stopped does not stop this one
            time.sleep(0.005)
        yield
    finally:
        os.close(file)


def disk_error(error: BaseException, path: str | None = None) -> OSError | None:
    """The error of a full or broken disk that native code reports in words, as TensorFlow does; None for another."""
    text = str(error)
    number = next((number for number in DISK_ERRORS if os.strerror(number) in text), None)
    return None if number is None else OSError(number, os.strerror(number), path)


def sha256(data: bytes | Path) -> str:
    """Hex digest of bytes or of a regular file's content; raises OSError, as ``open_regular`` does."""
    if isinstance(data, Path):
        with open_regular(data, sys.maxsize) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return hashlib.sha256(data).hexdigest()


def open_regular(path: Path, most_bytes: int) -> BinaryIO:
    """Opens a regular file of at most ``most_bytes`` to be read; raises OSError, for anything else as well.

    Never blocks: a fifo, a socket or a device is refused, even one that takes the file's place meanwhile.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # before it is opened, which a tape or a terminal would notice
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    file = open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)), "rb")
    now = os.fstat(file.fileno())
    if stat.S_ISREG(now.st_mode) and now.st_size <= most_bytes:
        return file
    file.close()
    if stat.S_ISREG(now.st_mode):
        what = f"it has {now.st_size / (1 << 20):.0f} MiB; allowed are {most_bytes / (1 << 20):.0f} MiB"
        raise OSError(errno.EFBIG, what, str(path))
    raise OSError(errno.EINVAL, "it is not a file", str(path))


def read_regular(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file of at most ``most_bytes``; raises OSError, as ``open_regular`` does."""
    with open_regular(path, most_bytes) as file:
        return file.read(most_bytes)


def newest_first(paths: Iterable[Path]) -> list[Path]:
    """By the time of their last change; what is not there any more, as behind a broken link, is left out."""
    times = []
    for path in paths:
        with contextlib.suppress(OSError):
            times.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(times, reverse=True)]


def may_name(text: str) -> bool:
    """Whether the system takes ``text`` as a part of a path: it has no NUL and no half of a surrogate pair."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def unreadable(path: Path) -> str | None:
    """Why the file at ``path`` cannot be read, as the rest of a sentence; None where it can."""
    try:
        if path.is_symlink() and not path.exists():
            return f"is a link to {os.readlink(path)}, which does not exist"
        if not path.exists():
            return "does not exist"
        if path.is_dir():
            return "is a folder, not a file"
        if not path.is_file():  # reading a pipe would block
            return "is neither a file nor a folder"
        with open(path, "rb"):
            return None
    except OSError as error:
        return f"cannot be read ({error.strerror})"
