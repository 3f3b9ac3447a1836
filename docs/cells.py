"""What the tables of the pages are made of: files of results/, numbers in words, Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "results"
TITLES = {"fast-scnn": "Fast-SCNN", "fastfcn8": "FastFCN8", "fcn8": "FCN8"}


def load(name: str) -> Any:
    return json.loads((RESULTS / name).read_text())


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def interval(ratio: dict[str, float]) -> str:
    """'1.65 (1.59 to 1.71)'; what all others are compared with is 1."""
    if ratio["ratio"] == ratio["low"] == ratio["high"] == 1:
        return "1"
    return f"{ratio['ratio']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def percent(value: float) -> str:
    return f"{value:.2f} %"


def points(value: float) -> str:
    return f"{value:+.2f} points".replace("-", "−") if abs(value) >= 0.005 else "0.00 points"
