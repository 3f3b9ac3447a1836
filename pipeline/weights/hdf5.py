"""Reads arrays of an untrusted HDF5 file, and of that file alone: it may link to other files on this machine."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO

import h5py

from pipeline.core.confined import why_unsafe
from pipeline.core.errors import WeightsError

FAULTS = (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, OverflowError, MemoryError)
"""What h5py raises for broken files."""
MOST_OBJECTS, DEEPEST = 20_000, 16
"""Limits, as hard links may make a group contain itself; the largest network here has some hundreds of layers."""
MOST_DATASET_BYTES = 1 << 29
"""Of one array: VGG16's largest has 411 MB. Larger ones are of no network here and are refused by their shapes."""


@contextlib.contextmanager
def open_hdf5(source: str | BinaryIO, name: str) -> Iterator[h5py.File]:
    """The file, opened for reading; h5py's errors while it is open become WeightsErrors. ``name``: for messages.

    A child process reads all of it first, as a damaged file makes the HDF5 library crash or loop for ever.
    """
    _check(source, name)
    try:
        with h5py.File(source, "r") as file:
            yield file
    except FAULTS as error:
        raise WeightsError(f"{name} is broken ({_first_line(error)})") from None


SECONDS = 8
"""Of the processor, for reading a whole file; half a gigabyte takes one or two."""
_checked: dict[tuple[int, ...], str | None] = {}
"""Device, inode, size and time of the last change of a file → what became of the child that read it."""


def _check(source: str | BinaryIO, name: str) -> None:
    """Raises WeightsError for what is no regular file, and for one that a child process did not survive."""
    identity = None
    if isinstance(source, str):
        with contextlib.suppress(OSError):
            found = os.stat(source)
            if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for its other end
                raise WeightsError(f"{name} is not a file")
            identity = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
    why = _checked[identity] if identity in _checked else why_unsafe(lambda: _read_all(source), SECONDS)
    if identity is not None:
        _checked[identity] = why
    if why is not None:
        raise WeightsError(f"{name} is broken ({why})")


def _read_all(source: str | BinaryIO) -> None:
    """Reads what any reader here may read, each object once; raises WeightsError where there are too many.

    Links and values in other files are left alone: the readers name those that they meet.
    """
    with h5py.File(source, "r") as file:
        pending: list[Any] = [file]
        seen: set[int] = set()
        while pending:
            each = pending.pop()
            if (place := h5py.h5o.get_info(each.id).addr) in seen:
                continue
            seen.add(place)
            if len(seen) > MOST_OBJECTS:
                raise WeightsError("it holds more objects than a network")
            for name in each.attrs:
                each.attrs[name]
            if isinstance(each, h5py.Group):
                pending.extend(each[key] for key in each if isinstance(each.get(key, getlink=True), h5py.HardLink))
            elif isinstance(each, h5py.Dataset) and not _is_elsewhere(each) and each.nbytes <= MOST_DATASET_BYTES:
                each[()]


def _is_elsewhere(dataset: h5py.Dataset) -> bool:
    """Whether its values are in other files."""
    return bool(dataset.is_virtual or dataset.external)


def datasets_in(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """{path below ``group``: dataset}; raises WeightsError for links and for values in other files."""
    datasets: dict[str, h5py.Dataset] = {}
    pending, count = [("", group)], 0
    while pending:
        prefix, parent = pending.pop()
        for key in parent:
            count += 1
            if count > MOST_OBJECTS or prefix.count("/") > DEEPEST:
                raise WeightsError("it holds more objects than a network, or contains itself")
            child = child_of(parent, key)
            if isinstance(child, h5py.Group):
                pending.append((f"{prefix}{key}/", child))
            elif isinstance(child, h5py.Dataset):
                datasets[prefix + key] = child
    return datasets


def child_of(group: h5py.Group, path: str) -> Any:
    """The object at ``path`` in the group, reached by hard links in this file; raises WeightsError and KeyError."""
    child: Any = group
    for key in path.split("/"):
        if not key:
            continue
        link = child.get(key, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise WeightsError(f"{child.name.rstrip('/')}/{key} in it is a link, which may lead to other files")
        child = child[key]
    if isinstance(child, h5py.Dataset) and _is_elsewhere(child):
        raise WeightsError(f"{child.name} in it takes its values from other files")
    return child


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
