"""Arrays of an HDF5 file, and of that file alone: a stranger's file may point at others on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import h5py

from pipeline.core.errors import WeightsError

FAULTS = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, OverflowError, MemoryError)
"""What h5py raises on files that are broken."""
MOST_OBJECTS, DEEPEST = 20_000, 16
"""Groups may hold themselves by hard links, without end; the largest network here has some hundreds of layers."""


@contextlib.contextmanager
def opened(source: str | BinaryIO, name: str) -> Iterator[h5py.File]:
    """The file, read only; raises WeightsError, also for what h5py raises while it is read. ``name``: for messages."""
    try:
        with h5py.File(source, "r") as file:
            yield file
    except FAULTS as error:
        raise WeightsError(f"{name} is broken ({_first_line(error)})") from None


def datasets_in(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """{path below ``group``: dataset}; raises WeightsError for one that lies in another file or is a link."""
    found: dict[str, h5py.Dataset] = {}
    waiting, seen = [("", group)], 0
    while waiting:
        prefix, here = waiting.pop()
        for key in here:
            seen += 1
            if seen > MOST_OBJECTS or prefix.count("/") > DEEPEST:
                raise WeightsError("it holds more than a network does, or itself")
            child = child_of(here, key)
            if isinstance(child, h5py.Group):
                waiting.append((f"{prefix}{key}/", child))
            elif isinstance(child, h5py.Dataset):
                found[prefix + key] = child
    return found


def child_of(group: h5py.Group, path: str) -> Any:
    """What lies at ``path`` in the group, by hard links, in this very file; raises WeightsError and KeyError."""
    child: Any = group
    for key in path.split("/"):
        if not key:
            continue
        link = child.get(key, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise WeightsError(f"{child.name.rstrip('/')}/{key} in it is a link, which may lead to other files")
        child = child[key]
    if isinstance(child, h5py.Dataset) and (child.is_virtual or child.external):
        raise WeightsError(f"{child.name} in it takes its values from other files")
    return child


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
