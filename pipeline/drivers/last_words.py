"""Finds, in all that another program printed, the line that says why it failed."""

from __future__ import annotations

import re
import signal

INFORMS = re.compile(r"^(?:INFO|VERBOSE|DEBUG)\b|^[IV]\d{4} |^\[ *INFO *\]")
"""How runtimes begin what is no error: LiteRT's `INFO: Created TensorFlow Lite XNNPACK delegate for CPU.`"""
WARNS = re.compile(r"^WARN(?:ING)?\b|^W\d{4} |^\[ *WARN(?:ING)? *\]")
FAILED = re.compile(
    r"^(?:ERROR|FATAL)\b|^[EF]\d{4} |\bfatal\b|\w*(?:Error|Exception): *\S|\bfailed\b|cannot|assert|unresolved"
    r"|unsupported|terminate called|what\(\)|didn't find op|\berror\b",
    re.I,
)
WHERE = re.compile(r"^(?:Traceback \(most recent|File \"|\^+|~+|raise |Aborted|Segmentation fault|Stack|@ |#\d+ )")
"""Lines around an error that do not name it."""
NODE = re.compile(r"^(?:ERROR: )?Node number \d+ \(\w+\) failed to (?:prepare|invoke)")
"""LiteRT says why in the line before."""
NOTHING = "it printed nothing"


def how_it_ended(code: int) -> str:
    """'exit code 1', or 'signal SIGABRT' where that ended the process (a negative code, as ``subprocess`` has it)."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def why_it_failed(output: str) -> str:
    """The last line about an error; if there is none, the last that is neither information nor a warning."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    words = [line for line in lines if not any(kind.match(line) for kind in (INFORMS, WARNS, WHERE))]
    errors = [line for line in words if FAILED.search(line)] or words
    if not errors:
        return NOTHING
    before = f"{errors[-2]} " if len(errors) > 1 and NODE.match(errors[-1]) else ""
    # 'failed with OpConversionFailure:' is explained by the line after it.
    behind = words[words.index(errors[-1]) + 1 :] if errors[-1].endswith(":") else []
    return (before + " ".join([errors[-1], *behind[:1]])).rstrip(".")
