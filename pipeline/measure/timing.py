"""Times artifacts on a device in turns, block by block, so that all of them run under the same conditions.

The same file in two processes differs by a percent or so for as long as both live, and no number of inferences shows
it. So each file is started several times, and the spread between starts gives the confidence interval of a comparison
(Kalibera and Jones, Rigorous benchmarking in reasonable time, ISMM 2013, who report the same for many programs).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats.mstats import trimmed_mean, trimmed_mean_ci

from pipeline.core.device import Block, Runner
from pipeline.core.measurement import Latency, Ratio
from pipeline.core.number import MOST_SECONDS, MOST_STEPS, real, whole
from pipeline.core.progress import progress
from pipeline.core.say import Say, quiet

CONFIDENCE_PERCENT = 99.0
TRIMMED = 0.1
"""Share of the starts left out at either end: a disturbance of a second can disturb a start as a whole."""
FEWEST_STARTS = 4
"""With fewer there is no interval: Student's t of 99 % is 64 with two starts, 10 with three and 6 with four; times the
standard error, that would be 0.3 to 3 for files that are equally fast."""
SETTLED = 0.05
"""Times have settled when the last three warm-up blocks differ by at most this share."""
TREND_Z = 3.0
"""A trend counts from this many standard deviations of Mann's S on (Kendall, Rank Correlation Methods, 1975)."""
DRIFT_PERCENT = 2.0
"""And from this size on: a user would not act upon less."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How latency is measured.

    Attributes:
      runs: the fewest inferences of each artifact, all starts together.
      seconds: the shortest time to measure, all artifacts and starts together.
      starts: how often each artifact is started; at least 2.
      warmup_runs, warmup_seconds: the shortest warm-up of each artifact in its first start; every start's warm-up goes
        on until times have settled.
      settle_seconds: the longest wait for that in the first start, and in all later starts together.
    """

    name: str = "default"
    runs: int = 50
    seconds: float = 5.0
    starts: int = 10
    warmup_runs: int = 5
    warmup_seconds: float = 0.5
    settle_seconds: float = 5.0

    def __post_init__(self) -> None:
        whole("runs", self.runs, 1, MOST_STEPS)
        whole("starts", self.starts, 2, 1000)
        whole("warmup_runs", self.warmup_runs, 0, MOST_STEPS)
        for name in ("seconds", "warmup_seconds", "settle_seconds"):
            real(name, getattr(self, name), 0, MOST_SECONDS)


DEFAULT = Protocol()
MLPERF = Protocol("mlperf", runs=1024, seconds=60.0, warmup_seconds=2.0, settle_seconds=20.0)
"""MLPerf Mobile asks for at least 1024 queries and 60 seconds, and for the 90th percentile
(github.com/mlcommons/mobile_open, rules, single stream)."""
PROTOCOLS = {protocol.name: protocol for protocol in (DEFAULT, MLPERF)}


@dataclasses.dataclass(frozen=True)
class Timed:
    """The blocks of one artifact, in order, one per round.

    Attributes:
      per_start: how many of them belong to each start, in order.
      warmup_runs: of all starts together.
      stable: whether times had settled when the first start's warm-up ended.
    """

    blocks: tuple[Block, ...]
    per_start: tuple[int, ...]
    warmup_runs: int
    stable: bool

    @classmethod
    def of(cls, milliseconds: Sequence[float], starts: int) -> Timed:
        """From times measured elsewhere: a value for each round, in order, equally many for each start."""
        blocks = tuple(Block(1, (float(ms),)) for ms in milliseconds)
        return cls(blocks, (len(blocks) // starts,) * starts, 0, True)

    @property
    def typical_ms(self) -> np.ndarray:
        return np.array([block.typical_ms for block in self.blocks])


def warm_up(runner: Runner, protocol: Protocol) -> tuple[int, int, bool]:
    """(runs of a block that is long enough to time, warm-up runs, whether times had settled)."""
    began, runs, latest = time.monotonic(), 0, list[float]()
    size = 1
    while True:
        block = runner.time(size)
        runs += block.runs
        latest.append(block.typical_ms)
        size = int(np.clip(runner.facts.block_ms / max(latest[-1], 1e-3), 1, 1000))
        spent, last = time.monotonic() - began, latest[-3:]
        settled = len(last) == 3 and max(last) <= (1 + SETTLED) * min(last)
        enough = runs >= protocol.warmup_runs and spent >= protocol.warmup_seconds
        if enough and (settled or spent >= protocol.settle_seconds):
            return size, runs, settled


def measure(runners: Sequence[Runner], protocol: Protocol, say: Say = quiet) -> list[Timed]:
    """Times the runners on their last input, in rounds; every other round runs backwards: none is always first."""
    anew = all(runner.facts.block_is_a_start for runner in runners)
    starts, fewest_rounds = (1, protocol.starts) if anew else (protocol.starts, 2)
    later = dataclasses.replace(
        protocol, warmup_runs=0, warmup_seconds=0.0, settle_seconds=protocol.settle_seconds / starts
    )
    blocks: list[list[Block]] = [[] for _ in runners]
    warm: list[list[tuple[int, int, bool]]] = [[] for _ in runners]
    per_start: list[int] = []
    with progress(say, "timing", fewest_rounds if anew else starts, "rounds" if anew else "starts") as advance:
        for start in range(starts):
            order = range(len(runners))[:: 1 if start % 2 == 0 else -1]
            if start:
                for i in order:
                    runners[i].restart()
            for i in order:
                warm[i].append(warm_up(runners[i], later if start else protocol))
            began, rounds, enough = time.monotonic(), 0, False
            while not enough or rounds % 2:  # an even number: each is as often first as last
                for i in order if rounds % 2 == 0 else order[::-1]:
                    blocks[i].append(runners[i].time(warm[i][-1][0]))
                rounds += 1
                runs = min(sum(block.runs for block in each) for each in blocks)
                enough = rounds >= fewest_rounds and runs * starts >= protocol.runs * (start + 1)
                enough = enough and time.monotonic() - began >= protocol.seconds / starts
                advance(int(anew))
            per_start += [1] * rounds if anew else [rounds]
            advance(int(not anew))
    return [
        Timed(tuple(each), tuple(per_start), sum(runs for _, runs, _ in warmed), warmed[0][2])
        for each, warmed in zip(blocks, warm, strict=True)
    ]


def latency_of(timed: Timed, runner: Runner, threads: int) -> Latency:
    """Of single inferences where the device gives them, else of the summaries of blocks."""
    blocks = timed.blocks
    samples = np.array([ms for block in blocks for ms in block.samples_ms])
    has_samples = bool(len(samples))  # some devices give a summary of each block only
    runs = np.array([block.runs for block in blocks])

    def over(name: str, choose: Callable[[Sequence[float]], float]) -> float:
        return float(choose([block.summary_ms.get(name, block.typical_ms) for block in blocks]))

    return Latency(
        median_ms=float(np.median(samples if has_samples else timed.typical_ms)),
        mean_ms=float(samples.mean()) if has_samples else over("mean", lambda means: np.average(means, weights=runs)),
        min_ms=float(samples.min()) if has_samples else over("min", min),
        max_ms=float(samples.max()) if has_samples else over("max", max),
        p90_ms=float(np.percentile(samples, 90)) if has_samples else None,
        p99_ms=float(np.percentile(samples, 99)) if has_samples else None,
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
        summaries_ms=() if has_samples else tuple(dict(block.summary_ms) for block in blocks),
    )


def ratio_of(first: Timed, second: Timed) -> Ratio:
    """The time of ``first`` over that of ``second``, with its confidence interval from FEWEST_STARTS starts on.

    Rounds of one start are alike, starts are not. So the median over the rounds of a start is one value, and the
    interval is that of their trimmed mean (Tukey and McLaughlin, Less vulnerable confidence and significance procedures
    for location based on a single sample, 1963).
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

    The trend test is Mann and Kendall's: how many of all pairs ascend, against what chance would give.
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
