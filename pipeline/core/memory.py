"""How much memory this process may still take."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

GROUPS = {"v2": ("", "unified"), "v1": ("memory",)}
"""Where control groups are mounted, below /sys/fs/cgroup."""
LIMIT = {"v2": "memory.max", "v1": "memory.limit_in_bytes"}
USED = {"v2": "memory.current", "v1": "memory.usage_in_bytes"}
RECLAIMABLE = {"v2": "inactive_file", "v1": "total_inactive_file"}
"""Pages of files that were read: counted as used, and given up when memory is short."""


def free_bytes(root: Path = Path("/")) -> int | None:
    """Memory that can be taken without swapping; None where the system does not tell (it is not Linux).

    The least of what the machine has available (MemAvailable), what the container's limit leaves (memory.max of the
    control group or of one above it; memory.limit_in_bytes in version 1) and what the limit of addresses leaves
    (RLIMIT_AS). ``root``: of /proc and /sys, for tests.
    """
    known = [*_available(root), *_left_in_groups(root), *_left_of_addresses(root)]
    return max(0, min(known)) if known else None


def _available(root: Path) -> Iterator[int]:
    with contextlib.suppress(OSError, KeyError, ValueError, IndexError):
        yield _kib(root / "proc/meminfo", "MemAvailable")


def _left_of_addresses(root: Path) -> Iterator[int]:
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        with contextlib.suppress(OSError, KeyError, ValueError, IndexError):
            yield most - _kib(root / "proc/self/status", "VmSize")


def _left_in_groups(root: Path) -> Iterator[int]:
    for version, group in _groups(root):
        for mount in GROUPS[version]:
            top = root / "sys/fs/cgroup" / mount
            here = top / group
            for folder in (here, *here.parents):
                with contextlib.suppress(OSError, KeyError, ValueError, IndexError):
                    limit = int((folder / LIMIT[version]).read_text())  # "max" where there is none
                    used = int((folder / USED[version]).read_text())
                    stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                    yield limit - used + int(stat[RECLAIMABLE[version]])
                if folder == top:
                    break


def _groups(root: Path) -> Iterator[tuple[str, str]]:
    """(version, path) of each control group of this process that counts memory."""
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "memory" in controllers.split(","):
                yield ("v1" if controllers else "v2"), path.lstrip("/")


def _kib(file: Path, key: str) -> int:
    """The value of a line such as 'MemAvailable:  22407376 kB', in bytes."""
    lines = dict(line.split(":", 1) for line in file.read_text().splitlines())
    return int(lines[key].split()[0]) << 10
