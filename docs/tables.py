"""Writes the tables of README.md and docs/ that come from results/ and the registries: python docs/tables.py [--check]

A table stands between `<!-- NAME: docs/tables.py -->` and `<!-- /NAME -->`. --check writes nothing. It names each page
whose table differs from results/ or the registries, each registered target, device, dataset or network that README.md
or its page leaves out, and each target and device without a page of its own; where it names one, the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.coverage import table as coverage_table  # noqa: E402
from docs.cells import TITLES, interval, load, markdown, percent, points  # noqa: E402
from docs.compared import input_sizes, long_run, networks, side_by_side  # noqa: E402
from docs.pages import generated  # noqa: E402

HEADS = {
    "logits, stride 8": "logits of stride 8, no mask",
    "logits, stride 8 + exact mask in C": "**the same, and the exact mask in C**",
    "logits, stride 8 + exact mask in NumPy": "the same, and the exact mask in NumPy",
    "logits, full size (argmax not included)": "full-size logits, without their argmax",
    "mask in the graph: ×8 + argmax": "mask in the file: ×8 and argmax",
    "×4 + argmax in the graph, nearest ×2 in C": "×4 and argmax in the file, nearest ×2 in C",
    "×2 + argmax in the graph, nearest ×4 in C": "×2 and argmax in the file, nearest ×4 in C",
    "argmax in the graph, nearest ×8 in C": "argmax in the file, nearest ×8 in C",
}
PEERS = {
    "openvino-ir, exact mask in C": "**ours, `openvino-ir`, exact mask in C**",
    "LiteRT int8, exact mask in C": "**ours, LiteRT int8, exact mask in C**",
    "LiteRT float, exact mask in C": "LiteRT float, rounded, the same mask in C",
    "LiteRT int8, mask in the graph": "LiteRT int8, mask in the file",
    "LiteRT float, mask in the graph": "LiteRT float, mask in the file",
    "ONNX Runtime int8": "ONNX Runtime int8, mask in its graph",
    "OpenVINO int8": "OpenVINO int8 (NNCF), mask in its graph",
    "openvino-ir": "**ours, `openvino-ir`**",
    "LiteRT int8": "**ours, LiteRT int8**",
    "LiteRT float": "LiteRT float",
}
PEERS_TO_LOGITS = {"ONNX Runtime int8": "ONNX Runtime int8", "OpenVINO int8": "OpenVINO int8 (NNCF)"}
"""Where no mask is made."""


def mean(scores: list[float]) -> str:
    """Of one or several seeds, with their standard deviation."""
    spread = f" ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
    return f"{statistics.mean(scores):.2f}{spread} %"


def trained(title: str, files: Sequence[str], what: str = "") -> list[str]:
    """One row: the mean of some trainings from one parent, ± their standard deviation."""
    runs = [load(f"{file}.json") for file in files]
    miou = [run["val_miou_percent"] for run in runs]
    before = runs[-1]["float"]["best_val_miou_percent"]
    kept = sum(run["kept_step"] == 0 for run in runs)
    return [title, percent(before), mean(miou) + what, points(statistics.mean(miou) - before), f"{kept} of {len(runs)}"]


def seeds(name: str) -> list[str]:
    return [f"{name}{seed}" for seed in (1, 2, 3)]


def quantized(title: str, before: float, after: float) -> list[str]:
    return [title, percent(before), percent(after), points(after - before), ""]


def shipped_scores() -> list[dict[str, Any]]:
    """On val, of the weights that ship: float, and their int8 file."""
    return [load(f"camvid/fast-scnn-720x960-{kind}.json") for kind in ("float", "int8")]


def elsewhere_rows() -> list[list[str]]:
    """Of a network trained as the one that ships, on images that it left out."""
    before, after = (load(f"side_by_side/twin-{kind}.json") for kind in ("float", "ptq"))
    title = f"Fast-SCNN, 720x960, on {before['images']} images of streets left out, post-training quantization"
    return [
        quantized(title, before["miou_percent"], after["miou_percent"]),
        trained("the same, QAT", seeds("side_by_side/twin-qat-")),
    ]


def accuracy_rows() -> list[list[str]]:
    scores = (score["miou_percent"] for score in shipped_scores())
    fastfcn8 = load("camvid/fastfcn8-ptq.json")
    return [
        *elsewhere_rows(),
        quantized("the one that ships, on val, which it was trained on, post-training quantization", *scores),
        trained("the same, QAT", seeds("camvid/qat-seed")),
        quantized(
            "FastFCN8, 192x256, on val, post-training quantization",
            *(fastfcn8[which]["score"]["miou_percent"] for which in ("parent", "artifact")),
        ),
        trained("the same, QAT", [f"camvid/fastfcn8-qat{seed}" for seed in ("", "-seed2", "-seed3")]),
        trained("the same, trained on in float", ["camvid/fastfcn8-control-seed1"], " (a float file)"),
    ]


def earlier_rows() -> list[list[str]]:
    """Of the Fast-SCNN weights that shipped before, which were trained on the training images alone."""
    calibration = load("camvid/calibration.json")
    (default,) = (
        row["miou_percent"]
        for row in calibration["rows"]
        if (row["method"], row["selection"], row["images"]) == ("min-max", "random", 100)
    )
    each = {kind: seeds(f"camvid/{kind}-seed") for kind in ("qat-labels", "qat-nolabels", "qat-per-tensor", "control")}
    title = "Fast-SCNN, 360x480, earlier weights, on val"
    return [
        quantized(f"{title}, post-training quantization", calibration["float_miou_percent"], default),
        trained("the same, QAT", each["qat-labels"]),
        trained("the same, QAT without labels", each["qat-nolabels"]),
        trained("the same, QAT, one scale for each kernel", each["qat-per-tensor"]),
        trained("the same, trained on in float", each["control"], " (a float file)"),
    ]


def accuracy() -> str:
    head = ("CamVid", "float mIoU", "int8 file", "difference", "QAT runs that kept the calibrated start")
    return markdown(head, [*accuracy_rows(), *earlier_rows()])


def summary() -> str:
    """Of the above what a reader of README.md needs first."""
    rows = [row[:4] for row in accuracy_rows() if "in float" not in row[0]]
    return markdown(("CamVid", "float mIoU", "int8 file", "difference"), rows)


def weights() -> str:
    """The weights that ship, class by class."""
    scores = [*shipped_scores(), load("camvid/fast-scnn-720x960-after-qat.json")]
    rows = [[name, *(percent(score["iou_percent"][name]) for score in scores)] for name in scores[0]["iou_percent"]]
    last = ["**mean**", *(f"**{percent(score['miou_percent'])}**" for score in scores)]
    return markdown(("IoU on val, which was trained on", "float", "int8 file", "int8 file after QAT"), [*rows, last])


def recipes() -> str:
    """What each recipe reached on images that were left out, those with the same images and steps together."""
    scores: dict[tuple[str, ...], list[float]] = {}
    for row in sorted(load("recipes.json"), key=lambda row: (row["drive"], row["size"], row["steps"])):
        left_out = ", ".join(f"`{part}`" for part in row["drive"].split("+"))
        case = left_out, row["size"], str(row["steps"]), row["recipe"]
        scores.setdefault(case, []).append(row["last_miou_percent"])
    rows = [[*case, mean(each) + (f" ({len(each)} seeds)" if len(each) > 1 else "")] for case, each in scores.items()]
    return markdown(("left out", "size", "steps", "recipe", "mIoU there"), rows)


def calibration() -> str:
    rows = load("camvid/calibration.json")["rows"]
    miou_percent = {(row["method"], row["selection"], row["images"]): row["miou_percent"] for row in rows}
    methods, selections, images = (
        list(dict.fromkeys(row[k] for row in rows)) for k in ("method", "selection", "images")
    )
    return markdown(
        ("estimator", *selections),
        (
            [f"`{m}`", *(" / ".join(f"{miou_percent[m, s, n]:.2f}" for n in images) for s in selections)]
            for m in methods
        ),
    )


def heads() -> str:
    cases = load("heads.json")["cases"]
    camvid, random = cases.values()
    rows = []
    for name, title in HEADS.items():
        camvid_head, random_head = camvid["heads"][name], random["heads"][name]
        rows.append(
            [
                title,
                percent(camvid_head["miou_percent"]),
                interval(camvid_head["ratio"]),
                interval(random_head["ratio"]),
            ]
        )
    rows.append(
        [
            "the exact mask in C of random logits, its worst case",
            "",
            *(f"{case['worst_case_ratio']:.2f}" for case in (camvid, random)),
        ]
    )
    return markdown(("head", "mIoU", *cases), rows)


def peers(case: str, head: str) -> str:
    threads = load("peers.json")[case]["threads"]
    checked = threads["1"][head].get("checked", {})
    scored = case.startswith("camvid") and bool(checked)
    titles = PEERS if head == "mask" else {**PEERS, **PEERS_TO_LOGITS}
    rows = []
    for first, second in zip(threads["1"][head]["rows"], threads["2"][head]["rows"], strict=True):
        times = [interval(row["times_slower_than_the_first"]) for row in (first, second)]
        check = checked.get(first["name"], {})
        more = [percent(check["miou_percent"]), percent(check["agreement_percent"])] if scored else []
        rows.append([titles[first["name"]], *times, *more])
    return markdown(("", "1 thread", "2 threads", *(("mIoU", "same class as float") if scored else ())), rows)


def fastest() -> str:
    """One sentence of the table of masks."""
    rows = load("peers.json")["camvid-360x480"]["threads"]["1"]["mask"]["rows"]
    times = {row["name"]: row["times_slower_than_the_first"] for row in rows}

    def times_as_long(name: str) -> str:
        r = times[name]
        return f"{r['ratio']:.2f}× as long (99 % interval {r['low']:.2f} to {r['high']:.2f})"

    return (
        "To a full-size mask at 360x480 on one thread, `openvino-ir` with the exact mask in C is the fastest\n"
        "that we measured on an Intel Xeon, whose latency says nothing about a phone's.\n"
        f"The same network takes {times_as_long('LiteRT int8, exact mask in C')} in our LiteRT file with that mask,\n"
        f"{times_as_long('OpenVINO int8')} in the int8 file of OpenVINO's own tool, and\n"
        f"{times_as_long('LiteRT float, mask in the graph')} in a float file in LiteRT."
    )


def columns(output: str) -> dict[str, Any]:
    """Of results/coverage.json, by network and size."""
    rows = {}
    for key, row in load("coverage.json")["rows"].items():
        network, size, kind = key.split(" ")[:3]
        if kind == output and "alpha" not in key:
            rows[f"{TITLES[network]} {size}"] = row
    return rows


def left() -> str:
    """The ops that stay on the CPU, and why: of several reasons that differ in numbers only, the first."""
    networks: dict[tuple[str, str], dict[str, None]] = {}
    reasons: dict[tuple[str, str], str] = {}
    for output in ("logits", "mask"):
        for network, row in columns(output).items():
            for target, entry in row.items():
                for each in entry["left"]:
                    networks.setdefault((each["op"], target), {})[network] = None
                    reasons.setdefault((each["op"], target), each["why"])
    alike: dict[tuple[str, str, str], list[str]] = {}
    for (op, target), affected in networks.items():
        names = "all" if len(affected) == len(columns("logits")) else ", ".join(affected)
        alike.setdefault((op, names, reasons[op, target]), []).append(f"`{target}`")
    rows = [[f"`{op}`", ", ".join(targets), names, why] for (op, names, why), targets in alike.items()]
    return markdown(("op", "targets", "networks", "why"), rows)


def cost() -> str:
    """Of benchmarks/pipeline.py."""
    data = load("pipeline.json")
    images, ranges = data["scoring"]["images"], data["calibration"]["images"]
    best = data["scoring"]["times_largest"]
    by_passes: dict[int, list[float]] = {}
    for entry in data["calibration"]["estimators"].values():
        by_passes.setdefault(entry["forward_passes"], []).append(entry["times_forward"])
    extremes, histograms = (f"{min(x):.2f} to {max(x):.2f} times" for x in (by_passes[1], by_passes[2]))
    of = "of the largest of decoding, inference and metric, each done alone in one thread"
    once, fcn8 = (
        f"{entry['seconds']:.0f} s, {entry['peak_memory_gib']:.1f} GiB" for entry in (data["fast-scnn"], data["fcn8"])
    )
    rows = [
        (
            f"scoring {images} CamVid images, 360x480",
            f"{best['scoring']:.2f} {of}; {best['scoring_cached']:.2f} once decoded",
        ),
        (f"ranges from extremes, {ranges} images", f"{extremes} a forward pass over them"),
        (f"ranges from histograms, {ranges} images", f"{histograms} two forward passes"),
        (f"Fast-SCNN 360x480 to int8, calibrated on {ranges} images", once),
        ("FCN8 360x480 to int8, 134 million weights", fcn8),
    ]
    return markdown(("work", "cost"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "summary": summary,
    "fastest": fastest,
    "accuracy": accuracy,
    "calibration": calibration,
    "weights": weights,
    "recipes": recipes,
    "side-by-side": side_by_side,
    "long-run": long_run,
    "networks": networks,
    "input-sizes": input_sizes,
    "heads": heads,
    "peers": lambda: peers("camvid-360x480", "mask"),
    "peers-stride8": lambda: peers("camvid-360x480", "stride8"),
    "peers-logits": lambda: peers("camvid-360x480", "logits"),
    "peers-large": lambda: peers("random-512x1024", "mask"),
    "coverage": lambda: coverage_table(columns("logits")),
    "coverage-masks": lambda: coverage_table(columns("mask")),
    "left": left,
    "cost": cost,
    **generated(columns),
}
MARKED = re.compile(r"<!-- (?P<name>[\w-]+): docs/tables\.py -->\n(?P<table>.*?)<!-- /(?P=name) -->", re.DOTALL)


def with_tables(text: str) -> str:
    """The page with each table as results/ have it."""
    return MARKED.sub(
        lambda m: f"<!-- {m['name']}: docs/tables.py -->\n{TABLES[m['name']]()}\n<!-- /{m['name']} -->", text
    )


def unnamed() -> list[str]:
    """What is registered and not named in README.md or on its page."""
    from pipeline.cli.options import quiet_tensorflow

    quiet_tensorflow()
    from models import networks
    from pipeline.data import sources
    from pipeline.devices import devices
    from pipeline.targets import targets

    pages: dict[str, Iterable[str]] = {
        "targets.md": targets(),
        "devices.md": devices(),
        "datasets.md": sources(),
        "quantization.md": networks(),
    }
    missing = []
    for page, registered in pages.items():
        for file in (ROOT / "README.md", ROOT / "docs" / page):
            text = file.read_text()
            missing += [
                f"{file.relative_to(ROOT)} does not name {name!r}" for name in registered if f"`{name}" not in text
            ]
    for folder, names in (("targets", targets()), ("devices", devices())):
        pages_of = {file.stem for file in (ROOT / "docs" / folder).glob("*.md")}
        missing += [f"docs/{folder}/{name}.md is missing: write it" for name in names if name not in pages_of]
        missing += [f"docs/{folder}/{name}.md is of nothing registered" for name in sorted(pages_of - set(names))]
    return missing


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="Write nothing; exit 1 when a page is stale.")
    check = parser.parse_args().check
    problems, used = [], set[str]()
    for file in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = file.read_text()
        used |= {m["name"] for m in MARKED.finditer(text)}
        if (new := with_tables(text)) == text:
            continue
        if check:
            problems.append(f"{file.relative_to(ROOT)} is stale: run `python docs/tables.py`")
        else:
            file.write_text(new)
            print(f"written: {file.relative_to(ROOT)}")
    problems += [f"no page has the table {name!r}" for name in TABLES if name not in used]
    if check:
        problems += unnamed()
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
