"""Shows the time so far while this process cannot: TensorFlow's converter keeps Python's lock for minutes.

A small process of its own is told what is under way. When nothing came for longer than PATIENCE_SECONDS, that process
draws on the terminal's last line, or writes lines to a log, until it is told again.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from types import TracebackType
from typing import TextIO

PATIENCE_SECONDS = 1.0
SCRIPT = """
import select, sys, time

lines, label, heard, due = LINES, "", time.monotonic(), 0.0
while True:
    if select.select([0], [], [], 0.25 if lines else 0.5)[0]:
        line = sys.stdin.buffer.raw.read(65536)
        if not line:
            break
        last = line.decode("utf-8", "replace").split("\\n")[-2]
        began, next_line, label = last.split(" ", 2)
        heard, due = time.monotonic(), max(due, float(next_line))
    elif label and time.monotonic() > max(heard + PATIENCE, due):
        minutes, seconds = divmod(int(time.monotonic() - float(began)), 60)
        time_so_far = f"{minutes}:{seconds:02d}"
        if lines:
            sys.stderr.write(f"{label}: {time_so_far} so far\\n")
            due = time.monotonic() + lines
        else:
            sys.stderr.write(f"\\r\\x1b[2K… {label} {time_so_far}")
        sys.stderr.flush()
"""


class Substitute:
    """Close it, or end the process that made it, and it ends.

    ``stream``: a terminal, or with ``lines``, seconds from one to the next, a log.
    """

    def __init__(self, stream: TextIO, lines: float = 0.0) -> None:
        script = SCRIPT.replace("PATIENCE", str(PATIENCE_SECONDS)).replace("LINES", str(lines))
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stream,
            start_new_session=True,  # Ctrl-C is for the command
        )

    def shows(self, label: str = "", began: float = 0.0, due: float = 0.0) -> None:
        """``label``: what is under way, '' where nothing is shown; since when, and when the next line of a log is due,
        of the monotonic clock."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it was ended
            self._process.stdin.write(f"{began} {due} {label}\n".encode())
            self._process.stdin.flush()

    def __enter__(self) -> Substitute:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
