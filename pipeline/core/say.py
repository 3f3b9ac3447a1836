"""How the verbs speak to whoever called them."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]
"""Takes one line on how the work goes. The commands write it to standard error; what was asked for is returned."""
