"""Work on all cores, its results in order."""

from __future__ import annotations

import collections
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from pipeline.drivers.litert_worker import cores

Result = TypeVar("Result")


def in_threads(work: Callable[[int], Result], count: int) -> Generator[Result, None, None]:
    """work(0), work(1), ... work(count − 1) in this order, worked out ahead by as many threads as there are cores.

    What ``work`` raises is raised in its place; then, or when the caller stops, what has not begun is left undone.
    """
    threads = len(cores())
    waiting: collections.deque[Future[Result]] = collections.deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for i in range(count):
                waiting.append(pool.submit(work, i))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()
