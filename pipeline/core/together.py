"""Several files that appear together or not at all.

They are made ready in a folder beside their places. Renaming that folder is the moment from which they count: then each
is moved to its place. A process that ends before leaves the old files, and one that ends after leaves a folder whose
files ``finish`` moves. Both are done for the next command by ``core/leftovers``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.files import claim, sync_folder

STAGED, COMPILING, READY = ".staged-", ".compiling-", ".ready-"
"""What the names of such folders begin with: while files are made, while a compiler makes them, once they count."""
OURS = re.compile(r"\.(ready-)?staged-[0-9]+-\w{8}")


@contextlib.contextmanager
def together(folder: Path, prefix: str = STAGED) -> Iterator[Path]:
    """A new folder in ``folder``. Its files replace those of ``folder`` at the end of the block, unless that raises.

    Raises OSError: before the files count, the old ones are as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stage, lock = _claimed(folder, prefix)
    try:
        try:
            yield stage
            ready = _made_ready(stage)
        except BaseException as error:
            shutil.rmtree(stage, ignore_errors=True)
            if isinstance(error, OSError) and Path(str(error.filename)).is_relative_to(stage):
                place = folder / Path(str(error.filename)).relative_to(stage)
                raise OSError(error.errno, error.strerror, str(place)) from None
            raise
        if ready is not None:
            finish(ready)
    finally:
        os.close(lock)


def _claimed(folder: Path, prefix: str) -> tuple[Path, int]:
    while True:
        stage = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=folder))
        try:
            lock = os.open(stage, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # it was taken for one of a dead process before it was locked
            continue
        claim(lock)
        if os.fstat(lock).st_nlink:
            return stage, lock
        os.close(lock)


def _made_ready(stage: Path) -> Path | None:
    """The folder under the name by which its files count; None where it holds none."""
    files = _files(stage)
    if not files:
        shutil.rmtree(stage)
        return None
    for file in files:
        with open(stage / file, "rb") as opened:
            try:
                os.fsync(opened.fileno())
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(stage.parent / file)) from None
    sync_folder(stage)
    ready = stage.with_name(f"{READY}{stage.name.lstrip('.')}")
    os.rename(stage, ready)
    sync_folder(stage.parent)
    return ready


def finish(ready: Path) -> None:
    """Moves the files of a folder that counts to their places; may be repeated. Raises OSError."""
    files = _files(ready)
    for file in files:
        _check_no_link(ready.parent, file.parent)
        (ready.parent / file).parent.mkdir(parents=True, exist_ok=True)
        os.replace(ready / file, ready.parent / file)
    for folder in {ready.parent / file.parent for file in files} | {ready.parent}:
        sync_folder(folder)
    shutil.rmtree(ready)


def _check_no_link(place: Path, folder: Path) -> None:
    """Raises OSError where ``folder`` leads out of ``place``: a stranger may have put the folder that counts there."""
    for below in (folder, *folder.parents):
        if (place / below).is_symlink() and below != Path():
            raise OSError(errno.ELOOP, "it is a link", str(place / below))


def _files(stage: Path) -> list[Path]:
    """The regular files in it and in its folders, relative to it; those last that say what the others are."""
    files = (path.relative_to(stage) for path in stage.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(files, key=lambda path: (path.suffix == ".json", path))
