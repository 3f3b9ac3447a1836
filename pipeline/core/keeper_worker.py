"""The process of ``keeper.py``: python -I -S keeper_worker.py PARENT MARK PATIENCE GRACE COMMAND (the last in seconds)

Standard input: lines of JSON, [number, kind, value] to keep something, [number] to release it, [-1] when a signal is
answered; before a line, bytes that are the numbers of signals that the parent got, as ``signal.set_wakeup_fd`` writes
them. It needs Python's standard library alone, and starts in 20 ms.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time

SIGNALS = bytes(range(32))
MOST_ROUNDS = 10


class Kept:
    """What is cleaned up at the end, by number."""

    def __init__(self, mark: str, grace_seconds: float, command_seconds: float) -> None:
        self.entries: dict[int, tuple[str, str]] = {}
        self._mark, self._grace_seconds, self._command_seconds = mark, grace_seconds, command_seconds

    def _listed(self, kind: str) -> list[str]:
        return [value for k, value in self.entries.values() if k == kind]

    def clean(self) -> None:
        import shutil
        import subprocess

        groups, until = [int(group) for group in self._listed("group")], time.monotonic() + self._grace_seconds
        for group in groups:
            _kill(group, signal.SIGTERM)
        while (groups := [group for group in groups if _kill(group, 0)]) and time.monotonic() < until:
            time.sleep(0.05)
        for group in groups:
            _kill(group, signal.SIGKILL)
        kill_marked(self._mark, self._listed("mark"))
        for words in self._listed("command"):
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                nowhere = subprocess.DEVNULL
                seconds = self._command_seconds
                subprocess.run(json.loads(words), stdin=nowhere, stdout=nowhere, stderr=nowhere, timeout=seconds)
        for folder in 2 * self._listed("directory"):
            shutil.rmtree(folder, ignore_errors=True)


def kill_marked(name: str, values: list[str]) -> None:
    """Kills all processes whose environment gives ``name`` one of the values; on Linux.

    Again, for what one of them began meanwhile.
    """
    marks = {f"{name}={value}".encode() for value in values}
    for _ in range(MOST_ROUNDS if marks and os.path.isdir("/proc") else 0):
        killed = False
        for process in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{process}/environ", "rb") as file:
                if marks & set(file.read().split(b"\0")):
                    os.kill(int(process), signal.SIGKILL)
                    killed = True
        if not killed:
            return


def _kill(group: int, number: int) -> bool:
    """Whether there is such a process group."""
    try:
        os.killpg(group, number)
    except OSError:
        return False
    return True


def main(parent: int, patience_seconds: float, kept: Kept) -> None:
    line, due, answered = b"", None, -1.0
    while True:
        wait = None if due is None else max(0.0, due - time.monotonic())
        if not select.select([0], [], [], wait)[0]:
            kept.clean()
            os.kill(parent, signal.SIGKILL)
            return
        data = os.read(0, 65536)
        if not data:
            kept.clean()
            return
        *lines, line = (line + data).split(b"\n")
        for each in (*lines, line):
            signals = each[: len(each) - len(each.lstrip(SIGNALS))]
            # Another thread may have got the signal: then its number can come after the answer.
            if {signal.SIGHUP, signal.SIGTERM} & set(signals) and time.monotonic() - answered > 1:
                due = time.monotonic() + patience_seconds
        line = line.lstrip(SIGNALS)
        for each in lines:
            with contextlib.suppress(ValueError):
                number, *entry = json.loads(each.lstrip(SIGNALS) or b"[0]")
                if entry:
                    kept.entries[number] = (entry[0], entry[1])
                elif number == -1:
                    due, answered = None, time.monotonic()
                else:
                    kept.entries.pop(number, None)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    main(int(sys.argv[1]), float(sys.argv[3]), Kept(sys.argv[2], float(sys.argv[4]), float(sys.argv[5])))
