"""What another machine or another process answers, read into bounded, finite values: it may lie, or be broken."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import Any

import numpy as np

from pipeline.core.device import RunnerFacts
from pipeline.core.json_file import BadJson, as_object, made, parse
from pipeline.core.printable import LONGEST_NAME, printable
from pipeline.drivers.litert_worker import FEATURES

LEAST_MS, MOST_MS = 1e-6, 86_400_000.0
"""A nanosecond and a day: no inference takes less, and neither it nor loading takes longer."""
MOST_BYTES = 1 << 50
MOST_CORES, MOST_LOAD, MOST_MHZ = 4096, 1_000_000.0, 100_000.0
"""No machine has more."""
HOTTEST_CELSIUS = 150.0
LONGEST_DESCRIPTION = 1 << 16
TEXTS = ("cpu", "governor", "system", "python", "runtime")
NUMBERS: dict[str, tuple[type, float, float]] = {
    "cores": (int, 1, MOST_CORES),
    "memory_bytes": (int, 1, MOST_BYTES),
    "load_average_1min": (float, 0, MOST_LOAD),
    "temperature_celsius": (float, -HOTTEST_CELSIUS, HOTTEST_CELSIUS),
    "frequency_mhz": (float, 0, MOST_MHZ),
}
"""What ``litert_worker.describe`` and ``state`` tell: names, and numbers of a type within limits."""
MOST_ESTIMATE = 1e18
"""Of cycles, seconds and KiB that a compiler predicts."""
DIGITS = re.compile(r"-?[0-9]{1,18}")
DECIMAL = re.compile(r"[0-9]{1,18}(\.[0-9]{0,18})?([eE][+-]?[0-9]{1,2})?")
DTYPES = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bool")


class Nonsense(ValueError):
    """An answer that cannot be true; the message says what came, and of what it is said."""


def finite(value: Any, what: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Raises Nonsense for what is no number from ``low`` to ``high``."""
    try:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        if fits and math.isfinite(number := float(value)):
            return number
    except OverflowError:  # a whole number beyond all floats
        pass
    raise Nonsense(f"{what} is {shown(value)}")


def shown(value: Any) -> str:
    return printable(str(value), 60)


def whole_number(text: str, low: int = -(10**18), high: int = 10**18) -> int | None:
    """ASCII digits alone; None for all else, also for other scripts' digits, which ``int`` would read or choke on."""
    text = text.strip()
    return int(text) if DIGITS.fullmatch(text) and low <= int(text) <= high else None


def decimal(text: str, high: float) -> float | None:
    """A number from 0 to ``high`` in ASCII digits; None for all else."""
    return number if DECIMAL.fullmatch(text) and (number := float(text)) <= high else None


def words(text: Any) -> str | None:
    """A name that a machine gives itself, in one short line; None where there is none."""
    return printable(text.strip(), LONGEST_NAME) if isinstance(text, str) and text.strip() else None


def description_of(line: str) -> dict[str, Any]:
    """The answer of ``litert_worker`` to 'describe' or 'state'; None for a value that cannot be. Raises Nonsense."""
    try:
        told = made(parse(line[:LONGEST_DESCRIPTION]), as_object)
    except BadJson:
        raise Nonsense(f"it describes itself as {shown(line)}") from None
    description: dict[str, Any] = {name: words(told[name]) for name in TEXTS if name in told}
    description |= {name: _number(told[name], *limits) for name, limits in NUMBERS.items() if name in told}
    if "cpu_features" in told:
        named = told["cpu_features"] if isinstance(told["cpu_features"], list) else []
        description["cpu_features"] = [feature for feature in FEATURES if feature in named]
    return description


def _number(value: Any, kind: type, low: float, high: float) -> float | None:
    """None for what is no number of ``kind`` from ``low`` to ``high``."""
    return value if type(value) is kind and isinstance(value, int | float) and low <= value <= high else None


def facts_of(line: bytes) -> RunnerFacts:
    """The first line of ``litert_worker``; raises Nonsense."""
    try:
        facts = json.loads(line)
        names = {field.name for field in dataclasses.fields(RunnerFacts)}
        required = {"input_dtype", "output_dtype", "output_scale", "output_zero_point"}
        if not isinstance(facts, dict) or not required <= set(facts) <= names:
            raise ValueError
    except (ValueError, RecursionError):
        raise Nonsense(f"its facts are {shown(line.decode('utf-8', 'replace'))}") from None
    for name in ("input_dtype", "output_dtype"):
        if facts[name] not in DTYPES:
            raise Nonsense(f"{name} is {shown(facts[name])}")
    for name in ("init_ms", "first_ms"):
        if facts.get(name) is not None:
            finite(facts[name], name, 0, MOST_MS)
    finite(facts["output_scale"], "output_scale", 0)
    if not isinstance(facts["output_zero_point"], int):
        raise Nonsense(f"output_zero_point is {shown(facts['output_zero_point'])}")
    return RunnerFacts(
        facts["input_dtype"],
        facts["output_dtype"],
        float(facts["output_scale"]),
        int(finite(facts["output_zero_point"], "output_zero_point", -(2**31), 2**31)),
        facts.get("init_ms"),
        facts.get("first_ms"),
        words(facts.get("runs_on")) or "",
    )


def times_of(answer: np.ndarray, runs: int) -> tuple[float, ...]:
    """Milliseconds of ``runs`` inferences; raises Nonsense."""
    if answer.shape != (runs,) or answer.dtype.kind != "f":
        raise Nonsense(f"{answer.dtype.name} {list(answer.shape)} for the times of {runs} inferences")
    wrong = answer[~((answer >= LEAST_MS) & (answer <= MOST_MS))]
    if wrong.size:
        raise Nonsense(f"an inference takes {wrong[0]} ms")
    return tuple(answer.tolist())


def bytes_of(answer: np.ndarray) -> int:
    """A peak of memory; raises Nonsense."""
    if answer.size != 1 or answer.dtype.kind not in "iu" or not 0 <= int(answer.ravel()[0]) <= MOST_BYTES:
        raise Nonsense(f"{answer.dtype.name} {list(answer.shape)} {shown(answer.ravel()[:1].tolist())} for its memory")
    return int(answer.ravel()[0])


def check_output(output: np.ndarray, dtype: str, shape: tuple[int, ...] | None) -> np.ndarray:
    """Raises Nonsense where an output has another type or shape than the file's."""
    if output.dtype.name != dtype or (shape is not None and output.shape != shape):
        expected = f"{dtype} {list(shape)}" if shape is not None else dtype
        raise Nonsense(f"an output is {output.dtype.name} {list(output.shape)}, and the file's is {expected}")
    return output
