"""Finds in a run what processes that have ended left behind, and finishes or removes it.

A file or folder in which a living process makes something ready is locked by that process, so what can be locked is
left over. Where the file system has no locks, what has not changed for an hour is.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import time
from pathlib import Path

from pipeline.core.files import NO_FLOCK, PART
from pipeline.core.together import COMPILING, OURS, READY, STAGED, finish

FOLDERS = (STAGED, COMPILING, ".openvino-")
TENSORFLOW = re.compile(r"checkpoint\.tmp|.*(_temp|\.tempstate\d*)$")
"""What TensorFlow's checkpoints are made ready in. Trainings alone write them, and these hold the run's lock."""
RESUME = "resume"
UNSURE_SECONDS = 3600


def is_part(name: str) -> bool:
    return name.startswith(".") and (name.endswith(PART) or name.startswith(f"{PART}."))


def clear_stages(folder: Path) -> None:
    """Finishes or removes what ``together`` left in a folder that is not ours alone, and nothing else there."""
    for path in list(folder.iterdir()):
        if OURS.fullmatch(path.name) and path.is_dir() and not path.is_symlink() and _left_over(path):
            finish(path) if path.name.startswith(READY) else shutil.rmtree(path)


def clear(run: Path) -> list[str]:
    """For the process that holds the run's lock. Returns in words what it did; raises OSError."""
    finished: list[Path] = []
    removed: list[Path] = []
    for place, folders, files in os.walk(run):
        here = Path(place)
        for name in list(folders):
            path = here / name
            if path.is_symlink():
                continue
            if name.startswith(READY) and _left_over(path):
                folders.remove(name)
                finish(path)
                finished.append(here)
            elif (name.startswith(FOLDERS) and _left_over(path)) or _is_tensorflow_s(path):
                folders.remove(name)
                shutil.rmtree(path)
                removed.append(path)
        for name in files:
            path = here / name
            if (is_part(name) and _left_over(path)) or _is_tensorflow_s(path):
                path.unlink(missing_ok=True)
                removed.append(path)
    return [f"finished what an interrupted command began in {folder}" for folder in finished] + (
        [f"removed {len(removed)} unfinished {'file' if len(removed) == 1 else 'files'} of interrupted commands"]
        if removed
        else []
    )


def _is_tensorflow_s(path: Path) -> bool:
    return path.parent.name == RESUME and TENSORFLOW.match(path.name) is not None


def _left_over(path: Path) -> bool:
    """Whether no living process makes something ready here."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        return error.errno == errno.ELOOP  # a link is none of ours
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
        return time.time() - os.fstat(file).st_mtime > UNSURE_SECONDS
    finally:
        os.close(file)
