"""How time is measured: the order, the warm-up, and whether an interval, a slowdown and a drift are told honestly."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import kendalltau, t

from pipeline.core.device import Block, RunnerFacts
from pipeline.core.errors import BadSpec
from pipeline.measure.timing import PROTOCOLS, Protocol, Timed, drift_percent, latency_of, measure, ratio_of
from tests.support.stand_in_runner import StandInRunner


class Clock(StandInRunner):
    """A runner whose inferences take what it is told; notes in which order runners were asked."""

    def __init__(self, name, order, times, block_ms=25.0):
        self.name, self.order, self.times = name, order, iter(times)
        self.facts = RunnerFacts("uint8", "int8", 0.1, 0, 1.5, 2.5, "XNNPACK", block_ms)

    def time(self, runs):
        self.order.append(self.name)
        return Block(runs, tuple(float(next(self.times)) for _ in range(runs)))

    def restart(self):
        self.order.append(f"{self.name} anew")


def protocol(**options):
    kept = {"seconds": 0, "starts": 2, "warmup_runs": 3, "warmup_seconds": 0, "settle_seconds": 60}
    return Protocol("test", **{**kept, **options})


def test_runners_are_timed_in_turns_forwards_and_backwards_and_summed_up_rightly():
    order: list[str] = []
    values = 100 + np.random.default_rng(0).random(1000)
    runners = [Clock("a", order, values), Clock("b", order, 2 * values)]
    first, second = measure(runners, protocol(runs=40, warmup_runs=4))
    assert order == [
        *["a"] * 4,
        *["b"] * 4,
        *["a", "b", "b", "a"] * 10,
        "b anew",
        "a anew",
        *["b"] * 3,
        *["a"] * 3,
        *["b", "a", "a", "b"] * 10,
    ]
    latency = latency_of(first, runners[0], 1)
    timed = np.r_[values[4:24], values[27:47]]
    assert latency.samples_ms == tuple(timed) and latency.runs == latency.rounds == 40 and latency.starts == 2
    assert latency.warmup_runs == 7 and latency.stable and (latency.init_ms, latency.first_ms) == (1.5, 2.5)
    assert latency.median_ms == np.median(timed) and latency.min_ms == timed.min()
    assert latency.max_ms == timed.max() and latency.mean_ms == pytest.approx(timed.mean())
    assert latency.p90_ms == np.percentile(timed, 90) and latency.p99_ms == np.percentile(timed, 99)
    ratio = ratio_of(second, first)
    assert ratio.ratio == pytest.approx(2) and ratio.low is None  # of two starts


def test_fast_networks_are_timed_in_blocks():
    order: list[str] = []
    measure([Clock(name, order, [5.0] * 1000) for name in "ab"], protocol(runs=40))
    assert order[:14] == ["a"] * 3 + ["b"] * 3 + ["a", "b", "b", "a"] * 2  # blocks of 25 ms: five inferences


def test_a_tool_that_starts_anew_for_each_block_is_not_restarted():
    order: list[str] = []
    values = 100 + np.random.default_rng(2).random((2, 100))
    runners = [Clock(name, order, times) for name, times in zip("ab", values, strict=True)]
    for runner in runners:
        runner.facts = dataclasses.replace(runner.facts, block_is_a_start=True)
    first, second = measure(runners, protocol(runs=5, starts=6))
    assert order == ["a"] * 3 + ["b"] * 3 + ["a", "b", "b", "a"] * 3 and first.per_start == (1,) * 6
    assert ratio_of(first, second).low < 1 < ratio_of(first, second).high


def test_warming_up_goes_on_until_times_settle():
    order: list[str] = []
    falling = [100 * 0.8**i for i in range(12)] + [5.0] * 200
    (timed,) = measure([Clock("a", order, falling, block_ms=1)], protocol(runs=10))
    assert timed.warmup_runs >= 15 and timed.stable and timed.per_start == (6, 4)


def test_a_device_that_tells_summaries_only():
    class Summaries(Clock):
        def time(self, runs):
            a = np.array([next(self.times) for _ in range(runs)])
            return Block(runs, summary_ms={"mean": a.mean(), "median": np.median(a), "min": a.min(), "max": a.max()})

    values = 10 + np.random.default_rng(1).random(1000)
    runner = Summaries("a", [], values, block_ms=100)
    runner.facts = dataclasses.replace(runner.facts, block_is_a_start=True)
    (timed,) = measure([runner], protocol(runs=200))
    latency = latency_of(timed, runner, 2)
    timed_ones = values[latency.warmup_runs : latency.warmup_runs + latency.runs]
    assert latency.samples_ms == () and latency.p90_ms is None and len(latency.summaries_ms) == latency.rounds
    assert latency.mean_ms == pytest.approx(timed_ones.mean()) and latency.max_ms == timed_ones.max()
    assert latency.min_ms == timed_ones.min() and latency.median_ms == pytest.approx(np.median(timed_ones), rel=0.02)
    with pytest.raises(ValueError, match="samples"):
        Block(3, (1.0, 2.0))


def test_the_protocols():
    assert PROTOCOLS["mlperf"].runs == 1024 and PROTOCOLS["mlperf"].seconds == 60
    for wrong in ({"runs": 0}, {"starts": 1}, {"seconds": math.nan}, {"settle_seconds": math.inf}, {"runs": 1.5}):
        with pytest.raises(BadSpec, match=f"{next(iter(wrong))} is .*: give a"):
            Protocol(**wrong)


def machine(seed, factors, starts=10, rounds_of_each=10, inferences=3):
    """Blocks of artifacts on one noisy machine: its speed wanders and jumps, some inferences are late, and no start of
    a file is quite as fast as another."""
    rng = np.random.default_rng(seed)
    rounds = starts * rounds_of_each
    wander = np.cumsum(rng.normal(0, 0.01, rounds)) + 0.3 * (rng.random(rounds) < 0.1)
    blocks: list[list[Block]] = [[] for _ in factors]
    for i in range(rounds):
        if i % rounds_of_each == 0:
            lie = rng.normal(0, 0.01, len(factors))
        for k, factor in enumerate(factors):
            late = rng.standard_exponential(inferences) * 0.5 * (rng.random(inferences) < 0.2)
            samples = 10 * factor * np.exp(wander[i] + lie[k]) * (1 + rng.normal(0, 0.01, inferences) + late)
            blocks[k].append(Block(inferences, tuple(samples.tolist())))
    return [Timed(tuple(each), (rounds_of_each,) * starts, 5, True) for each in blocks]


def test_a_file_beside_itself_and_one_five_percent_slower():
    same = [ratio_of(*machine(seed, (1, 1))) for seed in range(20)]
    assert sum(not ratio.is_significant for ratio in same) >= 19
    slower = [ratio_of(*machine(seed, (1.05, 1))) for seed in range(20)]
    assert all(ratio.is_significant and ratio.low < 1.05 < ratio.high for ratio in slower)
    assert np.median([ratio.high - ratio.low for ratio in same]) < 0.05  # or it would say nothing


def test_the_interval_has_about_the_coverage_it_claims():
    for starts in (4, 10):
        inside = np.mean([not ratio_of(*machine(seed, (1, 1), starts)).is_significant for seed in range(300)])
        assert 0.975 <= inside <= 0.998


def test_too_few_starts_give_a_ratio_and_no_interval():
    for starts in (2, 3):
        ratio = ratio_of(*machine(1, (1.3, 1), starts))
        assert ratio.low is ratio.high is None and not ratio.is_significant and 1.25 < ratio.ratio < 1.35


def test_a_start_that_met_a_machine_at_work_does_not_count():
    for seed in range(10):
        (steady, other), (wild, _) = machine(seed, (1.3, 1)), machine(seed, (40, 1))
        mixed = dataclasses.replace(steady, blocks=steady.blocks[:30] + wild.blocks[30:40] + steady.blocks[40:])
        ratio = ratio_of(mixed, other)
        assert 1.25 < ratio.low < 1.3 < ratio.high < 1.35


def test_the_interval_is_tukeys_and_mclaughlins():
    rng = np.random.default_rng(6)
    logs = np.sort(rng.normal(0.1, 0.02, 10))
    timed = Timed(tuple(Block(1, (float(np.exp(x)),)) for x in rng.permutation(logs)), (1,) * 10, 0, True)
    unit = Timed((Block(1, (1.0,)),) * 10, (1,) * 10, 0, True)
    winsorized = np.r_[logs[1], logs[1:9], logs[8]]
    far = t.ppf(0.995, 7) * winsorized.std(ddof=1) / (0.8 * 10**0.5)
    expected = np.exp([logs[1:9].mean(), logs[1:9].mean() - far, logs[1:9].mean() + far])
    ratio = ratio_of(timed, unit)
    assert (ratio.ratio, ratio.low, ratio.high) == pytest.approx(tuple(expected), rel=1e-12)


def test_a_drift_is_told_and_noise_is_not():
    rng = np.random.default_rng(4)
    for n in (9, 60, 240):
        steady = [drift_percent(10 * np.exp(rng.normal(0, 0.05, n))) for _ in range(100)]
        assert np.mean(np.array(steady) != 0) <= 0.02
        for change in (-8, 10):
            drifting = 10 * np.linspace(1, 1 + change / 100, n) * np.exp(rng.normal(0, 0.005, n))
            thirds = np.median(drifting[-(n // 3) :]) / np.median(drifting[: n // 3]) - 1
            assert drift_percent(drifting) == pytest.approx(100 * thirds)
    assert drift_percent(np.linspace(1, 2, 5)) == 0.0  # too few to say


def test_the_trend_is_kendalls():
    rng = np.random.default_rng(5)
    for n in (12, 40):
        for slope in np.linspace(0, 0.2, 9):
            x = 10 * (1 + slope * np.arange(n) / n + rng.normal(0, 0.03, n))
            thirds = 100 * (np.median(x[-(n // 3) :]) / np.median(x[: n // 3]) - 1)
            trend = kendalltau(np.arange(n), x, method="asymptotic").pvalue < 0.0027 and abs(thirds) >= 2
            assert (drift_percent(x) != 0) == trend
