"""Ends a process, or lets an operation fail, at the n-th time that Python changes something in a folder.

Python's audit events come before a file is opened to be written, and before it is renamed, linked, truncated or
removed; before a folder is made or removed.
"""

import os
import signal
import sys
from pathlib import Path

CHANGES = ("os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")
KILLED = -signal.SIGKILL


def at_change(folder, number, fault):
    """Calls ``fault`` with its path before the ``number``-th change below ``folder``; for the rest of this process."""
    count = 0

    def hook(event, arguments):
        nonlocal count
        if event == "open":
            writes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            places = arguments[:1] if writes else ()
        else:
            places = arguments[:2] if event in CHANGES else ()
        below = [str(place) for place in places if isinstance(place, str | Path) and str(place).startswith(str(folder))]
        if below:
            count += 1
            if count == number:
                fault(below[-1])

    sys.addaudithook(hook)


def in_a_child(work, folder, number, error=None):
    """Does ``work`` in a forked process, kills it at the ``number``-th change below the folder, and returns its code.

    With ``error``, the number of an OSError, that change fails instead: 1 where ``work`` raised that error, with the
    name of a file, 2 where it went on without what failed. 0: there were not so many changes.
    """
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    fired = False

    def fault(path):
        nonlocal fired
        fired = True
        if error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(error, os.strerror(error), path)

    code = 70
    try:
        at_change(folder, number, fault)
        work()
        code = 2 if fired else 0
    except OSError as raised:
        code = 1 if raised.errno == error and raised.filename else 70
    finally:
        os._exit(code)
