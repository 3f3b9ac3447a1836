"""Finds what a package registers: every module-level instance of a noun in the package's modules.

A new model, dataset, target or device is therefore one new file and no edit elsewhere.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Protocol, TypeVar

from pipeline.core.errors import UnknownName


class Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


def discover(package: ModuleType, noun: type[N]) -> dict[str, N]:
    """Returns {name: instance} of ``noun`` over all modules of ``package``, sorted by name."""
    found: dict[str, N] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for value in vars(module).values():
            if isinstance(value, noun) and found.setdefault(value.name, value) is not value:
                raise RuntimeError(f"{package.__name__} registers {value.name!r} twice")
    return dict(sorted(found.items()))


def find(package: ModuleType, noun: type[N], kind: str, name: str) -> N:
    """The registered instance called ``name``; raises UnknownName with the nearest known one."""
    return pick(discover(package, noun), kind, name)


def pick(known: dict[str, N], kind: str, name: str) -> N:
    """The one called ``name``; raises UnknownName with the one that people call so, or else the nearest known one."""
    if name not in known:
        also = {one: value for one, value in known.items() if name.lower() in getattr(value, "aliases", ())}
        raise UnknownName(kind, name, known, {one: getattr(value, "title", "") for one, value in also.items()})
    return known[name]
