"""The devices. One per file; each registers itself by a module-level ``Device``."""

from __future__ import annotations

import sys

from pipeline.nouns.device import Device
from pipeline.nouns.errors import RunError
from pipeline.nouns.registry import discover, find


def devices() -> dict[str, Device]:
    return discover(sys.modules[__name__], Device)


def device(name: str) -> Device:
    """The attached device called ``name``, or the best one attached for 'best'; raises UnknownName or RunError."""
    if name != "best":
        chosen = find(sys.modules[__name__], Device, "device", name)
        if chosen.find() is None:
            raise RunError(f"device {name} is not attached: `python cli.py list` shows which are.")
        return chosen
    return max((d for d in devices().values() if d.find() is not None), key=lambda d: d.rank)
