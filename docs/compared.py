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


def left_out(network: dict[str, Any]) -> list[str]:
    """A column for each part that a network left out."""
    return [f"mIoU in {', '.join(f'`{name}`' for name in part)}" for part in network["left_out"]]


def side_by_side() -> str:
    """Of benchmarks/side_by_side: what recipes reach on a drive and on parts of another that they left out."""
    data = load("side_by_side/recipes.json")
    head = ["recipe", "what differs", *left_out(data["plan"]["networks"][0])]
    known = {"name", "left_out", "seed", "init_seed", "group", "keep"}
    rows = []
    for network, scores in zip(data["plan"]["networks"], data["history"][-1]["miou_percent"], strict=True):
        changed = [f"{name} {value:g}" for name, value in network.items() if name not in known]
        seed = [f"{name} {network[name]}" for name in ("seed", "init_seed") if name in network]
        rows.append([network["name"], ", ".join(changed + seed).replace("_", " "), *map(percent, scores)])
    return markdown(head, rows)


def long_run() -> str:
    """Of benchmarks/side_by_side: what long trainings at two sizes reach on what they left out, by their steps."""
    rows = []
    for file in ("stage5", "stage6"):
        data = load(f"side_by_side/{file}.json")
        images, batch = data["images"][1], data["plan"]["batch"]
        size = "x".join(map(str, data["plan"]["size"]))
        for entry in data["history"]:
            epochs = f"{entry['step'] * batch / images:.0f}"
            rows.append([size, f"{entry['step']:,}", epochs, *map(percent, entry["miou_percent"][1])])
    return markdown(["input", "steps", "epochs", *left_out(data["plan"]["networks"][1])], rows)
