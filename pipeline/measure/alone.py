"""Locks a machine, so that one measurement at a time runs on it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator

from pipeline.core.progress import waiting
from pipeline.core.say import Say
from pipeline.core.temporary import shared_temporary_folder


@contextlib.contextmanager
def alone_on(identity: str, say: Say) -> Iterator[None]:
    """Waits until no other measurement of this user runs on the same machine."""
    name = f"segquant-{os.getuid()}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.lock"
    how = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # another user may have put it there
    lock = os.open(shared_temporary_folder() / name, how, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            with waiting(say, f"waiting: another measurement runs on {identity}"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
