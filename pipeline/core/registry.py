"""Finds what a package registers: each module-level instance of a noun in its modules.

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
    registered: dict[str, N] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for value in vars(module).values():
            if isinstance(value, noun) and registered.setdefault(value.name, value) is not value:
                raise RuntimeError(f"{package.__name__} registers {value.name!r} twice")
    return dict(sorted(registered.items()))


def find(package: ModuleType, noun: type[N], kind: str, name: str) -> N:
    """The registered instance called ``name``; raises UnknownName."""
    return pick(discover(package, noun), kind, name)


def pick(known: dict[str, N], kind: str, name: str) -> N:
    """The instance called ``name``; raises UnknownName, which suggests one with that alias or else the nearest name."""
    if name not in known:
        meant = {key: value for key, value in known.items() if name.lower() in getattr(value, "aliases", ())}
        raise UnknownName(kind, name, known, {key: getattr(value, "title", "") for key, value in meant.items()})
    return known[name]
