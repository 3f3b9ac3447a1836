"""What another program's last words were: of all that it printed, the line that says why it failed."""

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
"""Lines around an error that do not say it."""
NODE = re.compile(r"^(?:ERROR: )?Node number \d+ \(\w+\) failed to (?:prepare|invoke)")
"""LiteRT says why in the line before."""
NOTHING = "it said nothing"


def how_it_ended(code: int) -> str:
    """'exit code 1', or 'signal SIGABRT' where that ended the process (a negative code, as ``subprocess`` has it)."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def why_it_failed(said: str) -> str:
    """The last line that tells of an error; without one the last that is neither information nor a mere warning."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    words = [line for line in lines if not any(kind.match(line) for kind in (INFORMS, WARNS, WHERE))]
    told = [line for line in words if FAILED.search(line)] or words
    if not told:
        return NOTHING
    before = f"{told[-2]} " if len(told) > 1 and NODE.match(told[-1]) else ""
    behind = words[words.index(told[-1]) + 1 :] if told[-1].endswith(":") else []  # 'failed with OpConversionFailure:'
    return (before + " ".join([told[-1], *behind[:1]])).rstrip(".")
