"""The processes that train together, on one machine or several."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
from collections.abc import Mapping
from typing import Any

from pipeline.core.errors import BadSpec
from pipeline.core.json_file import parse

CONFIG = "TF_CONFIG"
"""The environment variable by which Kubernetes operators and TensorFlow's guides describe a cluster."""
GPU = "SEGQUANT_GPU"
"""The environment variable by which a process that starts others gives each a GPU of its own."""
ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s/:@\[\],]+):([0-9]{1,5})")
LOCAL = re.compile(r"local:([0-9]{1,3})")
HOW = "give --workers HOST:PORT,HOST:PORT,... with --rank N on each, --workers local:N, or TF_CONFIG"


class Followed(Exception):
    """Ends the part of a worker that is not the chief, which does the rest; says so in a sentence."""


@dataclasses.dataclass(frozen=True)
class Workers:
    """The processes that train together, and which of them this one is.

    Attributes:
      addresses: HOST:PORT of each, at which the others reach it; the first is the chief, which alone writes the run.
      rank: of this process.
      starts_others: whether this process starts the others, on this machine.
    """

    addresses: tuple[str, ...]
    rank: int
    starts_others: bool = False

    def __post_init__(self) -> None:
        for address in self.addresses:
            match = ADDRESS.fullmatch(address)
            if match is None or not 0 < int(match[2]) < 1 << 16:
                raise BadSpec(f"worker {address!r} is no address: write HOST:PORT, such as 10.0.0.1:2222.")
        if len(set(self.addresses)) < len(self.addresses):
            raise BadSpec(f"workers {','.join(self.addresses)}: two have the same address; each needs its own.")
        if len(self.addresses) < 2:
            raise BadSpec("one worker alone trains without --workers: leave it out.")
        if not 0 <= self.rank < len(self.addresses):
            raise BadSpec(
                f"--rank {self.rank}: {len(self.addresses)} workers have ranks 0 to {len(self.addresses) - 1}."
            )

    @property
    def leads(self) -> bool:
        """Whether this process is the chief."""
        return self.rank == 0

    @property
    def count(self) -> int:
        return len(self.addresses)

    def part(self, batch: int) -> int:
        """Images of each worker in a batch. Raises BadSpec where they are not as many for each."""
        if batch % self.count:
            raise BadSpec(f"--batch {batch} cannot be divided among {self.count} workers: give a multiple of that.")
        return batch // self.count

    def config(self, rank: int) -> str:
        """The TF_CONFIG of a worker."""
        task = {"type": "worker", "index": rank}
        return json.dumps({"cluster": {"worker": list(self.addresses)}, "task": task})

    @staticmethod
    def of(text: str | None, rank: int | None, environment: Mapping[str, str]) -> Workers | None:
        """Those of --workers and --rank, or of TF_CONFIG; None where this process trains alone. Raises BadSpec."""
        if CONFIG in environment:
            if text is not None and not LOCAL.fullmatch(text):
                raise BadSpec("--workers and TF_CONFIG both describe the workers: leave one of them out.")
            if rank is not None:
                raise BadSpec(f"--rank {rank} and TF_CONFIG both say which worker this is: leave one of them out.")
            return _of_config(environment[CONFIG])
        if text is None:
            if rank is not None:
                raise BadSpec(f"--rank {rank} says which worker this is, but none are named: {HOW}.")
            return None
        if (match := LOCAL.fullmatch(text)) is not None:
            if rank is not None:
                raise BadSpec(f"--workers {text} starts the other workers itself: leave --rank out.")
            if int(match[1]) < 2:
                raise BadSpec(f"--workers {text}: one worker alone trains without --workers; give 2 or more.")
            return Workers(_free_addresses(int(match[1])), 0, starts_others=True)
        if rank is None:
            raise BadSpec("--workers needs --rank N: which of them this process is, 0 for the first.")
        return Workers(tuple(text.split(",")), rank)


def _of_config(text: str) -> Workers | None:
    """Raises BadSpec for what is no TF_CONFIG of workers."""
    try:
        config = parse(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        chiefs, others = _addresses(cluster, "chief"), _addresses(cluster, "worker")
        kind, index = task.get("type", "worker"), task.get("index", 0)
        index = int(index) if isinstance(index, str) else index  # TensorFlow takes both
        if type(index) is not int:
            raise TypeError(f"task.index is {type(index).__name__}, not a whole number")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadSpec(f"{CONFIG} cannot be read ({error}): {HOW}.") from None
    if unknown := sorted(set(cluster) - {"chief", "worker"}):
        raise BadSpec(f"{CONFIG} names tasks of type {', '.join(map(str, unknown))}: only chief and worker train here.")
    if kind not in ("chief", "worker"):
        raise BadSpec(f"{CONFIG} makes this process a {kind}: only chief and worker train here.")
    if len(chiefs) + len(others) < 2:
        return None
    count = len(chiefs if kind == "chief" else others)
    if not 0 <= index < count:
        raise BadSpec(f"{CONFIG} makes this process {kind} {index}, but names {count} of that type: they count from 0.")
    return Workers((*chiefs, *others), index + (len(chiefs) if kind == "worker" else 0))


def _addresses(cluster: Any, kind: str) -> list[str]:
    addresses = cluster.get(kind, [])
    if not isinstance(addresses, list) or not all(isinstance(each, str) for each in addresses):
        raise TypeError(f"cluster.{kind} is no list of addresses")
    return addresses


def _free_addresses(count: int) -> tuple[str, ...]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return tuple(f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    finally:
        for each in sockets:
            each.close()
