"""Nouns: what happens to a command, and what came of it."""

from __future__ import annotations

import dataclasses
import errno
import re
import signal

SIGNALS = {name: int(getattr(signal, name)) for name in ("SIGKILL", "SIGTERM", "SIGINT")}
ERRORS = {name: int(getattr(errno, name)) for name in ("ENOSPC", "EIO", "EDQUOT")}
SECONDS, CHANGE = "seconds", "change"
ONCE, FOR_GOOD = "once", "for-good"
NAME = re.compile(r"(\w+):(\w+):([\w-]+):(\d+(?:\.\d+)?)")


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing that happens to a command.

    Attributes:
      what: a signal, or the error of a call that fails.
      way: of a signal: SECONDS after the start, or right before a CHANGE of a file; of an error: ONCE, or FOR_GOOD.
      at: how many seconds, or before which change; the first is 1.
    """

    command: str
    what: str
    way: str
    at: float

    def __post_init__(self) -> None:
        if self.way not in ((SECONDS, CHANGE) if self.what in SIGNALS else (ONCE, FOR_GOOD)):
            raise ValueError(f"{self.what} does not come {self.way}")

    @property
    def name(self) -> str:
        return f"{self.row}:{self.at:.3f}" if self.way == SECONDS else f"{self.row}:{self.at:.0f}"

    @property
    def row(self) -> str:
        """Of the table."""
        return f"{self.command}:{self.what}:{self.way}"

    @property
    def signal(self) -> int:
        """0 for an error."""
        return SIGNALS.get(self.what, 0)

    @property
    def error(self) -> int:
        """0 for a signal."""
        return ERRORS.get(self.what, 0)

    @property
    def before_change(self) -> int:
        """0 for a moment in seconds."""
        return 0 if self.way == SECONDS else int(self.at)

    @staticmethod
    def parse(name: str) -> Case:
        """Raises ValueError."""
        if not (match := NAME.fullmatch(name)) or match[2] not in (*SIGNALS, *ERRORS):
            raise ValueError(f"{name!r} is no case: write one as the table does, such as train:SIGKILL:change:12")
        return Case(match[1], match[2], match[3], float(match[4]))


@dataclasses.dataclass(frozen=True)
class Ended:
    """A command that ended.

    Attributes:
      code: as a shell has it: 128 and the signal's number where a signal ended it.
      said: standard error and standard output.
      changes: the changes of files up to the end, a line each: number, what, where.
      left_running: the processes that it left, which had to be killed.
      signalled: whether a signal was sent before it ended.
      timed_out: whether it had to be killed.
    """

    code: int
    said: str
    seconds: float
    cpu_seconds: float
    changes: tuple[str, ...]
    left_running: tuple[str, ...]
    signalled: bool
    timed_out: bool


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came of a case.

    Attributes:
      problems: none where all is well.
      detail: what happened, in words.
      repeated: False where the files were those of an earlier case whose repetition went well.
      reached: False where the command ended before the moment came.
    """

    case: str
    problems: tuple[str, ...]
    detail: str
    repeated: bool
    reached: bool
    cpu_seconds: float
