"""Machines and programs that lie: what they answer is a value that can be, or one sentence."""

import io
import json
import struct

import numpy as np
import pytest

from pipeline.core.errors import DeviceError
from pipeline.drivers import answers, benchmark_report
from pipeline.drivers.answers import Nonsense
from pipeline.drivers.litert_worker import receive, send
from pipeline.drivers.survey import Survey

LINE = "INFO: count={count} first={value} curr={value} min={low} max={high} avg={value} std=0\n"
GOOD = {"count": 5, "value": 1000, "low": 900, "high": 1100}


def report(**wrong):
    return 2 * LINE.format(**{**GOOD, **wrong})


def test_a_report_that_can_be_is_read():
    told = benchmark_report.parse(report() + "INFO: Inference timings in us: Init: 5685, First inference: 18535\n")
    assert told.runs == 5 and told.summary_ms["mean"] == 1.0 and told.init_ms == 5.685


WRONG_TIMES = [
    "0",
    "-5",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "1e.e",
    "1e400",
    "²³",
    "٣",
    "1_000",
    "1e-40",
    "0x10",
    "9" * 5000,
    "",
    "a\x1b[31m",
]


@pytest.mark.parametrize("value", WRONG_TIMES)
def test_a_time_that_cannot_be_is_refused(value):
    with pytest.raises(
        DeviceError, match="^benchmark_model printed (nonsense|its timings in an unknown format)"
    ) as error:
        benchmark_report.parse(report(value=value))
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("wrong", [{"count": "1e300"}, {"count": 0}, {"count": "٣"}, {"low": 2000}, {"high": 10}])
def test_counts_and_extremes_that_contradict_are_refused(wrong):
    with pytest.raises(DeviceError):
        benchmark_report.parse(report(**wrong))


@pytest.mark.parametrize(
    "line",
    [
        "INFO: Inference timings in us: Init: 1e.e.e, First",
        "Overall peak memory footprint (MB) via periodic monitoring: 1e.e",
    ],
)
def test_figures_beside_the_times_are_numbers(line):
    with pytest.raises(DeviceError, match="nonsense .*1e.e"):
        benchmark_report.parse(f"{report()}{line}\n")


def survey_of(**told):
    return Survey("".join(f"@{name}\n{text}\n" for name, text in told.items()))


@pytest.mark.parametrize("cores", ["all", "0-400000000", "²", "0-", "-3", "3-1", "0-9" * 10_000, "\x1b[2J", ""])
def test_cores_that_cannot_be_are_one(cores):
    assert survey_of(**{"/proc/self/status": f"Cpus_allowed_list:\t{cores}"}).cores() == [0]


@pytest.mark.parametrize(
    "nonsense", ["busy very", "²³ kB", "much kB", "nan", "inf", "9" * 400, "-1 kB", "\x1b]0;owned\x07"]
)
def test_a_machine_that_tells_nonsense_is_described_without_it(nonsense):
    names = ("/proc/loadavg", "/sys/class/thermal/thermal_zone0/temp", "ro.build.version.sdk")
    told = {**dict.fromkeys(names, nonsense), "/proc/meminfo": f"MemTotal: {nonsense}", "ro.product.model": nonsense}
    facts = survey_of(**told, machine="arm64").describe()
    numbers = ("load_average_1min", "temperature_celsius", "memory_bytes", "android_api")
    assert {facts[name] for name in numbers} == {None} and json.dumps(facts, allow_nan=False)
    assert "\x1b" not in facts["model"] and len(facts["model"]) <= 160


FACTS = {"input_dtype": "uint8", "output_dtype": "int8", "output_scale": 0.1, "output_zero_point": -3, "init_ms": 1.5}


def test_facts_that_can_be_are_read():
    facts = answers.facts_of(json.dumps({**FACTS, "runs_on": "X\x1b[31m"}).encode())
    assert (facts.output_zero_point, facts.init_ms, facts.runs_on) == (-3, 1.5, "X\\x1b[31m")


@pytest.mark.parametrize(
    "wrong",
    [
        {"init_ms": float("nan")},
        {"init_ms": -1},
        {"first_ms": 1e300},
        {"output_scale": float("inf")},
        {"output_scale": 10**400},
        {"output_scale": "1"},
        {"output_scale": True},
        {"output_zero_point": 1.5},
        {"output_zero_point": 10**400},
        {"input_dtype": "object"},
        {"input_dtype": ["uint8"]},
        {"more": 1},
    ],
    ids=str,
)
def test_facts_that_cannot_be_are_refused(wrong):
    with pytest.raises(Nonsense):
        answers.facts_of(json.dumps({**FACTS, **wrong}).encode())


@pytest.mark.parametrize("line", [b"[" * 100_000, b"5", b"\xff\xfe", b'{"input_dtype": 1'])
def test_facts_that_are_no_facts_are_refused(line):
    with pytest.raises(Nonsense, match="its facts are"):
        answers.facts_of(line)


def test_times_memory_and_outputs_are_those_that_were_asked_for():
    assert answers.times_of(np.array([1.0, 2.0]), 2) == (1.0, 2.0)
    for times in ([1.0], [1.0, 0.0], [1.0, 1e-9], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf], [1.0, 1e12], [1, 2]):
        with pytest.raises(Nonsense):
            answers.times_of(np.array(times), 2)
    assert answers.bytes_of(np.array([1 << 20])) == 1 << 20
    for memory in ([-1], [1 << 62], [1.5], [], [1, 2]):
        with pytest.raises(Nonsense):
            answers.bytes_of(np.array(memory))
    output = np.zeros((1, 2, 3, 4), np.int8)
    assert answers.check_output(output, "int8", (1, 2, 3, 4)) is output
    for dtype, shape in (("uint8", (1, 2, 3, 4)), ("int8", (1, 2, 3, 5))):
        with pytest.raises(Nonsense, match="and the file's is"):
            answers.check_output(output, dtype, shape)


def sent(array):
    stream = io.BytesIO()
    send(stream, array)
    return stream.getvalue()


def test_an_array_is_received_whole_or_refused():
    array = np.arange(6, dtype=np.int8).reshape(2, 3)
    assert np.array_equal(receive(io.BytesIO(sent(array))), array)
    header = sent(array)[8:]
    huge = header.replace(b"(2, 3)", b"(9**9,)"[:6].ljust(6))
    broken = [
        struct.pack("<q", -1) + header,
        struct.pack("<q", 1 << 60) + header,
        struct.pack("<q", len(header)) + huge,
        struct.pack("<q", len(header)) + header.replace(b"(2, 3)", b"(2,99)"),
        struct.pack("<q", len(header)) + header.replace(b"|i1", b"|O8"),
        sent(array)[:-1],
        struct.pack("<q", 5) + b"hello",
        b"",
    ]
    for data in broken:
        with pytest.raises((ValueError, EOFError)):
            receive(io.BytesIO(data))


DESCRIPTION = {"cpu": "Cortex-A76", "cores": 4, "memory_bytes": 8 << 30, "load_average_1min": 0.5, "python": "3.11.2"}


def test_a_description_that_can_be_is_taken():
    told = {**DESCRIPTION, "cpu_features": ["asimd", "i8mm"], "temperature_celsius": None, "frequency_mhz": 2400.0}
    assert answers.description_of(json.dumps(told)) == told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cores", 10**9),
        ("cores", "four"),
        ("cores", -1),
        ("cores", True),
        ("memory_bytes", 1 << 60),
        ("load_average_1min", "busy"),
        ("load_average_1min", -1.0),
        ("load_average_1min", [1.0]),
        ("temperature_celsius", 1e9),
        ("frequency_mhz", {"a": 1}),
        ("cpu", 7),
        ("python", ["3"]),
    ],
)
def test_a_value_of_a_description_that_cannot_be_is_none(name, value):
    assert answers.description_of(json.dumps({**DESCRIPTION, name: value})) == {**DESCRIPTION, name: None}


def test_names_in_a_description_are_short_and_harmless_and_unknown_ones_left_out():
    told = answers.description_of(
        json.dumps({"cpu": "a\x1b[31m" + 5000 * "b", "cpu_features": ["avx2", "\x1b"], "device": "host", "more": 1})
    )
    assert set(told) == {"cpu", "cpu_features"} and told["cpu_features"] == ["avx2"]
    assert "\x1b" not in told["cpu"] and len(told["cpu"]) < 200


@pytest.mark.parametrize("line", ["", "[]", "{", "null", '{"cores": NaN}', "[" * 5000, '{"a": ' + "9" * 5000 + "}"])
def test_a_description_that_is_none_is_refused(line):
    with pytest.raises(Nonsense, match="it describes itself as"):
        answers.description_of(line)
