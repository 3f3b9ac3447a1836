"""Reads what LiteRT's benchmark_model prints, builds of 2019 and of today alike.

Its format strings: tflite/tools/benchmark/benchmark_model.cc and benchmark_tflite_model.cc, and for the line of a run's
statistics xla/tsl/util/stats_calculator.h. A build of before 2021 prints the lines without 'INFO: ', one of before 2025
prints no percentiles.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping

from pipeline.core.errors import DeviceError
from pipeline.drivers.answers import LEAST_MS, MOST_MS, Nonsense, decimal, shown

STATISTICS = re.compile(r"^(?:INFO: )?count=[0-9]+.*", re.MULTILINE)
"""At the start of a line: the profile has such figures too, behind words."""
NAMES = {
    "min": "min",
    "max": "max",
    "avg": "mean",
    "std": "std",
    "p5": "p5",
    "median": "median",
    "p95": "p95",
}
READ = (*NAMES, "count", "first", "curr")
MOST_RUNS = 1e9
ROUNDED = 1e-3
"""Averages are printed with six digits."""
APPLIED = re.compile(
    r"(?:Explicitly applied (?P<name>\w+) delegate, and the model graph will be (?P<how>completely|partially) executed"
    r" by the delegate(?: w/ (?P<pieces>[0-9]{1,6}) delegate kernels)?"
    r"|Though (?P<unused>\w+) delegate is explicitly applied, the model graph will not be executed)"
)
REPLACED = re.compile(r"Replacing ([0-9]{1,9}) out of ([0-9]{1,9}) node\(s\) with delegate")
"""The runtime's own words. Of several the first is of the delegate that was asked for."""
KERNELS = "LiteRT's own kernels"
UNSUPPORTED = re.compile(r"(\w+) acceleration is unsupported on this platform")


@dataclasses.dataclass(frozen=True)
class Report:
    """What one call told, in milliseconds and bytes.

    Attributes:
      runs: inferences that were timed.
      summary_ms: of those, by the names of ``Block.summary_ms``.
      init_ms, first_ms: None where it does not tell.
      peak_memory_bytes: of the whole process; None in builds that tell only by how much it grew.
      runs_on: which delegate took how much, in words.
    """

    runs: int
    summary_ms: Mapping[str, float]
    init_ms: float | None
    first_ms: float | None
    peak_memory_bytes: int | None
    runs_on: str


def parse(output: str) -> Report:
    """Raises DeviceError where the lines are of no format that is known."""
    lines = STATISTICS.findall(output)
    try:
        warmup, timed = map(_statistics, lines[-2:])
        runs = int(timed.pop("count"))
        summary = {NAMES[name]: value / 1000 for name, value in timed.items() if name in NAMES}
        if runs < 1 or "mean" not in summary:
            raise ValueError
        init = _number(r"timings in us:.*?\bInit: (\S*?),?(?:\s|$)", output)
        peak = _number(r"Overall peak memory footprint \(MB\) via periodic monitoring: (\S*)", output)
    except (ValueError, KeyError) as error:
        what = f"nonsense ({error})" if isinstance(error, Nonsense) else "its timings in an unknown format"
        raise DeviceError(
            f"benchmark_model printed {what}{last_words(output)}: give LiteRT's own benchmark_model with"
            " --benchmark-binary."
        ) from None
    first = warmup.get("first")
    return Report(
        runs=runs,
        summary_ms=summary,
        init_ms=None if init is None else init / 1000,
        first_ms=None if first is None else first / 1000,
        peak_memory_bytes=None if peak is None else round(peak * (1 << 20)),
        runs_on=runs_on(output),
    )


def _statistics(line: str) -> dict[str, float]:
    """'count=50 first=79449 curr=81350 ...' → its figures, in microseconds; raises ValueError.

    A time below a nanosecond, a negative one, one that is no number and an average beyond the extremes are Nonsense.
    """
    words = line.removeprefix("INFO: ").replace("(all same)", "").split()
    told = {name: value for name, equals, value in (word.partition("=") for word in words) if equals}
    figures = {name: _microseconds(name, value) for name, value in told.items() if name in READ}
    if "first" not in figures and figures["count"] > 0:  # one run, or all alike: 'count=5 curr=N(all same)'
        figures |= dict.fromkeys(("first", "min", "max", "avg"), figures["curr"]) | {"std": 0.0}
    low, high = figures.get("min", 0.0), figures.get("max", math.inf)
    for name in ("avg", "median", "p5", "p95"):
        if name in figures and not low * (1 - ROUNDED) - 1 <= figures[name] <= high * (1 + ROUNDED) + 1:
            raise Nonsense(f"{name}={figures[name]:g} beyond min={low:g} and max={high:g}")
    return figures


def _microseconds(name: str, text: str) -> float:
    value = decimal(text, MOST_RUNS if name == "count" else 1000 * MOST_MS)
    if value is None or (value < 1000 * LEAST_MS and name not in ("count", "std")):
        raise Nonsense(f"{name}={shown(text)}")
    return value


def _number(pattern: str, output: str) -> float | None:
    match = re.search(pattern, output)
    if match is None:
        return None
    if (value := decimal(match[1], 1000 * MOST_MS)) is None:
        raise Nonsense(f"{shown(match[0][-60:])}")
    return value


def runs_on(output: str) -> str:
    """Which delegate runs the graph, and what is left to the CPU, as far as the tool tells."""
    cpu = "XNNPACK" if "XNNPACK delegate" in output else KERNELS
    applied = APPLIED.search(output)
    if applied is None:
        missing = UNSUPPORTED.search(output)
        return f"the CPU, {cpu}: the device has no {missing[1]} acceleration" if missing else cpu
    if applied["unused"]:
        return f"the CPU, {cpu}: the {applied['unused']} delegate takes none of its ops"
    name = "XNNPACK" if applied["name"] == "XNNPACK" else f"{applied['name']} delegate"
    if applied["how"] == "completely":
        return name
    counts = REPLACED.search(output)
    known = counts is not None and int(counts[1]) <= int(counts[2])
    left = f"{int(counts[2]) - int(counts[1])} of {counts[2]} ops" if counts and known else "some ops"
    rest = KERNELS if name == "XNNPACK" else "the CPU"
    return f"{name} in {applied['pieces'] or 'several'} pieces, {left} left to {rest}"


def last_words(output: str) -> str:
    """The last line that was said, for a message."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return f" (it ended with {lines[-1][:200]!r})" if lines else " (it printed nothing)"
