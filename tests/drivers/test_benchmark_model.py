"""LiteRT's benchmark_model: what it prints, old and new, and how it is driven on a machine behind a shell.

The lines are those that users published in public threads, and those of its sources' format strings; each is cited.
"""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest

from pipeline.core.device import RunnerOptions
from pipeline.core.errors import ArtifactError, DeviceError
from pipeline.core.keeper import KEEPER
from pipeline.drivers import benchmark_model
from pipeline.drivers.benchmark_model import CommandResult, Installed, check_architecture, explained
from pipeline.drivers.benchmark_report import parse
from pipeline.targets import targets
from tests.support.single_ops import Case, Data, model

# github.com/yuenshome/yuenshome.github.io, issue 77: a build of 2019
OF_2019 = """STARTING!
Min num runs: [10]
Use nnapi : [0]
nnapi error: unable to open library libneuralnetworks.so
Loaded model /data/local/tmp/tflite/tfmodel/mobilenet_v1_1.0_224_quant.tflite
resolved reporter
Initialized session in 9.933ms
Running benchmark for at least 4 iterations and at least 0.5 seconds
count=7 first=127425 curr=66709 min=66709 max=127425 avg=76605.9 std=20944

Running benchmark for at least 10 iterations and at least 1 seconds
count=15 first=66753 curr=66800 min=66699 max=66838 avg=66767.6 std=39

Average inference timings in us: Warmup: 76605.9, Init: 9933, no stats: 66767.6
"""
# github.com/tensorflow/tensorflow, issue 42507: a build of 2020, with the head of its profile
OF_2020 = """STARTING!
Duplicate flags: num_threads
Log parameter values verbosely: [0]
Num threads: [4]
#threads used for CPU inference: [4]
Loaded model /data/local/tmp/espcn_harmonic_2x_slim_w_cl.tflite
The input model file size (MB): 0.004448
Initialized session in 0.855ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=15 first=49060 curr=33682 min=32825 max=49060 avg=34825.1 std=3930

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=32891 curr=33978 min=32641 max=34005 avg=33209.4 std=450

Inference timings in us: Init: 855, First inference: 49060, Warmup (avg): 34825.1, Inference (avg): 33209.4
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory \
footprint of the model at runtime. Take the information at your discretion.
Peak memory footprint (MB): init=0 overall=12.8672
Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\
\t[Name]
\t         AllocateTensors\t            0
"""
# github.com/tensorflow/tensorflow, issue 43541: the GPU delegate, 2020
GPU = """STARTING!
Use gpu: [1]
Loaded model /data/local/tmp/tflite/denoising_32bit.tflite
INFO: Initialized TensorFlow Lite runtime.
INFO: Created TensorFlow Lite delegate for GPU.
INFO: Initialized OpenCL-based API.
INFO: Created 1 GPU delegate kernels.
Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.
The input model file size (MB): 7.07479
Initialized session in 870.557ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=4 first=130565 curr=120829 min=117370 max=130565 avg=122373 std=4930

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=119212 curr=118055 min=113737 max=124776 avg=119375 std=1948

Inference timings in us: Init: 870557, First inference: 130565, Warmup (avg): 122373, Inference (avg): 119375
"""
# github.com/tensorflow/tensorflow, issue 73862: a build of 2024
OF_2024 = """INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Graph: [mobilenet_v1_1.0_224.tflite]
INFO: Signature to run: []
INFO: Loaded model mobilenet_v1_1.0_224.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: The input model file size (MB): 16.9008
INFO: Initialized session in 12.75ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=37 first=14744 curr=15520 min=13164 max=18295 avg=13764.3 std=967

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=74 first=14850 curr=13315 min=13105 max=15765 avg=13520.2 std=470

INFO: Inference timings in us: Init: 12750, First inference: 14744, Warmup (avg): 13764.3, Inference (avg): 13520.2
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual \
memory footprint of the model at runtime. Take the information at your discretion.
"""
# The format strings of google-ai-edge/LiteRT at f6745779 (tflite/tools/benchmark/benchmark_model.cc, OnBenchmarkEnd and
# Run; benchmark_tflite_model.cc, Init; tflite/core/subgraph.cc, "Replacing ...") and of tensorflow/tensorflow at
# 2b746b8f (third_party/xla/xla/tsl/util/stats_calculator.h, StatWithPercentiles::OutputToStream), with figures of ours.
OF_2026 = """INFO: STARTING!
INFO: Use gpu: [1]
INFO: Loaded model 1/model.tflite
VERBOSE: Replacing 61 out of 64 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 4 partitions for subgraph 0 \
(main).
INFO: Explicitly applied GPU delegate, and the model graph will be partially executed by the delegate w/ 2 delegate \
kernels.
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 2 out of 5 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 5 partitions for subgraph 0 \
(main).
INFO: The input model file size (MB): 2.5
INFO: Initialized session in 900.5ms.
INFO: Running benchmark for at least 1 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=1 curr=1200300 p5=1200300 median=1200300 p95=1200300

INFO: Running benchmark for at least 20 iterations and at least 0 seconds but terminate if exceeding 300 seconds.
INFO: count=20 first=1200000 curr=1100000 min=1000000 max=1300000 avg=1.13e+06 std=70000 p5=1010000 median=1120000 \
p95=1290000

INFO: Inference timings in us: Init: 900500, First inference: 1200300, Warmup (avg): 1.2003e+06, Inference (avg): \
1.13e+06
INFO: Memory footprint delta from the start of the tool (MB): init=50.5 overall=80.25
INFO: Overall peak memory footprint (MB) via periodic monitoring: 96.5
Operator-wise Profiling Info for Regular Benchmark Runs:
Timings (microseconds): count=20 first=1 curr=2 min=1 max=3 avg=2 std=1
Memory (bytes): count=0
"""


@pytest.mark.parametrize(
    "printed, runs, summary, init, first, peak, where",
    [
        (
            OF_2019,
            15,
            {"min": 66.699, "max": 66.838, "mean": 66.7676, "std": 0.039},
            9.933,
            127.425,
            None,
            "LiteRT's own kernels",
        ),
        (
            OF_2020,
            50,
            {"min": 32.641, "max": 34.005, "mean": 33.2094, "std": 0.45},
            0.855,
            49.06,
            None,
            "LiteRT's own kernels",
        ),
        (
            GPU,
            50,
            {"min": 113.737, "max": 124.776, "mean": 119.375, "std": 1.948},
            870.557,
            130.565,
            None,
            "GPU delegate",
        ),
        (OF_2024, 74, {"min": 13.105, "max": 15.765, "mean": 13.5202, "std": 0.47}, 12.75, 14.744, None, "XNNPACK"),
        (
            OF_2026,
            20,
            {"min": 1000, "max": 1300, "mean": 1130, "std": 70, "p5": 1010, "median": 1120, "p95": 1290},
            900.5,
            1200.3,
            96.5 * 2**20,
            "GPU delegate in 2 pieces, 3 of 64 ops left to the CPU",
        ),
    ],
    ids=["2019", "2020", "2020-gpu", "2024", "2026"],
)
def test_what_it_printed_over_the_years_is_read(printed, runs, summary, init, first, peak, where):
    report = parse(printed)
    assert report.runs == runs and report.summary_ms == pytest.approx(summary)
    assert (report.init_ms, report.first_ms) == pytest.approx((init, first))
    assert report.peak_memory_bytes == peak and report.runs_on == where


@pytest.mark.parametrize(
    "line, where",
    [
        # tensorflow issue 56301, May 2022: two runs of one phone
        (
            "Explicitly applied NNAPI delegate, and the model graph will be partially executed by the delegate w/ 44"
            " delegate kernels.",
            "NNAPI delegate in 44 pieces, some ops left to the CPU",
        ),
        (
            "Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate.",
            "the CPU, XNNPACK: the NNAPI delegate takes none of its ops",
        ),
        # tflite/tools/delegates/gpu_delegate_provider.cc and nnapi_delegate_provider.cc
        (
            "WARN: GPU acceleration is unsupported on this platform.",
            "the CPU, XNNPACK: the device has no GPU acceleration",
        ),
        (
            "INFO: Explicitly applied XNNPACK delegate, and the model graph will be partially executed by the delegate w/"  # noqa: E501
            " 2 delegate kernels.",
            "XNNPACK in 2 pieces, some ops left to LiteRT's own kernels",
        ),
        (
            "INFO: Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.",  # noqa: E501
            "XNNPACK",
        ),
        (
            "INFO: Explicitly applied GPU delegate, and the model graph will be partially executed by the delegate w/"
            " 2 delegate kernels.\nINFO: Replacing 9 out of 3 node(s) with delegate",
            "GPU delegate in 2 pieces, some ops left to the CPU",
        ),
    ],
)
def test_it_is_said_what_runs_the_graph(line, where):
    printed = OF_2024.replace("INFO: The input", f"{line}\nINFO: The input", 1)
    assert parse(printed).runs_on == where


def test_runs_that_are_all_alike_are_read():
    """Stat::OutputToStream writes 'count=5 curr=13500(all same)' then, and StatWithPercentiles goes on behind it."""
    for line in ("count=74 curr=13500(all same)", "count=74 curr=13500(all same) p5=13500 median=13500 p95=13500"):
        alike = OF_2024.replace("count=74 first=14850 curr=13315 min=13105 max=15765 avg=13520.2 std=470", line)
        summary = parse(alike).summary_ms
        assert (summary["min"], summary["mean"], summary["max"], summary["std"]) == (13.5, 13.5, 13.5, 0)
        assert summary.get("median", 13.5) == 13.5


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "Hello, I am another program.\n",
        OF_2024[: OF_2024.index("INFO: count=74")],
        OF_2024.replace("count=74", "count=many"),
        OF_2024.replace("avg=", "average="),
        OF_2024.replace("count=74 first=14850", "count=0 first=14850"),
    ],
)
def test_a_format_never_seen_is_an_error(printed):
    with pytest.raises(DeviceError, match="printed its timings in an unknown format .*--benchmark-binary"):
        parse(printed)


FAILURES = {
    "full": (1, "sh: ./x: No space left on device", DeviceError, "the disk of X is full"),
    "dash": (126, "sh: 1: exec: ./benchmark_model: Exec format error", DeviceError, "for another processor"),
    "mksh": (126, "sh: ./benchmark_model: not executable: 64-bit ELF file", DeviceError, "for another processor"),
    "noexec": (126, "sh: ./benchmark_model: can't execute: Permission denied", DeviceError, "X does not allow it"),
    "loader": (127, "sh: ./benchmark_model: No such file or directory", DeviceError, "built for another system"),
    "crash": (139, "INFO: STARTING!\nSegmentation fault", DeviceError, r"crashed on X \(signal 11\)"),
    "edgetpu": (
        1,
        "ERROR: Encountered unresolved custom op: edgetpu-custom-op.\nERROR: Benchmarking failed.",
        ArtifactError,
        "LiteRT on X refuses it .*edgetpu-custom-op",
    ),
    "gpu": (
        1,
        "ERROR: Failed to apply GPU delegate.\nERROR: Benchmarking failed.",
        ArtifactError,
        "refuses it .*GPU delegate",
    ),
    "other": (3, "ERROR: something else", DeviceError, "exit code 3 on X .*something else"),
}


@pytest.mark.parametrize("code, printed, kind, sentence", FAILURES.values(), ids=FAILURES)
def test_what_a_device_says_of_a_failure_becomes_a_sentence(code, printed, kind, sentence):
    """LiteRT's words: benchmark_tflite_model.cc, Init; the shells': printed by dash 0.5.12 and mksh 59c."""
    error = explained("X", code, printed, "benchmark_model cannot run")
    assert type(error) is kind
    with pytest.raises(kind, match=sentence):
        raise error


BENCHMARK = """#!/bin/sh
echo "INFO: STARTING!"
for flag; do
    case $flag in
        --input_layer_value_files=image:*) input=${flag#*:} ;;
        --output_filepath=*) output=${flag#*=} ;;
        --num_runs=*) runs=${flag#*=} ;;
    esac
done
[ $# != 0 ] || { echo "ERROR: Please specify the name of your TF Lite input file with --graph" >&2; exit 1; }
BODY
echo "$@ on $(grep Cpus_allowed_list /proc/self/status)" >>"$CALLS"
echo "INFO: Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate."
echo "INFO: count=1 curr=2000"
echo "INFO: count=$runs first=1000 curr=3000 min=1000 max=3000 avg=2000 std=5 p5=1100 median=1900 p95=2900"
echo "INFO: Inference timings in us: Init: 4000, First inference: 2000, Warmup (avg): 2000, Inference (avg): 2000"
"""
COPY = 'if [ -n "$output" ]; then cat "$input" >"$output"; fi'


class Here:
    """This machine behind a shell, as a Transport."""

    name = "X"

    def __init__(self, home):
        self.home, self.pushed, self.pulled = home, 0, 0

    def run(self, words, timeout_seconds=60):
        # A folder like a phone's does not matter here, and must not be found where this machine has one.
        words = [word.replace("/data/local/tmp", "/nonexistent") for word in words]
        result = subprocess.run(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
            env={**os.environ, "TMPDIR": str(self.home / "far"), "CALLS": str(self.home / "calls")},
            timeout=20,
        )
        return CommandResult(result.returncode if result.returncode >= 0 else 128 - result.returncode, result.stdout)

    def command(self, words):
        return None

    def push(self, local, remote):
        self.pushed += 1
        assert not os.path.exists(remote)
        (shutil.copytree if local.is_dir() else shutil.copy)(local, remote)

    def pull(self, remote, local):
        self.pulled += 1
        (shutil.copytree if os.path.isdir(remote) else shutil.copy)(remote, local)

    def left(self):
        return sorted(str(path.relative_to(self.home / "far")) for path in (self.home / "far").rglob("*"))


@pytest.fixture
def here(tmp_path):
    home = tmp_path / "a $(touch pwned) 'b' \"c\"; d"
    (home / "far").mkdir(parents=True)
    return Here(home)


def program(here, body=COPY):
    path = here.home / "benchmark; $(x)"
    path.write_text(BENCHMARK.replace("BODY", body))
    return path


@pytest.fixture
def file(here):
    path = here.home / "net $(y).tflite"
    data = Data((1, 4, 3, 3), "uint8", scale=0.25, zero_point=7)
    path.write_bytes(model(Case("relu", "RELU", 1, (data,), data)))
    return path


def images(count):
    return [np.random.default_rng(i).integers(0, 256, (1, 4, 3, 3), dtype=np.uint8) for i in range(count)]


def test_a_file_is_run_and_timed_and_nothing_stays(here, file, monkeypatch):
    monkeypatch.setattr(benchmark_model, "BATCH_IMAGES", 4)
    tool = Installed(here, program(here), ("x86_64",))
    core = max(os.sched_getaffinity(0))
    runner = tool.open(
        file, RunnerOptions(threads=1, target="gpu", pinned=True, delegate="gpu"), fastest=(core, *range(core))
    )
    facts = runner.facts
    assert (facts.input_dtype, facts.output_dtype, facts.output_scale, facts.output_zero_point) == (
        "uint8",
        "uint8",
        0.25,
        7,
    )
    assert (facts.init_ms, facts.first_ms, facts.runs_on) == (4, 2, "XNNPACK")
    block = runner.time(9)
    assert block.runs == 9 and block.typical_ms == 1.9 and block.summary_ms["p95"] == 2.9
    here.pushed = here.pulled = 0
    inputs = images(6)
    for i, (image, output) in enumerate(zip(inputs, runner.infer_many(iter(inputs)), strict=True)):
        assert np.array_equal(output, image) and here.pulled == 1 + i // 4  # a batch of four, and one of two
    assert here.pushed == here.pulled == 2
    runner.time(3)
    calls = (here.home / "calls").read_text().splitlines()
    assert "--input_layer=image --input_layer_shape=1,4,3,3 --use_gpu=true" in calls[0]
    assert (
        "--num_threads=1" in calls[0]
        and calls[0].split()[-1] == str(core)
        and "--num_runs=9 --min_secs=0 --max_secs=300" in calls[1]
    )
    assert "image:1/last --num_runs=3" in calls[-1]
    assert np.array_equal(
        np.frombuffer(next((here.home / "far").rglob("last")).read_bytes(), np.uint8), inputs[-1].ravel()
    )
    with pytest.raises(ArtifactError, match=r"takes uint8 \[1, 4, 3, 3\], but got int8 \[1, 4, 3, 3\]"):
        runner.infer(inputs[0].astype(np.int8))
    runner.close()
    assert len(here.left()) == 2  # the folder and the tool
    tool.close()
    assert not here.left() and not list(here.home.parent.rglob("pwned"))


@pytest.mark.parametrize("when", ["interrupted", "lost", "lied"])
def test_a_folder_whose_making_is_not_answered_does_not_stay(here, when, monkeypatch):
    kept = []
    monkeypatch.setattr(KEEPER, "keep", lambda kind, value: kept.append(json.loads(value)))

    class Unanswered(Here):
        def command(self, words):
            return ["adb", *words]

        def run(self, words, timeout_seconds=60):
            ran = super().run(words, timeout_seconds)
            if "mkdir" not in words[2]:
                return ran
            (name,) = here.left()
            assert [words[-1] for words in kept] == [name]  # known before it is there
            if when == "lied":
                return CommandResult(0, "/elsewhere\n")
            raise KeyboardInterrupt if when == "interrupted" else DeviceError("X went away.")

    with pytest.raises(KeyboardInterrupt if when == "interrupted" else DeviceError):
        benchmark_model.RemoteFolder(Unanswered(here.home))
    assert not here.left()


@pytest.mark.parametrize(
    "target, flag",
    [
        ("cpu", "--use_xnnpack=true"),
        ("nnapi", "--use_nnapi=true"),
        ("gpu-delegate", "--use_gpu=true"),
        ("edgetpu", "--external_delegate_path=libedgetpu.so.1"),
    ],
)
def test_the_target_decides_the_delegate(here, file, target, flag):
    library = "libedgetpu.so.1" if target == "edgetpu" else None
    tool = Installed(here, program(here), ("x86_64",), library)
    tool.open(file, RunnerOptions(target=target, delegate=targets()[target].delegate))
    assert flag in (here.home / "calls").read_text()
    tool.close()


@pytest.mark.parametrize(
    "body, kind, sentence",
    [
        ("kill -SEGV $$", DeviceError, r"net.*crashed on X \(signal 11\)"),
        ("echo 'ERROR: Failed to load model x' >&2; exit 1", ArtifactError, "LiteRT on X refuses it"),
        ("echo 'I am new here'; exit 0", DeviceError, "its timings in an unknown format"),
        (
            'if [ -n "$output" ]; then head -c 5 "$input" >"$output"; fi',
            DeviceError,
            "wrote 5 bytes of an output of 36",
        ),
        ('echo "WARN: Unconsumed cmdline flags: --output_filepath=x"', DeviceError, "older than its option"),
    ],
)
def test_failures_are_sentences_and_nothing_stays(here, file, body, kind, sentence):
    tool = Installed(here, program(here, body), ("x86_64",))
    with pytest.raises(kind, match=sentence):
        tool.open(file, RunnerOptions()).infer(images(1)[0])
    tool.close()
    assert not here.left()


def test_another_program_and_another_processor_are_refused(here, file):
    other = here.home / "other"
    other.write_text("#!/bin/sh\necho hello\n")
    with pytest.raises(DeviceError, match=r"does not run there as benchmark_model.*'hello'"):
        Installed(here, other, ("x86_64",))
    assert not here.left()
    other.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(11) + (183).to_bytes(2, "little") + bytes(44))
    with pytest.raises(DeviceError, match="a program for arm64-v8a, and X runs x86_64"):
        Installed(here, other, ("x86_64",))
    check_architecture("X", other, ("armeabi-v7a", "arm64-v8a"))
    os.mkfifo(here.home / "pipe")
    for name in ("none", "pipe"):
        with pytest.raises(DeviceError, match="cannot be read"):
            check_architecture("X", here.home / name, ("x86_64",))
