"""Android devices for real: Debian's own adb and adbd, with a stand-in for benchmark_model that runs LiteRT."""

import os
import signal
import threading
import time

import numpy as np
import pytest

from pipeline.core.device import DeviceOptions, RunnerOptions
from pipeline.core.errors import ArtifactError, DeviceError
from pipeline.core.file_spec import FileSpec
from pipeline.devices import android, connect
from pipeline.drivers import adb, benchmark_model
from pipeline.targets import targets
from tests.support import phone
from tests.support.single_ops import small_file
from tests.support.stand_in_benchmark import as_program

pytestmark = pytest.mark.real


@pytest.fixture
def attached(tmp_path, monkeypatch):
    """Starts phones; each ends with the test."""
    phones: list[phone.Phone] = []

    def start(options="size=200m"):
        handset = phone.started(tmp_path / f"phone{len(phones)}", options)
        phones.append(handset)
        for name, value in handset.adb_on_path().items():
            monkeypatch.setenv(name, value)
        return handset

    monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)
    yield start
    for handset in phones:
        handset.close()


def opened(handset, tmp_path, kind="new"):
    binary = as_program(tmp_path / f"a 'benchmark' $(touch pwned); {kind}", kind)
    return connect(f"android:{handset.serial}", DeviceOptions(benchmark_binary=binary))


def noise(count):
    return [np.random.default_rng(i).normal(size=(1, 9, 8, 3)).astype(np.float32) for i in range(count)]


def test_a_network_runs_there_as_it_runs_here(attached, tmp_path):
    """Every bit of an int8 Fast-SCNN's logits, and timings of the newest and of an old build."""
    from tests.conftest import file_of, noise_images, still

    network = still("fast-scnn")
    file = tmp_path / "net $(touch pwned).tflite"
    file.write_bytes(file_of("fast-scnn", FileSpec()))
    images = [np.rint(image * 255).astype(np.uint8)[None] for image in noise_images(network, 5)]
    host = connect("host").open(file, RunnerOptions())
    expected = [host.infer(image) for image in images]
    assert len({e.tobytes() for e in expected}) == len(images)
    handset = attached()
    connection = opened(handset, tmp_path)
    runner = connection.open(file, RunnerOptions(threads=2, target="cpu", pinned=True))
    for same in ("input_dtype", "output_dtype", "output_scale", "output_zero_point", "runs_on"):
        assert getattr(runner.facts, same) == getattr(host.facts, same), same
    got = list(runner.infer_many(iter(images)))
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(got, expected, strict=True))
    assert np.array_equal(runner.infer(images[2]), expected[2])
    block, here = runner.time(20), host.time(20)
    assert block.runs == 20 and {"median", "mean", "min", "max", "p95"} <= set(block.summary_ms)
    assert here.typical_ms / 300 < block.typical_ms < here.typical_ms * 300  # ms both, on a busy machine
    assert runner.facts.init_ms > 0 and runner.facts.first_ms > 0
    assert 1 << 24 < runner.peak_memory_bytes() < 1 << 31
    facts = connection.describe()
    assert facts["device"] == connection.identity == f"android:{handset.serial}" and facts["android"] == "14"
    assert facts["cpu"] == "Debian SM0 (a stand-in)" and "benchmark_model, sha256" in facts["runtime"]
    assert facts["cores"] == len(os.sched_getaffinity(0)) and facts["load_average_1min"] >= 0
    gpu = connection.open(file, RunnerOptions(target="gpu", delegate=targets()["gpu"].delegate))
    assert gpu.facts.runs_on == "GPU delegate in 2 pieces, 3 of 64 ops left to the CPU"
    assert handset.left_behind()
    connection.close()
    assert not handset.left_behind()
    old = opened(handset, tmp_path, "old")
    runner = old.open(file, RunnerOptions())
    assert runner.time(5).runs == 5 and runner.peak_memory_bytes() is None
    with pytest.raises(DeviceError, match="older than its option --output_filepath"):
        runner.infer(images[0])
    old.close()
    assert not handset.left_behind() and not list(handset.root.rglob("data/local/tmp/pwned"))
    host.close()


def test_output_and_exit_code_arrive_whole(attached):
    """Two hundred times: standard error came behind the exit code one time in sixty, before both were joined there."""
    handset = attached()
    adb.adb(["connect", handset.serial])
    client = adb.Phone(handset.serial)
    for _ in range(200):
        assert client.run(["sh", "-c", "echo out; echo error >&2; exit 7"]) == (7, "out\nerror\n")


def test_the_command_line_names_it(attached, tmp_path):
    from tests.conftest import run_cli

    handset = attached()
    result = run_cli("list", cwd=tmp_path)
    assert result.returncode == 0 and "an Android device over adb" in result.stdout
    adb.adb(["connect", handset.serial])
    os.environ["ANDROID_SERIAL"] = handset.serial
    try:
        assert android.find() == f"Android ({handset.serial})"
        result = run_cli("doctor", cwd=tmp_path)
    finally:
        del os.environ["ANDROID_SERIAL"]
    assert result.returncode == 0 and f"yes, Android ({handset.serial})" in " ".join(result.stdout.split())


def test_unplugged_in_the_middle(attached, tmp_path, monkeypatch):
    """What came before is kept, and the sentence comes at once and not after a timeout."""
    monkeypatch.setattr(benchmark_model, "BATCH_IMAGES", 1)
    handset = attached()
    connection = opened(handset, tmp_path)
    runner = connection.open(small_file(tmp_path), RunnerOptions())
    kept = []
    with pytest.raises(DeviceError, match=f"android:{handset.serial} went away while .*: plug it in again"):
        for output in runner.infer_many(noise(100)):
            kept.append(output)
            if len(kept) == 2:
                threading.Timer(0.3, handset.unplug).start()
    assert 2 <= len(kept) < 100
    assert all(np.array_equal(a, np.maximum(b, 0)) for a, b in zip(kept, noise(len(kept)), strict=True))
    connection.close()  # says nothing more


def test_the_server_of_adb_is_killed_in_the_middle(attached, tmp_path, monkeypatch):
    """Twice while files are copied and programs run: another server is started, and all that was asked for comes."""
    monkeypatch.setattr(benchmark_model, "BATCH_IMAGES", 1)
    handset = attached()
    connection = opened(handset, tmp_path)
    runner = connection.open(small_file(tmp_path), RunnerOptions())
    for after_seconds in (0.1, 1.0):
        threading.Timer(after_seconds, adb.adb, (["kill-server"],)).start()
    outputs = list(runner.infer_many(noise(6)))
    assert all(np.array_equal(a, np.maximum(b, 0)) for a, b in zip(outputs, noise(6), strict=True))
    connection.close()
    assert not handset.left_behind()


def test_what_ran_when_the_server_was_killed_does_not_run_on(attached):
    handset = attached()
    adb.adb(["connect", handset.serial])
    client = adb.Phone(handset.serial)

    def kill_once_it_runs():
        until = time.monotonic() + 60
        while handset.shell("[ -s /data/begun ]").returncode and time.monotonic() < until:
            time.sleep(0.1)
        adb.adb(["kill-server"])

    threading.Thread(target=kill_once_it_runs, daemon=True).start()
    assert client.run(["sh", "-c", "echo $$ >>/data/begun; [ $(wc -l </data/begun) = 2 ] || sleep 86395"]).code == 0
    assert "86395" not in handset.shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout


def test_unplugged_while_it_measures(attached, tmp_path):
    handset = attached()
    connection = opened(handset, tmp_path, "hang")
    threading.Timer(1.5, handset.unplug).start()
    with pytest.raises(DeviceError, match=f"android:{handset.serial} went away while .*: plug it in again"):
        connection.open(small_file(tmp_path), RunnerOptions())
    connection.close()


def test_a_full_disk(attached, tmp_path):
    handset = attached("size=256k")
    connection = opened(handset, tmp_path)
    runner = connection.open(small_file(tmp_path), RunnerOptions())
    handset.shell("head -c 1000000 /dev/zero >/data/local/tmp/rest")
    with pytest.raises(DeviceError, match=f"the disk of android:{handset.serial} is full: free some space"):
        runner.infer(noise(1)[0])
    handset.shell("rm /data/local/tmp/rest")
    assert np.array_equal(runner.infer(noise(1)[0]), np.maximum(noise(1)[0], 0))
    connection.close()
    assert not handset.left_behind()


def test_a_disk_that_the_outputs_fill(attached, tmp_path):
    """benchmark_model does not notice: its OutputSaver looks at no write."""
    handset = attached("size=320k")
    connection = opened(handset, tmp_path)
    runner = connection.open(small_file(tmp_path, (1, 100, 100, 3)), RunnerOptions())
    with pytest.raises(DeviceError, match=r"wrote \d+ bytes of an output of 120000: is its disk full"):
        runner.infer(np.zeros((1, 100, 100, 3), np.float32))
    connection.close()
    assert not handset.left_behind()


def test_a_binary_that_may_not_run(attached, tmp_path):
    handset = attached("size=200m,noexec")
    connection = opened(handset, tmp_path)
    with pytest.raises(
        DeviceError, match=f"does not run there .*android:{handset.serial} does not allow it .*Permission denied"
    ):
        connection.open(small_file(tmp_path), RunnerOptions())
    connection.close()
    assert not handset.left_behind()


def test_a_binary_of_another_processor(attached, tmp_path):
    """An ARM64 program: seen in its first bytes; and by the device, where that claims to run it."""
    handset = attached()
    binary = tmp_path / "benchmark_model"
    binary.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + (183).to_bytes(2, "little") + bytes(200))
    for abis, sentence in (("x86_64", "is a program for arm64-v8a, and android:"), ("arm64-v8a", "another processor")):
        handset.shell(f"echo {abis} >/data/abilist")
        connection = connect(f"android:{handset.serial}", DeviceOptions(benchmark_binary=binary))
        with pytest.raises(DeviceError, match=sentence):
            connection.open(small_file(tmp_path), RunnerOptions())
        connection.close()
        assert not handset.left_behind()


@pytest.mark.parametrize(
    "kind, sentence",
    [
        ("silent", "does not run there as benchmark_model.*'Hello, I am another program.'"),
        ("crash", r"crashed on .*signal 11"),
        ("hang", "did not finish in 1 s"),
    ],
)
def test_a_benchmark_model_that_fails(attached, tmp_path, monkeypatch, kind, sentence):
    if kind == "hang":  # the others end by themselves, in a second or not
        monkeypatch.setattr(benchmark_model, "INFERENCE_SECONDS", 0.5)
    handset = attached()
    connection = opened(handset, tmp_path, kind)
    with pytest.raises(DeviceError, match=sentence):
        connection.open(small_file(tmp_path), RunnerOptions())
    connection.close()
    assert not handset.left_behind()  # what hung does not run on


def test_interrupted_by_the_user(attached, tmp_path):
    handset = attached()
    connection = opened(handset, tmp_path, "hang")
    threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        connection.open(small_file(tmp_path), RunnerOptions())
    connection.close()
    assert not handset.left_behind()


def test_a_file_that_the_runtime_refuses(attached, tmp_path):
    file = small_file(tmp_path, version=99)
    handset = attached()
    connection = opened(handset, tmp_path)
    with pytest.raises(ArtifactError, match=f"tflite: LiteRT on android:{handset.serial} refuses it"):
        connection.open(file, RunnerOptions())
    connection.close()
    assert not handset.left_behind()


def test_a_closed_port_is_a_sentence_and_no_server_stays(attached):
    attached()
    with pytest.raises(DeviceError, match="adb cannot connect to 127.0.0.1:1 .*Connection refused"):
        connect("android:127.0.0.1:1")


def test_bench_scores_and_times_on_the_phone(attached, tmp_path):
    from pipeline.devices import devices
    from pipeline.measure.on_device import bench_on
    from tests.support.small_run import IMAGES, QUICK, small_run

    plan, handset = small_run(tmp_path / "bench"), attached()
    messages: list[str] = []
    connection = opened(handset, tmp_path)
    measured = bench_on(plan, devices()["android"], "android", connection, messages.append)
    assert measured.on_host.identical_outputs == IMAGES and measured.on_host.agreement_percent == 100
    assert (
        measured.machine["device"] == f"android:{handset.serial}" and "benchmark_model" in measured.machine["runtime"]
    )
    latency = measured.artifact.latency
    assert latency.rounds == latency.starts == QUICK.starts and len(latency.summaries_ms) == latency.rounds
    assert latency.p90_ms is None and measured.parent.latency.starts == QUICK.starts
    assert measured.speedup.ratio > 0 and measured.speedup.low is None and not measured.unfinished
    connection.close()
    assert not handset.left_behind()
