"""Figures as text; what is no number becomes a dash."""

from __future__ import annotations

import math

from pipeline.core.measurement import Ratio

MIB, MILLION = 1 << 20, 1_000_000
NONE = "–"


def fixed(value: float | None, digits: int = 2) -> str:
    return NONE if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def points(value: float | None) -> str:
    """A difference of percentages, with its sign."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:+.2f}" if round(value, 2) else "0.00"


def mib(size_bytes: int | None) -> str:
    return NONE if size_bytes is None else f"{size_bytes / MIB:.2f}"


def millions(count: int) -> str:
    return f"{count / MILLION:,.1f}"


def integer(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"


def interval(ratio: Ratio | None, digits: int = 2) -> str:
    """Of a ratio, with its confidence."""
    if ratio is None or ratio.low is None or ratio.high is None:
        return "none: too few starts" if ratio else NONE
    return f"{fixed(ratio.low, digits)} to {fixed(ratio.high, digits)} ({ratio.confidence_percent:g} %)"


def several(count: int, what: str) -> str:
    """'1 image', '4 images'."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
