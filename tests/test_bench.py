"""How time is measured and how the gates decide."""

import dataclasses
import json

import numpy as np
import pytest

from pipeline.bench import Latency, Measured, Measurement, Protocol, check_gates, measure_latency
from pipeline.nouns.device import Block, RunnerFacts
from pipeline.nouns.errors import BadSpec, GateFailed
from pipeline.nouns.score import Score


class Clock:
    """A runner whose inferences take what it is told; notes in which order runners were asked."""

    def __init__(self, name, order, times):
        self.name, self.order, self.times = name, order, iter(times)
        self.facts = RunnerFacts("uint8", "int8", 0.1, 0, 1.5)

    def time(self, runs):
        self.order.append(self.name)
        return Block(runs, tuple(next(self.times) for _ in range(runs)))


def test_two_runners_are_timed_in_turns_and_summed_up_rightly():
    order = []
    values = 100 + np.random.default_rng(0).random(1000)
    a, b = Clock("a", order, values), Clock("b", order, 2 * values)
    protocol = Protocol(runs=40, seconds=0, max_runs=40, warmup_runs=3, warmup_seconds=0)
    first, second = measure_latency([a, b], 1, protocol)
    assert order == ["a"] * 3 + ["b"] * 3 + ["a", "b"] * 40
    assert first.samples_ms == tuple(values[3:43]) and first.runs == 40 and first.warmup_runs == 3
    assert first.median_ms == np.median(values[3:43]) and first.min_ms == values[3:43].min()
    assert first.p90_ms == np.percentile(values[3:43], 90)
    assert second.median_ms == pytest.approx(2 * first.median_ms)


def test_fast_networks_are_timed_in_blocks():
    order = []
    runners = [Clock(name, order, [10.0] * 1000) for name in "ab"]
    measure_latency(runners, 1, Protocol(runs=20, seconds=0, warmup_runs=1, warmup_seconds=0))
    assert order == ["a", "b"] + ["a", "b"] * 4


def test_a_protocol_that_measures_nothing_is_refused():
    with pytest.raises(BadSpec, match="--runs 0"):
        Protocol(runs=0)


def measurement(drop=0.5, median=10.0):
    score = Score(60.0, 90.0, {"a": 60.0}, (), 3)
    latency = Latency(20.0, 21.0, 19.0, 5, 1, 1, 1.0, (20.0,) * 5)
    parent = Measured("float.tflite", "00", 1000, score, latency, 1)
    artifact = dataclasses.replace(
        parent, file="int8.tflite", score=dataclasses.replace(score, miou_percent=60.0 - drop),
        latency=dataclasses.replace(latency, median_ms=median),
    )  # fmt: skip
    return Measurement("now", "cpu", {}, "synthetic", "val", 3, parent, artifact, drop, 99.0, ())


def test_gates_pass_at_the_limit_and_fail_beyond_it_with_a_reason():
    check_gates(measurement(), None, None)
    check_gates(measurement(drop=0.5, median=10.0), 0.5, 10.0)
    with pytest.raises(GateFailed, match=r"drop is 0.60 points, --max-drop allows 0.5") as failed:
        check_gates(measurement(drop=0.6), 0.5, 100)
    assert "latency" not in str(failed.value)
    with pytest.raises(GateFailed, match=r"drop.*; the median latency is 10.00 ms, --max-latency-ms allows 9"):
        check_gates(measurement(drop=0.6), 0.5, 9)


def test_the_json_holds_the_samples():
    data = json.loads(json.dumps(measurement().to_json()))
    assert data["artifact"]["latency"]["samples_ms"] == [20.0] * 5
    assert data["speedup"] == 2.0 and data["schema"] == 1
