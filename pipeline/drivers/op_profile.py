"""Reads the profile that LiteRT's tools print, such as `benchmark_model --enable_op_profiling=true`.

The table is that of StatsCalculator (tensorflow/core/util/stats_calculator.cc, later xla/tsl/util), columns apart by
tabs: `[node type] [start] [first] [avg ms] [%] [cdf%] [mem KB] [times called] [Name]`; newer ones have no `[start]`; as
CSV the same without brackets. libLiteRt.so prints one of its own (litert/runtime/profiler_summarizer.cc), columns apart
by spaces. Columns go by the header here, so that one more or less does not matter.

Which rows are a delegate's is in tflite/profiling/profile_summarizer.cc: `Delegate/KERNEL:PLACE` as the name. Some
delegates' kernels have a table of their own, `Delegate internal:`, and one row in the main one stands for all of them.
"""

from __future__ import annotations

import re

from pipeline.core.errors import RunError
from pipeline.core.profile import Line

INITIALIZATION = "Profiling Info for Benchmark Initialization:"
RUNS = "Operator-wise Profiling Info for Regular Benchmark Runs:"
INTERNAL = "Delegate internal:"
TABLE = re.compile(r"=+ Run Order =+[ \t]*\n(?P<header>.+)\n(?P<rows>(?:.*\S.*\n?)*)")
COLUMN = re.compile(r"\[([^\]]+)\]")
SHOWN = re.compile(r"^(\d+) nodes observed", re.MULTILINE)
WHOLE = re.compile(r"TfLite\w*Delegate\w*|DELEGATE", re.IGNORECASE)
"""What a row for all that one delegate did is called (the delegate's own name, or the op's)."""


def parse(text: str) -> tuple[Line, ...]:
    """The ops of an inference in the order of execution, milliseconds per inference.

    Raises RunError where ``text`` holds no such table, or not all of its rows can be read.
    """
    if RUNS in text:
        text = text.partition(RUNS)[2]
    elif INITIALIZATION in text:
        raise _unknown("it has a profile of the initialization alone")
    main, _, internal = text.partition(INTERNAL)
    rows = _table(main)
    inside = _table(internal) if internal else []
    if inside:
        rows = [row for row in rows if not WHOLE.fullmatch(row[0].partition("/")[0])]
    fewest = min(calls for *_, calls in rows + inside)
    lines = [_line(kind, name, ms * calls / fewest) for kind, name, ms, calls in rows + inside]
    return tuple(lines)


def _table(text: str) -> list[tuple[str, str, float, int]]:
    """(node type, name, average ms of one call, calls) of each row."""
    found = TABLE.search(text)
    if found is None:
        raise _unknown("there is no table called Run Order")
    header = found["header"]
    names = [x.lower() for x in COLUMN.findall(header)] or [x.strip().lower() for x in header.split(",")]
    names = [name.replace("_", " ") for name in names]
    if names[:1] != ["node type"] or names[-1] != "name" or not {"avg ms", "times called"} <= set(names):
        raise _unknown(f"its columns are {header.strip()!r}")
    numbers = names[1:-1]
    row = re.compile(r"\s*(.+?)" + r"[\s,]+(-?[\d.]+(?:e[+-]?\d+)?|-?nan|inf)%?" * len(numbers) + r"(?:[\s,]+(.*))?$")
    rows = []
    for line in found["rows"].splitlines():
        match = row.match(line)
        if match is None:
            raise _unknown(f"a row is {line.strip()!r}")
        kind, *values, name = match.groups()
        of = dict(zip(numbers, values, strict=True))
        rows.append((kind, name or "", float(of["avg ms"]), int(float(of["times called"]))))
    said = SHOWN.search(text)
    if not rows or (said and int(said[1]) != len(rows)):
        raise _unknown(f"it says {said[1] if said else 'nothing'} nodes and shows {len(rows)}")
    return rows


def _line(kind: str, name: str, ms: float) -> Line:
    place = re.search(r":(\d+)$", name)
    node = int(place[1]) if place else -1
    if name.startswith("Delegate/"):
        return Line(name.removeprefix("Delegate/").rpartition(":")[0], node, True, ms)
    if kind.startswith("Delegate/"):  # libLiteRt.so's
        return Line(kind.removeprefix("Delegate/"), node, True, ms)
    return Line(kind, node, False, ms)


def _unknown(what: str) -> RunError:
    return RunError(
        f"the profile is in a format never seen ({what}): report it with the output of"
        " `benchmark_model --enable_op_profiling=true`, and measure without the profile."
    )
