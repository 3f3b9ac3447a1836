"""One folder for the temporary files of a command, which goes with the command.

Libraries leave temporary files behind when a process is killed: TensorFlow the code that it generates, its converter
whole networks. So all of them, and those of the programs that a command starts, lie in one folder, which the keeper
(``core/keeper``) removes when the command ends in any way. If the keeper is killed as well, the next command does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.keeper import scratch_folder

PREFIX = "segquant-command-"
YOUNG_SECONDS = 60
"""A folder is made and then locked; one as young as this may not be locked yet."""
_shared: Path | None = None


def shared_temporary_folder() -> Path:
    """The folder for temporary files that all processes share. Raises OSError where there is none."""
    return _shared or Path(tempfile.gettempdir())


@contextlib.contextmanager
def own_temporary_folder() -> Iterator[None]:
    """Inside, temporary files lie in a folder of their own; where none can be made, where they did before."""
    global _shared
    with contextlib.ExitStack() as stack:
        if _shared is None:
            with contextlib.suppress(OSError):  # what needs a temporary file will say that there is no place for it
                shared, before = Path(tempfile.gettempdir()), tempfile.tempdir
                remove_those_of_the_dead(shared)
                own = stack.enter_context(scratch_folder(PREFIX, shared))
                stack.callback(_set, None, before)
                _set(shared, str(own))
        yield


def _set(shared: Path | None, tempdir: str | None) -> None:
    global _shared
    _shared, tempfile.tempdir = shared, tempdir


def environment() -> dict[str, str]:
    """What makes a program put its temporary files into this command's folder."""
    return {} if _shared is None else {"TMPDIR": tempfile.gettempdir()}


def remove_those_of_the_dead(shared: Path) -> None:
    """Removes the folders of this user's commands that were killed together with their keeper."""
    for path in shared.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if status.st_uid != os.getuid() or time.time() - status.st_mtime < YOUNG_SECONDS:
                continue
            file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            finally:
                os.close(file)
