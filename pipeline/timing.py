"""Times artifacts on a device: in turns, block by block, so that all of them meet the same machine."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np

from pipeline.nouns.device import Block, Runner
from pipeline.nouns.errors import BadSpec
from pipeline.nouns.measurement import Latency, Ratio

Say = Callable[[str], None]
CONFIDENCE_PERCENT = 99.0
RESAMPLES = 4000
SETTLED = 0.05
"""Times have settled when the last three warm-up blocks lie within this share of each other."""
TREND_Z = 3.0
"""A trend counts from this many standard deviations of Mann's S on (Kendall, Rank Correlation Methods, 1975)."""
DRIFT_PERCENT = 2.0
"""And from this size on: less than a user would act upon."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How latency is measured.

    Attributes:
      runs: inferences of each artifact at least.
      seconds: measuring goes on at least this long, all artifacts together.
      warmup_runs, warmup_seconds: warm-up of each at least; it goes on until times have settled.
      settle_seconds: and no longer than that.
    """

    name: str = "default"
    runs: int = 50
    seconds: float = 5.0
    warmup_runs: int = 5
    warmup_seconds: float = 0.5
    settle_seconds: float = 5.0

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise BadSpec(f"--runs {self.runs}: measure at least one inference.")


DEFAULT = Protocol()
MLPERF = Protocol("mlperf", runs=1024, seconds=60.0, warmup_seconds=2.0, settle_seconds=20.0)
"""MLPerf Mobile asks for at least 1024 queries and 60 seconds, and for the 90th percentile
(github.com/mlcommons/mobile_open, rules, single stream)."""
PROTOCOLS = {one.name: one for one in (DEFAULT, MLPERF)}
FEWEST_ROUNDS = 5
"""Below, no interval could be told."""


@dataclasses.dataclass(frozen=True)
class Timed:
    """The blocks of one artifact, in order, one per round."""

    blocks: tuple[Block, ...]
    warmup_runs: int
    stable: bool

    @property
    def typical_ms(self) -> np.ndarray:
        return np.array([block.typical_ms for block in self.blocks])


def warm_up(runner: Runner, protocol: Protocol) -> tuple[int, int, bool]:
    """(runs of a block that is long enough to time, warm-up runs, whether times had settled)."""
    began, done, latest = time.monotonic(), 0, list[float]()
    size = 1
    while True:
        block = runner.time(size)
        done += block.runs
        latest.append(block.typical_ms)
        size = int(np.clip(runner.facts.block_ms / max(latest[-1], 1e-3), 1, 1000))
        spent, last = time.monotonic() - began, latest[-3:]
        settled = len(last) == 3 and max(last) <= (1 + SETTLED) * min(last)
        enough = done >= protocol.warmup_runs and spent >= protocol.warmup_seconds
        if enough and (settled or spent >= protocol.settle_seconds):
            return size, done, settled


def measure(runners: Sequence[Runner], protocol: Protocol) -> list[Timed]:
    """Times the runners on their last input, in rounds, every other one backwards, so that none is always first."""
    warm = [warm_up(runner, protocol) for runner in runners]
    blocks: list[list[Block]] = [[] for _ in runners]
    began, rounds = time.monotonic(), 0
    while True:
        order = range(len(runners)) if rounds % 2 == 0 else range(len(runners) - 1, -1, -1)
        for i in order:
            blocks[i].append(runners[i].time(warm[i][0]))
        rounds += 1
        fewest = min(sum(block.runs for block in each) for each in blocks)
        if min(fewest - protocol.runs, rounds - FEWEST_ROUNDS) >= 0 and time.monotonic() - began >= protocol.seconds:
            break
    return [Timed(tuple(each), runs, stable) for each, (_, runs, stable) in zip(blocks, warm, strict=True)]


def latency_of(timed: Timed, runner: Runner, threads: int) -> Latency:
    blocks = timed.blocks
    samples = np.array([ms for block in blocks for ms in block.samples_ms])
    whole = bool(len(samples))
    runs = np.array([block.runs for block in blocks])

    def over(name: str, choose: Callable[[Sequence[float]], float]) -> float:
        return float(choose([block.summary_ms.get(name, block.typical_ms) for block in blocks]))

    return Latency(
        median_ms=float(np.median(samples if whole else timed.typical_ms)),
        mean_ms=float(samples.mean()) if whole else over("mean", lambda means: np.average(means, weights=runs)),
        min_ms=float(samples.min()) if whole else over("min", min),
        max_ms=float(samples.max()) if whole else over("max", max),
        p90_ms=float(np.percentile(samples, 90)) if whole else None,
        p99_ms=float(np.percentile(samples, 99)) if whole else None,
        runs=int(runs.sum()), rounds=len(blocks), warmup_runs=timed.warmup_runs, stable=timed.stable, threads=threads,
        init_ms=runner.facts.init_ms, first_ms=runner.facts.first_ms, drift_percent=drift_percent(timed.typical_ms),
        samples_ms=tuple(samples.tolist()),
        summaries_ms=() if whole else tuple(dict(block.summary_ms) for block in blocks),
    )  # fmt: skip


def ratio_of(first: Timed, second: Timed) -> Ratio:
    """How many times as long ``first`` took as ``second``, round by round.

    What disturbs the machine lasts longer than a round, so rounds beside each other are alike: the bootstrap draws
    stretches of them (circular block bootstrap; Politis and Romano, A circular block-resampling procedure, 1992) of
    n^(1/3) rounds, the best order of length (Lahiri, Resampling Methods for Dependent Data, 2003, chapter 7).
    """
    logs = np.log(first.typical_ms) - np.log(second.typical_ms)
    n = len(logs)
    length = max(1, round(n ** (1 / 3)))
    rng = np.random.default_rng(0)
    starts = rng.integers(0, n, (RESAMPLES, -(-n // length), 1))
    medians = np.median(logs[(starts + np.arange(length)) % n].reshape(RESAMPLES, -1)[:, :n], axis=1)
    beyond = (100 - CONFIDENCE_PERCENT) / 2
    low, high = np.percentile(medians, [beyond, 100 - beyond])
    return Ratio(float(np.exp(np.median(logs))), float(np.exp(low)), float(np.exp(high)), CONFIDENCE_PERCENT)


def drift_percent(times: np.ndarray, at_most: int = 300) -> float:
    """How much slower the last third of ``times`` is than the first, in percent; 0 where they have no trend.

    The trend is Mann and Kendall's: how many of all pairs ascend, against what chance would give.
    """
    parts = np.array_split(times, min(len(times), at_most))
    x = np.array([np.median(part) for part in parts])
    n = len(x)
    if n < 6:
        return 0.0
    s = np.sign(x[None, :] - x[:, None])[np.triu_indices(n, 1)].sum()
    third = len(times) // 3
    change = 100 * (np.median(times[-third:]) / np.median(times[:third]) - 1)
    certain = abs(s) > TREND_Z * np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    return float(change) if certain and abs(change) >= DRIFT_PERCENT else 0.0
