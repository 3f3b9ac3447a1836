"""A worker is fed ahead of its replies, in order, within bounds, and its end is told."""

import itertools
import json
import signal
import sys
import threading
import time

import numpy as np
import pytest

from pipeline.core.errors import ArtifactError, DeviceError
from pipeline.drivers.worker import AHEAD, WorkerRunner
from tests.conftest import ROOT
from tests.support.single_ops import cases, model

STAND_IN = """
import sys
sys.path.insert(0, {root!r})
from pipeline.drivers.litert_worker import receive, send
print("Welcome to a machine that greets its guests", flush=True)
print({facts!r}, flush=True)
waiting, taken = [], 0
for line in sys.stdin.buffer:
    waiting.append(receive(sys.stdin.buffer))
    taken += 1
    if taken == {dies_at}:
        sys.exit("out of breath")
    if len(waiting) == {at_once}:
        for array in waiting:
            send(sys.stdout.buffer, array + 1)
        waiting = []
"""
FACTS = {"input_dtype": "uint8", "output_dtype": "uint8", "output_scale": 0.1, "output_zero_point": 0}


@pytest.fixture
def worker(tmp_path):
    """A stand-in that answers ``at_once`` images when it has them all, and adds 1."""

    def start(at_once=1, dies_at=0):
        file = tmp_path / "stand_in.py"
        facts = json.dumps(FACTS)
        file.write_text(STAND_IN.format(root=str(ROOT), facts=facts, at_once=at_once, dies_at=dies_at))
        return WorkerRunner(tmp_path / "net.tflite", [sys.executable, str(file)])

    return start


def images(count, size=4):
    return [np.full((1, size, size, 3), i, np.uint8) for i in range(count)]


@pytest.mark.timeout(120)
def test_images_go_ahead_of_their_replies_and_come_back_in_order(worker):
    """The stand-in answers none before it has as many as may be on their way: one at a time would wait for ever."""
    with worker(at_once=AHEAD) as runner:
        started = time.monotonic()
        outputs = list(runner.infer_many(images(3 * AHEAD)))
        assert [int(x[0, 0, 0, 0]) for x in outputs] == list(range(1, 3 * AHEAD + 1))
        assert time.monotonic() - started < 20


def test_no_more_than_a_few_are_taken_ahead_and_large_ones_block_nobody(worker):
    """5 MB each way, more than any pipe holds."""
    taken = itertools.count()
    with worker() as runner:
        replies = runner.infer_many(x for x in images(2 * AHEAD, 1300) if next(taken) >= 0)
        assert int(next(replies)[0, 0, 0, 0]) == 1 and next(taken) == AHEAD + 1
        assert [int(x[0, 5, 7, 1]) for x in replies] == list(range(2, 2 * AHEAD + 1))


def test_one_that_is_left_early_answers_rightly_afterwards(worker):
    with worker() as runner:
        replies = runner.infer_many(images(2 * AHEAD))
        assert int(next(replies)[0, 0, 0, 0]) == 1
        with pytest.raises(RuntimeError, match="not at its end"):
            runner.infer(images(1)[0])
        replies.close()
        assert int(runner.infer(np.full((1, 4, 4, 3), 77, np.uint8))[0, 0, 0, 0]) == 78


def test_ctrl_c_while_it_waits_for_a_reply_ends_at_once(worker):
    """The stand-in answers none of them."""
    runner = worker(at_once=1000)
    threading.Timer(2, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(runner.infer_many(images(2 * AHEAD)))
    runner.close()
    assert time.monotonic() - started < 11  # a process that is not killed is waited for 10 s


def test_one_that_is_closed_in_the_middle_ends(worker):
    runner = worker()
    replies = runner.infer_many(images(2 * AHEAD, 1300))
    next(replies)
    started = time.monotonic()
    runner.close()
    assert time.monotonic() - started < 9
    replies.close()


def test_a_death_in_the_middle_is_told_after_the_replies_that_came(worker):
    with worker(dies_at=20) as runner:
        replies, values = runner.infer_many(images(40)), []
        with pytest.raises(ArtifactError, match=r"exit code 1; out of breath"):
            for reply in replies:
                values.append(int(reply[0, 0, 0, 0]))
        assert values == list(range(1, 20))


HUGE = "import struct, sys, time; sys.stdout.buffer.write(struct.pack('<q', 3 << 30)); sys.stdout.flush()"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("ask", ["infer", "infer_many", "time", "memory"])
def test_an_answer_that_would_be_huge_is_refused_before_it_comes(ask, tmp_path):
    file = tmp_path / "net.tflite"
    file.write_bytes(model(next(case for case in cases() if case.name == "conv 3x3")))
    facts = json.dumps({**FACTS, "input_dtype": "int8", "output_dtype": "int8"})
    lies = f"print({facts!r}, flush=True); input(); {HUGE}; time.sleep(600)"
    image = np.zeros((1, 16, 16, 8), np.int8)
    runner = WorkerRunner(file, [sys.executable, "-c", lies])
    asks = {
        "infer": lambda: runner.infer(image),
        "infer_many": lambda: list(runner.infer_many([image])),
        "time": lambda: runner.time(5),
        "memory": runner.peak_memory_bytes,
    }
    with pytest.raises(DeviceError, match=r"answers nonsense \(an array of 3221225472 bytes\)"):
        asks[ask]()
    runner.close()


def test_what_the_source_of_images_raises_comes_through(worker):
    def source():
        yield from images(3)
        raise OSError("no such image")

    with worker() as runner:
        with pytest.raises(OSError, match="no such image"):
            list(runner.infer_many(source()))
        with pytest.raises(ArtifactError, match="takes uint8, but got float32"):
            list(runner.infer_many([np.zeros((1, 4, 4, 3), np.float32)]))
        assert int(runner.infer(images(1)[0])[0, 0, 0, 0]) == 1


def test_the_real_worker_gives_the_same_either_way(tmp_path):
    from pipeline.devices.host import HostRunner

    file = tmp_path / "net.tflite"
    file.write_bytes(model(next(case for case in cases() if case.name == "conv 3x3")))
    rng = np.random.default_rng(0)
    inputs = [rng.integers(-128, 128, (1, 16, 16, 8), dtype=np.int8) for _ in range(12)]
    with HostRunner(file, 1) as runner:
        one_by_one = [runner.infer(image) for image in inputs]
        assert all(np.array_equal(a, b) for a, b in zip(runner.infer_many(inputs), one_by_one, strict=True))
    assert not np.array_equal(one_by_one[0], one_by_one[1])


def test_a_file_for_a_chip_that_is_not_here_is_no_broken_file(tmp_path):
    from pipeline.devices.host import HostRunner
    from tests.measure.test_inspect import custom

    file = tmp_path / "net_edgetpu.tflite"
    file.write_bytes(custom("edgetpu-custom-op"))
    with pytest.raises(ArtifactError, match=r"compiled for a chip \(edgetpu-custom-op\).*uncompiled file"):
        HostRunner(file, 1)
