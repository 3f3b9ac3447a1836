"""Numbers that a user gives: finite and in their range, or BadSpec says what came and what is allowed."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

from pipeline.core.errors import BadSpec

MOST_STEPS, MOST_IMAGES, MOST_SECONDS = 10_000_000, 4096, 7 * 86_400
MOST_THREADS = 64
"""The most steps, images in a batch, seconds to wait or to measure, and CPU threads."""
MOST_RATE = 1e38
"""Of a learning rate, which is a float32. A rate that is too high is found by what it does: the training diverges."""


def whole(name: str, value: Any, low: int, high: int | None = None) -> None:
    """Raises BadSpec where ``value`` is no whole number of low … high (None: no limit)."""
    fits = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not fits or value < low or (high is not None and value > high):
        limits = f"of {low} or more" if high is None else f"from {low} to {high}"
        raise BadSpec(f"{name} is {_shown(value)}: give a whole number {limits}.")


def real(name: str, value: Any, low: float, high: float, above: bool = False) -> None:
    """Raises BadSpec where ``value`` is no finite number of low … high; ``above``: ``low`` itself is not allowed."""
    fits = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not fits or not low <= value <= high or (above and value == low):
        limits = f"above {low:g} and at most {high:g}" if above else f"from {low:g} to {high:g}"
        raise BadSpec(f"{name} is {_shown(value)}: give a number {limits}.")


def reals(named: Iterable[tuple[str, Any]], low: float, high: float) -> None:
    """``real`` for each that is not None."""
    for name, value in named:
        if value is not None:
            real(name, value, low, high)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
