"""Files that are written completely or not at all, and their digests."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from pipeline.core.printable import well_formed


def write_atomically(path: Path, data: bytes | Iterable[bytes | memoryview], sync: bool = True) -> None:
    """Writes beside ``path``, syncs (what can be made again need not be), then renames over it.

    ``data``: the content, whole or in pieces. The folder is synced as well: a rename lasts only with it. Raises
    OSError, which names ``path``; what was there before then stays.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _make_folder(path.parent, sync)
        with open(part, "wb") as file:
            for piece in (data,) if isinstance(data, bytes) else data:
                file.write(piece)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
        if sync:
            sync_folder(path.parent)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes what was created, renamed or removed in the folder last, where its file system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # it may be written in, and not read
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
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
    while path.exists():
        path, number = folder / f"{stem}-{number}{suffix}", number + 1
    return path


def write_new(path: Path, text: str) -> None:
    """Writes a file that the user named; keeps a regular file of that name as <name>.1, .2, ...

    Writes to a device, pipe or terminal as it is, and follows links. Raises OSError.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        with open(path, "wb") as file:
            file.write(well_formed(text).encode())
        return
    if path.exists():
        number = 1
        while os.path.lexists(path.with_name(f"{path.name}.{number}")):
            number += 1
        path.rename(path.with_name(f"{path.name}.{number}"))
    write_atomically(path, well_formed(text).encode())


def sha256(data: bytes | Path) -> str:
    """Hex digest of bytes or of a file's content."""
    if isinstance(data, Path):
        with open(data, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
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
