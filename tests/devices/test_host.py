"""This machine as a device: a worker process in LiteRT."""

import os

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from pipeline.core.device import Block
from pipeline.core.errors import ArtifactError, BadSpec, UnknownName
from pipeline.core.file_spec import FLOAT32
from pipeline.core.measurement import Ratio
from pipeline.devices import connect, device, devices
from pipeline.devices.host import HostRunner
from pipeline.measure.timing import Protocol, measure, ratio_of
from pipeline.quantize.to_tflite import to_tflite
from tests.conftest import noise_images, scrambled
from tests.support.stand_in_runner import StandInRunner


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("host") / "net with space.tflite"
    path.write_bytes(to_tflite(scrambled("fcn8"), None, FLOAT32))
    return path


def test_the_worker_gives_what_litert_gives(file):
    images = noise_images(scrambled("fcn8"))
    interpreter = Interpreter(model_path=str(file))
    interpreter.allocate_tensors()
    with HostRunner(file, 1) as runner:
        assert (runner.facts.input_dtype, runner.facts.output_dtype) == ("float32", "float32")
        for image in images:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
            interpreter.invoke()
            expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
            assert np.array_equal(runner.infer(image[None]), expected)
        block = runner.time(7)
        assert len(block.samples_ms) == block.runs == 7 and min(block.samples_ms) > 0
        assert runner.facts.first_ms > 0 and runner.facts.init_ms > 0 and runner.facts.runs_on == "XNNPACK"
        assert 1 << 20 < runner.peak_memory_bytes() < 1 << 31
        with pytest.raises(ArtifactError, match="takes float32, but got uint8"):
            runner.infer(images[:1].astype(np.uint8))


def test_another_process_takes_over(file):
    images = noise_images(scrambled("fcn8"))
    with HostRunner(file, 1) as runner:
        expected, facts, process = [runner.infer(image[None]) for image in images], runner.facts, runner._process
        peak = runner.peak_memory_bytes()
        runner.restart()
        assert process.poll() == 0 and runner._process.pid != process.pid and runner.facts is facts
        assert runner.time(3).runs == 3 and runner.peak_memory_bytes() > 0.9 * peak
        batches = [image[None] for image in images]
        assert all(np.array_equal(a, b) for a, b in zip(runner.infer_many(batches), expected, strict=True))
        again = runner._given
        runner.restart()
        assert again is batches[-1] and np.array_equal(runner.infer(again), expected[-1])


def test_files_that_cannot_run_are_errors_not_crashes(file, tmp_path):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ArtifactError, match="broken or truncated"):
        HostRunner(broken, 1)
    with pytest.raises(ArtifactError, match="cannot be read"):
        HostRunner(tmp_path / "none.tflite", 1)


def test_a_worker_that_dies_is_reported(file):
    runner = HostRunner(file, 1)
    runner._process.kill()
    with pytest.raises(ArtifactError, match="cannot run.*SIGKILL"):
        runner.infer(noise_images(scrambled("fcn8"))[:1])


def test_the_machine_is_described():
    facts = connect("host").describe()
    assert facts["device"] == "host" and "ai-edge-litert" in facts["runtime"] and facts["cpu"]
    assert facts["cores"] == len(os.sched_getaffinity(0)) and facts["memory_bytes"] > 1 << 28
    assert {"governor", "temperature_celsius", "frequency_mhz"} <= set(facts)


def test_the_best_device_is_one_that_is_attached():
    chosen, selector = device("best")
    assert chosen.find() is not None and not selector
    assert chosen.rank == max(each.rank for each in devices().values() if each.find() is not None)
    with pytest.raises(BadSpec, match="device host:1: write host"):
        device("host:1")
    with pytest.raises(UnknownName, match="did you mean 'host'"):
        device("hosst")


class Slower(StandInRunner):
    """The same runner, each inference a share longer."""

    def __init__(self, runner, share):
        self.runner, self.share, self.facts = runner, share, runner.facts

    def time(self, runs):
        block = self.runner.time(runs)
        return Block(runs, tuple(ms * (1 + self.share) for ms in block.samples_ms))

    def restart(self):
        self.runner.restart()


@pytest.mark.real
def test_a_file_beside_itself_is_as_fast(file):
    """In 19 of 20 tries, or by bad luck (one test in sixty, at 99 % each) in 38 of 40, or in 76 of 80."""
    same = list[Ratio]()
    with HostRunner(file, 1, pinned=True) as a, HostRunner(file, 1, pinned=True) as b:
        for tries in (20, 40, 80):
            while len(same) < tries:
                same.append(ratio_of(*measure([a, b], Protocol("short", runs=10, seconds=2.0, warmup_seconds=0.2))))
            if sum(not ratio.is_significant for ratio in same) >= 0.95 * tries:
                break
    ratios = [f"{r.ratio:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in same]
    assert sum(not ratio.is_significant for ratio in same) >= 0.95 * tries, ratios


@pytest.mark.real
def test_a_slowdown_of_five_percent_is_found(file):
    """A busy machine needs longer, as it says by a wide interval."""
    with HostRunner(file, 1, pinned=True) as a, HostRunner(file, 1, pinned=True) as b:
        for seconds in (2.0, 10.0, 40.0, 120.0):
            ratio = ratio_of(*measure([Slower(a, 0.05), b], Protocol("longer", seconds=seconds)))
            if ratio.high - ratio.low < 0.04:
                break
    assert ratio.low > 1, f"{ratio.ratio:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] after {seconds:g} s"
