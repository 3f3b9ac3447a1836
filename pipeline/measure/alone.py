"""Locks a machine, so that one measurement at a time runs on it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.progress import waiting
from pipeline.core.say import Say


@contextlib.contextmanager
def alone_on(identity: str, say: Say) -> Iterator[None]:
    """Waits until no other measurement of this user runs on the same machine."""
    name = f"segquant-{os.getuid()}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.lock"
    with open(Path(tempfile.gettempdir()) / name, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            with waiting(say, f"waiting: another measurement runs on {identity}"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
