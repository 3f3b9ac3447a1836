"""The console that tables are printed on."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from pipeline.core.command import as_called
from pipeline.core.printable import printable
from pipeline.core.score import Score

MIB = 1 << 20


def plain(text: str) -> Text:
    """``text`` without markup or control characters, for any console."""
    return Text(printable(as_called(text)))


class Plain(Console):
    """Shows every text literally: no markup, no emoji codes, no control characters."""

    def render_str(self, text: str, **how: Any) -> Text:
        """Rich renders all text here: cells, titles and lines."""
        return super().render_str(printable(as_called(text)), **{**how, "markup": False, "emoji": False})


def console() -> Console:
    # A pipe gets a fixed width, so that logs do not wrap at 80 columns.
    return Plain(file=sys.stdout, width=None if sys.stdout.isatty() else 120, highlight=False)


def absent(score: Score) -> str:
    return f"; absent from labels and masks, left out: {', '.join(score.absent)}" if score.absent else ""
