"""The devices. One per file; each registers itself by a module-level ``Device``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from pipeline.core.device import Connection, Device, DeviceOptions
from pipeline.core.errors import BadSpec, DeviceError
from pipeline.core.registry import discover, find

APPLES = ("ios", "iphone", "ipad")


def devices() -> dict[str, Device]:
    return discover(sys.modules[__name__], Device)


def best() -> Device:
    """The best one attached."""
    return max((d for d in devices().values() if d.find() is not None), key=lambda d: d.rank)


def device(name: str) -> tuple[Device, str]:
    """The device called NAME or NAME:SELECTOR, and the selector; 'best' is the best one attached.

    Raises UnknownName, BadSpec for a device of Apple's or a selector that is not taken, and DeviceError when
    it is not attached.
    """
    if name == "best":
        return best(), ""
    kind, colon, selector = name.partition(":")
    if kind.lower() in APPLES:
        raise BadSpec(
            f"device {kind}: nothing here reaches an iPhone or iPad. Convert for gpu or cpu, and time the file there"
            " with LiteRT's benchmark app for iOS."
        )
    chosen = find(sys.modules[__name__], Device, "device", kind)
    if colon and not (selector and chosen.selector_help):
        raise BadSpec(f"device {name}: write {chosen.name}{chosen.selector_help}.")
    if not selector and chosen.find() is None:
        raise DeviceError(f"device {chosen.name} is not attached: {chosen.missing()}.")
    return chosen, selector


def check_taken(options: DeviceOptions, names: Sequence[str]) -> None:
    """Raises BadSpec for an option that none of the named devices uses."""
    kinds = [device(name)[0] for name in names]
    taken = {field for kind in kinds for field in kind.takes}
    for field, value in dataclasses.asdict(options).items():
        if value is not None and field not in taken:
            option = f"--{field.replace('_', '-')}"
            users = sorted(kind.name for kind in devices().values() if field in kind.takes)
            raise BadSpec(
                f"{option} has no effect with device {', '.join(kind.name for kind in kinds)}: leave {option} out, or"
                f" name one that uses it ({', '.join(users)})."
            )


def connect(name: str, settings: DeviceOptions = DeviceOptions()) -> Connection:
    """Raises the errors of ``device`` and of the device itself."""
    chosen, selector = device(name)
    return chosen.connect(selector, settings)
