"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def write_atomically(path: Path, data: bytes, sync: bool = True) -> None:
    """Writes beside ``path``, syncs (what can be made again need not be), then renames over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_new(path: Path, text: str) -> None:
    """Writes a file the user named; a regular file that stood there before is kept as <name>.1, .2, ...

    A device, a pipe or a terminal is written to as it is; a link leads to what it names. Raises OSError.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        with open(path, "wb") as file:
            file.write(text.encode())
        return
    if path.exists():
        number = 1
        while os.path.lexists(path.with_name(f"{path.name}.{number}")):
            number += 1
        path.rename(path.with_name(f"{path.name}.{number}"))
    write_atomically(path, text.encode())


def sha256(data: bytes | Path) -> str:
    """Hex digest of bytes or of a file's content."""
    if isinstance(data, Path):
        with open(data, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(data).hexdigest()


def unreadable(path: Path) -> str | None:
    """Why no file can be read at ``path``, as the rest of a sentence; None where one can."""
    try:
        if path.is_symlink() and not path.exists():
            return f"is a link to {os.readlink(path)}, which does not exist"
        if not path.exists():
            return "does not exist"
        if path.is_dir():
            return "is a folder, not a file"
        if not path.is_file():  # a pipe would be waited for
            return "is neither a file nor a folder"
        with open(path, "rb"):
            return None
    except OSError as error:
        return f"cannot be read ({error.strerror})"
