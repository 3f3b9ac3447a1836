"""Draws the time so far while this process cannot: TensorFlow's converter keeps Python's lock for minutes.

The display tells a small process of its own what it shows. When nothing came for longer than PATIENCE_SECONDS, that
process draws on the display's last line, until it is told again.
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

label, heard = "", time.monotonic()
while True:
    if select.select([0], [], [], 0.5)[0]:
        line = sys.stdin.buffer.raw.read(65536)
        if not line:
            break
        last = line.decode("utf-8", "replace").split("\\n")[-2]
        began, _, label = last.partition(" ")
        heard = time.monotonic()
    elif label and time.monotonic() - heard > PATIENCE:
        minutes, seconds = divmod(int(time.monotonic() - float(began)), 60)
        sys.stderr.write(f"\\r\\x1b[2K… {label} {minutes}:{seconds:02d}")
        sys.stderr.flush()
"""


class Substitute:
    """Close it, or end the process that made it, and it ends."""

    def __init__(self, terminal: TextIO) -> None:
        script = SCRIPT.replace("PATIENCE", str(PATIENCE_SECONDS))
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=terminal,
            start_new_session=True,  # Ctrl-C is for the command
        )

    def shows(self, label: str = "", began: float = 0.0) -> None:
        """``label``: of the display's last line, '' where it shows nothing; ``began``: of the monotonic clock."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it was ended
            self._process.stdin.write(f"{began} {label}\n".encode())
            self._process.stdin.flush()

    def __enter__(self) -> Substitute:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
