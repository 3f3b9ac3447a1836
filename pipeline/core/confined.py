"""Tries work on a stranger's file in a child process first: a native parser can crash, hang, or fill the memory."""

from __future__ import annotations

import faulthandler
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
    """What ``work`` did to a child process: its exception's words, or how it had to be ended; None where it returns.

    The child is a fork, which has all that this process has read; ``work`` starts no thread and
    calls nothing that other threads hold locks of. Only on Linux, where that is safe beside other threads; elsewhere
    ``work`` is not done, and None.
    """
    if sys.platform != "linux":
        return None
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _work(work, seconds, memory_bytes, writing)
    os.close(writing)
    late, words = True, b""
    try:
        poll = select.poll()
        poll.register(reading, select.POLLIN)
        late = not poll.poll(1000 * BUSY_TIMES * seconds)
        words = b"" if late else os.read(reading, MOST_WORDS)
    finally:
        os.close(reading)
        if late:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if late or number == signal.SIGXCPU:
        return f"it takes more than {seconds} s to be read"
    if number == signal.SIGKILL:  # by the system, which is short of memory
        return "it needs more memory than there is"
    if number:
        return f"it ends its reader with {signal.Signals(number).name}"
    return words.decode("utf-8", "replace") or (f"its reader ended with {status}" if status else None)


MOST_WORDS = 1000


def _work(work: Callable[[], object], seconds: int, memory_bytes: int, answer: int) -> None:
    code = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        faulthandler.disable()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):  # native code prints its stack where it ends the process
            os.dup2(nowhere, stream)
        with open("/proc/self/statm") as sizes:
            most = int(sizes.read().split()[0]) * resource.getpagesize() + memory_bytes
        for limit, most_now in ((resource.RLIMIT_AS, most), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
            hard = resource.getrlimit(limit)[1]
            resource.setrlimit(limit, (most_now if hard == resource.RLIM_INFINITY else min(most_now, hard), hard))
        work()
        code = 0
    except MemoryError:
        os.write(answer, f"it needs more than {memory_bytes >> 20} MiB of memory".encode())
    except BaseException as error:
        os.write(answer, (next(iter(str(error).splitlines()), "") or type(error).__name__).encode()[:MOST_WORDS])
    finally:
        os._exit(code)
