"""The targets. One per file; each registers itself by a module-level ``Target``."""

from __future__ import annotations

import sys

from pipeline.core.registry import discover, find
from pipeline.core.target import Target


def targets() -> dict[str, Target]:
    return discover(sys.modules[__name__], Target)


def target(name: str) -> Target:
    return find(sys.modules[__name__], Target, "target", name)
