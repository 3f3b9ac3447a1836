"""Runs work on all cores and gives its results in order."""

from __future__ import annotations

import collections
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from pipeline.drivers.litert_worker import cores

Result = TypeVar("Result")
Item = TypeVar("Item")


def in_threads(work: Callable[[int], Result], count: int) -> Generator[Result, None, None]:
    """work(0), work(1), ... work(count − 1) in this order: see ``over``."""
    return over(work, range(count))


def over(work: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result, None, None]:
    """work(item) of each item in order, computed ahead in as many threads as there are cores.

    Items are drawn in the caller's thread, only a few ahead of the results, so that a stream of any length fits memory.
    An error of ``work`` is raised in place of its result; then, or when the caller stops, the rest is cancelled.
    """
    threads = len(cores())
    waiting: collections.deque[Future[Result]] = collections.deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()
