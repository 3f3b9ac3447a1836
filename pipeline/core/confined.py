"""Tries work on a stranger's file in a child process first: a native parser can crash, hang, or fill the memory."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
from collections.abc import Callable

SECONDS, MEMORY_BYTES = 20, 2 << 30
"""Of the processor, and beyond what this process has."""
BUSY_TIMES = 6
"""How many times as long the clock may go on, where other programs keep the processors busy."""


def why_unsafe(work: Callable[[], object], seconds: int = SECONDS, memory_bytes: int = MEMORY_BYTES) -> str | None:
    """What ``work`` did to a child process, as the rest of a sentence; None where it ends, also with an exception.

    The child is a fork, which has all that this process has read; ``work`` starts no thread and calls nothing that
    other threads hold locks of. Only on Linux, where forks of processes with threads are safe for that; elsewhere None.
    """
    if sys.platform != "linux":
        return None
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _work(work, seconds, memory_bytes)
    os.close(writing)
    late = True
    try:
        late = not select.select([reading], [], [], BUSY_TIMES * seconds)[0]
    finally:
        os.close(reading)
        if late:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if late or number == signal.SIGXCPU:
        return f"takes more than {seconds} s to be read"
    if number == signal.SIGKILL:  # by the system, which is short of memory
        return "needs more memory than there is"
    if number:
        return f"ends its reader with {signal.Signals(number).name}"
    code = os.WEXITSTATUS(status)
    return f"needs more than {memory_bytes >> 20} MiB of memory" if code == NO_MEMORY else None


NO_MEMORY = 17
"""Exit code of a child that had too little memory."""


def _work(work: Callable[[], object], seconds: int, memory_bytes: int) -> None:
    code = 0
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        with open("/proc/self/statm") as sizes:
            now = int(sizes.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + memory_bytes, now + memory_bytes))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        work()
    except MemoryError:
        code = NO_MEMORY
    except BaseException:  # the caller meets it itself, and says it
        pass
    finally:
        os._exit(code)
