"""Where the shards of a long work are done: in this process, in processes of this machine, or on a cluster."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TypeVar

from pipeline.core.errors import BadSpec

Item = TypeVar("Item")

MOST_JOBS = 1024
SHARD = 16
"""Items of a shard, at most: what a worker that dies has done in vain."""
SHARDS_EACH = 4
"""Shards for each worker, at least, so that none waits long for the last one."""
CLUSTER_WORKERS = 8
"""Taken for their number where it is not known: a cluster's workers come and go."""
ADDRESS = re.compile(r"(tcp|tls|ucx|ws|wss)://(\[[0-9a-fA-F:.]+\]|[^\s/:@\[\]]+):[0-9]{1,5}")


@dataclasses.dataclass(frozen=True)
class Pool:
    """Where shards are done.

    Attributes:
      jobs: processes on this machine; 1: this process does it all.
      cluster: address of a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers do it instead.
    """

    jobs: int = 1
    cluster: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.jobs <= MOST_JOBS:
            raise BadSpec(f"--jobs {self.jobs}: from 1 to {MOST_JOBS} processes are allowed.")
        if self.cluster is not None and not ADDRESS.fullmatch(self.cluster):
            raise BadSpec(
                f"--cluster {self.cluster!r}: give the address of a Dask scheduler, such as tcp://10.0.0.1:8786, which"
                " `dask scheduler` prints when it starts."
            )
        if self.cluster is not None and self.jobs > 1:
            raise BadSpec("--jobs is for processes of this machine and --cluster for others: leave one of them out.")

    @property
    def here(self) -> bool:
        """Whether this process does it all."""
        return self.jobs == 1 and self.cluster is None

    def shards(self, items: Sequence[Item]) -> list[Sequence[Item]]:
        """The items in order, cut into shards."""
        workers = self.jobs if self.cluster is None else CLUSTER_WORKERS
        size = max(1, min(SHARD, len(items) // (workers * SHARDS_EACH)))
        return [items[start : start + size] for start in range(0, len(items), size)]


HERE = Pool()
