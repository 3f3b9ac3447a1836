"""The tables of networks that were trained alike, and of one network at several input sizes."""

from __future__ import annotations

from typing import Any

from docs.cells import TITLES, load, markdown, percent

MIB, GIB = 2**20, 2**30


def pair(texts: list[str]) -> str:
    return " / ".join(texts)


def times_as_fast(latency: dict[str, Any], name: str) -> str:
    """'24.4 (22.3 to 26.6)': how often a file runs while the first of the same turns runs once, with its interval."""
    ratio = latency["files"][name]["times_first"]
    if ratio["low"] == ratio["high"] == 1:
        return "1"
    return f"{1 / ratio['ratio']:.3g} ({1 / ratio['high']:.3g} to {1 / ratio['low']:.3g})"


def networks() -> str:
    """Of benchmarks/networks.py."""
    rows = []
    for case in load("networks.json"):
        for name, row in case["networks"].items():
            kinds = [row[kind] for kind in ("float", "int8")]
            scores = [percent(kind["miou_percent"]) for kind in kinds if "miou_percent" in kind]
            rows.append(
                [
                    f"{TITLES[name]}, alpha {case['alpha']:g}",
                    f"{row['parameters']:,}",
                    f"{row['int8']['size_bytes'] / 1e6:.1f} MB",
                    pair(scores) or f"not trained ({case['steps']} steps)",
                    pair([times_as_fast(case["latency"], f"{name} {kind}") for kind in ("float", "int8")]),
                    pair([f"{kind['peak_memory_bytes'] / MIB:.0f}" for kind in kinds]),
                    f"{row['step_seconds']:.2f} s",
                    f"{row['training_peak_memory_bytes'] / GIB:.1f} GiB",
                ]
            )
    head = (
        "network",
        "trained weights",
        "int8 file",
        "mIoU, float / int8",
        "times as fast as FCN8 in float, float / int8",
        "MiB to infer, float / int8",
        "training step",
        "memory to train",
    )
    return markdown(head, rows)


def input_sizes() -> str:
    """Of benchmarks/input_sizes.py."""
    data = load("input_sizes.json")
    rows = []
    for row in data["sizes"]:
        if "refused" in row:
            rows.append([row["size"], "refused", "refused", ""])
            continue
        times = [times_as_fast(data["latency"], f"{row['size']} {kind}") for kind in ("float", "int8")]
        rows.append([row["size"], *(percent(row[f"{kind}_miou_percent"]) for kind in ("float", "int8")), pair(times)])
    return markdown(("input", "float mIoU", "int8 mIoU", "times as fast as the first in float, float / int8"), rows)
