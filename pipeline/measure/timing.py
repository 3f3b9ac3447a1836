"""Times artifacts on a device: in turns, block by block, so that all of them meet the same machine.

One file in two processes differs by a percent or so, for as long as both live, and no number of inferences shows it. So
each is started anew several times, and how much the starts differ says how sure a comparison is (Kalibera and Jones,
Rigorous benchmarking in reasonable time, ISMM 2013, which has the same of many programs).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats.mstats import trimmed_mean, trimmed_mean_ci

from pipeline.core.device import Block, Runner
from pipeline.core.errors import BadSpec
from pipeline.core.measurement import Latency, Ratio

CONFIDENCE_PERCENT = 99.0
TRIMMED = 0.1
"""Share of the starts left out at either end: what disturbs a machine for a second may disturb a whole start."""
FEWEST_STARTS = 4
"""Fewer give no interval. Student's t of 99 % is 64 with two, 10 with three and 6 with four: times the standard error,
that would be 0.3 to 3 for files that are alike."""
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
      runs: inferences of each artifact at least, all starts together.
      seconds: measuring goes on at least this long, all artifacts and starts together.
      starts: how often each artifact is started; 2 at least.
      warmup_runs, warmup_seconds: warm-up of each at least in its first start; it goes on until times have settled, as
        it does in every start.
      settle_seconds: and no longer than that in the first, than that in all later ones together.
    """

    name: str = "default"
    runs: int = 50
    seconds: float = 5.0
    starts: int = 10
    warmup_runs: int = 5
    warmup_seconds: float = 0.5
    settle_seconds: float = 5.0

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise BadSpec(f"{self.runs} runs: measure at least one inference.")
        if self.starts < 2:
            raise ValueError(f"{self.starts} start: how starts differ cannot be told from one")


DEFAULT = Protocol()
MLPERF = Protocol("mlperf", runs=1024, seconds=60.0, warmup_seconds=2.0, settle_seconds=20.0)
"""MLPerf Mobile asks for at least 1024 queries and 60 seconds, and for the 90th percentile
(github.com/mlcommons/mobile_open, rules, single stream)."""
PROTOCOLS = {one.name: one for one in (DEFAULT, MLPERF)}


@dataclasses.dataclass(frozen=True)
class Timed:
    """The blocks of one artifact, in order, one per round.

    Attributes:
      per_start: how many of them each start gave, in order.
      warmup_runs: of all starts.
      stable: whether times had settled in the first.
    """

    blocks: tuple[Block, ...]
    per_start: tuple[int, ...]
    warmup_runs: int
    stable: bool

    @classmethod
    def of(cls, milliseconds: Sequence[float], starts: int) -> Timed:
        """Of what was timed elsewhere: a value for each round, in order, as many of each start."""
        blocks = tuple(Block(1, (float(ms),)) for ms in milliseconds)
        return cls(blocks, (len(blocks) // starts,) * starts, 0, True)

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
    anew = all(runner.facts.block_is_a_start for runner in runners)
    starts, fewest_rounds = (1, protocol.starts) if anew else (protocol.starts, 2)
    later = dataclasses.replace(
        protocol, warmup_runs=0, warmup_seconds=0.0, settle_seconds=protocol.settle_seconds / starts
    )
    blocks: list[list[Block]] = [[] for _ in runners]
    warm: list[list[tuple[int, int, bool]]] = [[] for _ in runners]
    per_start: list[int] = []
    for start in range(starts):
        order = range(len(runners))[:: 1 if start % 2 == 0 else -1]
        if start:
            for i in order:
                runners[i].restart()
        for i in order:
            warm[i].append(warm_up(runners[i], later if start else protocol))
        began, rounds, done = time.monotonic(), 0, False
        while not done or rounds % 2:  # so that each was as often first as last
            for i in order if rounds % 2 == 0 else order[::-1]:
                blocks[i].append(runners[i].time(warm[i][-1][0]))
            rounds += 1
            runs = min(sum(block.runs for block in each) for each in blocks)
            done = rounds >= fewest_rounds and runs * starts >= protocol.runs * (start + 1)
            done = done and time.monotonic() - began >= protocol.seconds / starts
        per_start += [1] * rounds if anew else [rounds]
    return [
        Timed(tuple(each), tuple(per_start), sum(runs for _, runs, _ in warmed), warmed[0][2])
        for each, warmed in zip(blocks, warm, strict=True)
    ]


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
        runs=int(runs.sum()),
        rounds=len(blocks),
        starts=len(timed.per_start),
        warmup_runs=timed.warmup_runs,
        stable=timed.stable,
        threads=threads,
        init_ms=runner.facts.init_ms,
        first_ms=runner.facts.first_ms,
        drift_percent=drift_percent(timed.typical_ms),
        samples_ms=tuple(samples.tolist()),
        summaries_ms=() if whole else tuple(dict(block.summary_ms) for block in blocks),
    )


def ratio_of(first: Timed, second: Timed) -> Ratio:
    """How many times as long ``first`` took as ``second``, start by start.

    Rounds of one start are alike, starts are not: the median over the rounds of each is one value, and the interval of
    their trimmed mean says how sure it is, from FEWEST_STARTS on (Tukey and McLaughlin, Less vulnerable confidence and
    significance procedures for location based on a single sample, 1963).
    """
    logs = np.log(first.typical_ms) - np.log(second.typical_ms)
    each = np.array([np.median(part) for part in np.split(logs, np.cumsum(first.per_start)[:-1])])
    limits = (TRIMMED, TRIMMED)
    ratio = float(np.exp(trimmed_mean(each, limits)))
    if len(each) < FEWEST_STARTS:
        return Ratio(ratio, None, None, CONFIDENCE_PERCENT)
    low, high = np.exp(trimmed_mean_ci(each, limits, alpha=1 - CONFIDENCE_PERCENT / 100)).tolist()
    return Ratio(ratio, low, high, CONFIDENCE_PERCENT)


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
