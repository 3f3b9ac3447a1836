"""Draws what is under way at the bottom of a terminal: a bar for what can be counted, else a spinner and the time."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pipeline.cli.streams import copy_of
from pipeline.cli.substitute import Substitute
from pipeline.core.printable import LONGEST_NAME, printable
from pipeline.core.progress import clock

if TYPE_CHECKING:
    from pipeline.cli.screen import Step

BAR_COLUMNS = 24
ERASE_LINE = "\r\x1b[2K"
SUBSTITUTE_CHARACTERS = 60
"""It must stay in one line."""


class Display(contextlib.ExitStack):
    """The bottom lines of a terminal. While it is open, whatever is printed appears above them.

    ``lock``: held while anything is drawn or printed, so that nothing tears.
    """

    def __init__(self, lock: threading.RLock) -> None:  # type: ignore[valid-type]
        super().__init__()
        self._lock: Any = lock
        self._live: Live | None = None
        self._spinner = Spinner("dots", style="cyan")
        self._whole_line = True
        self._starting = True

    def __enter__(self) -> Display:
        self._terminal = self.enter_context(copy_of(sys.stderr))
        self._substitute = self.enter_context(Substitute(self._terminal))
        self._substitute.shows("starting", time.monotonic())  # imports keep Python's lock too
        self._console = Console(file=self._terminal, highlight=False, force_terminal=True)
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream.isatty():
                setattr(sys, name, Above(stream, self))
                self.callback(setattr, sys, name, stream)
        self.callback(self.erase)
        return self

    def draw(self, steps: Sequence[Step]) -> None:
        """Replaces what was drawn before."""
        if not self._whole_line:  # drawing would overwrite what was printed
            return
        if not steps:
            self.erase()
            return
        if self._live is None:
            self.erase()
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        self._live.update(self._table(steps), refresh=True)
        self._substitute.shows(printable(steps[-1].what, SUBSTITUTE_CHARACTERS), steps[-1].began)

    def erase(self) -> None:
        with self._lock:
            if self._starting:
                self._starting = False
                self._substitute.shows()
                self._terminal.write(ERASE_LINE)
                self._terminal.flush()
            if self._live is not None:
                self._substitute.shows()
                live, self._live = self._live, None
                live.stop()

    def above(self, text: str, stream: TextIO | None = None) -> int:
        """Prints above what is drawn; it is drawn again at the next tick, once the line is complete."""
        with self._lock:
            self.erase()
            stream = stream or self._terminal
            written = stream.write(text)
            stream.flush()
            if text:
                self._whole_line = text.endswith("\n")
            return written

    def _table(self, steps: Sequence[Step]) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True, width=1)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for _ in range(3):
            table.add_column(no_wrap=True)
        for step in steps:
            table.add_row(*self._row(step))
        return table

    def _row(self, step: Step) -> Iterator[RenderableType]:
        yield self._spinner
        yield Text(printable(step.what, LONGEST_NAME))
        count = step.count
        if count is None:
            yield Text(clock(step.elapsed), style="cyan")
            return
        total = count.total
        yield ProgressBar(total, min(count.done, total), width=BAR_COLUMNS) if total else Text(clock(step.elapsed))
        of = f"/{total}" if total else ""
        yield Text(f"{count.done}{of} {count.unit}" + (f"  {printable(count.detail)}" if count.detail else ""))
        left = count.left_seconds
        yield Text(f"{clock(left)} left" if left is not None else clock(step.elapsed), style="cyan")


class Above:
    """A terminal's stream whose text is printed above what is drawn."""

    def __init__(self, stream: TextIO, display: Display) -> None:
        self._stream, self._display = stream, display

    def write(self, text: str) -> int:
        return self._display.above(text, self._stream)

    def flush(self) -> None:
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
