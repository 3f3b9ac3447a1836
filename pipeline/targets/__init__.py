"""The targets. One per file; each registers itself by a module-level ``Target``."""

from __future__ import annotations

import sys

from pipeline.core.errors import BadSpec
from pipeline.core.registry import discover, find
from pipeline.core.target import Target


def targets() -> dict[str, Target]:
    return discover(sys.modules[__name__], Target)


def target(text: str, *, level: int | None = None, soc: str | None = None) -> Target:
    """The target called NAME or NAME:SELECTOR, where SELECTOR is a feature level, a system on chip or a configuration.

    ``level`` and ``soc`` give the first two apart from the name. Raises UnknownName, and BadSpec for what the target
    does not have and where the two contradict each other.
    """
    name, colon, selector = text.partition(":")
    chosen = find(sys.modules[__name__], Target, "target", name)
    if colon:
        chosen = chosen.with_selector(selector)
    for field, value in (("level", level), ("soc", soc)):
        if chosen.selector and value is not None and str(value).lower() != chosen.selector.lower():
            raise BadSpec(f"target {text} and {field} {value} contradict each other: leave one of them out.")
    return chosen.with_level(level).with_soc(soc)
