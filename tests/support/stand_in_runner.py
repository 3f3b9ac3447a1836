"""A Runner for tests that need one or two of its calls: a test's own class overrides these, every other call fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from pipeline.core.device import Block, RunnerFacts


class StandInRunner:
    facts = RunnerFacts("uint8", "uint8", 1.0, 0)

    def infer(self, image: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def infer_many(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        raise NotImplementedError

    def time(self, runs: int) -> Block:
        raise NotImplementedError

    def restart(self) -> None:
        raise NotImplementedError

    def peak_memory_bytes(self) -> int | None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
