"""A command in a real pseudo-terminal, and what its user sees."""

import os
import pty
import re
import subprocess
import time
from typing import NamedTuple

CODE = re.compile(r"\x1b\[(\?)?([\d;]*)([A-Za-z])")


class Seen(NamedTuple):
    """``written``: all that reached the terminal; ``silences``: the longest pauses between writes, in seconds."""

    returncode: int
    written: str
    stdout: str
    silences: list[float]

    @property
    def screen(self) -> list[str]:
        """The lines that stay in the end."""
        return screen_of(self.written)


def in_terminal(command, cwd, env=None, piped_stdout=False) -> Seen:
    """Runs the command with a terminal for standard error, and for standard output too unless that is piped."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40", **(env or {})}
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE if piped_stdout else theirs,
    )
    os.close(theirs)
    written, silences, last = b"", [], 0.0
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # the other end was closed
            break
        if not data:
            break
        if written:  # before, Python starts
            silences.append(time.monotonic() - last)
        written, last = written + data, time.monotonic()
    stdout = process.stdout.read().decode() if process.stdout else ""
    os.close(ours)
    return Seen(process.wait(60), written.decode(), stdout, sorted(silences)[-3:])


def screen_of(written: str) -> list[str]:
    """Lines of a terminal that has obeyed the codes that a bar needs: return, up, erase the line."""
    lines, row, column, at = [""], 0, 0, 0
    while at < len(written):
        code = CODE.match(written, at)
        if code:
            at = code.end()
            count = int(code[2] or 1) if code[2].isdecimal() or not code[2] else 1
            if code[3] == "A":
                row = max(0, row - count)
            elif code[3] == "K":
                lines[row] = "" if code[2] == "2" else lines[row][:column]
            continue
        character, at = written[at], at + 1
        if character == "\r":
            column = 0
        elif character == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        else:
            line = lines[row].ljust(column)
            lines[row], column = line[:column] + character + line[column + 1 :], column + 1
    return [line.rstrip() for line in lines if line.strip()]
