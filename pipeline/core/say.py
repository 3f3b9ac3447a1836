"""How the verbs report progress to their caller."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]
"""Called with one line about progress. The commands write it to standard error; results are returned, not said."""


def quiet(line: str) -> None:
    """Shows no progress; pass ``print`` to see it."""
