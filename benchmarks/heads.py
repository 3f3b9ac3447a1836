"""What each way to a full-size mask costs, and how accurate it is: python benchmarks/heads.py --data camvid:DIR

The CamVid Fast-SCNN that ships as int8 on the validation images, at the size it was trained for, and a random one with
19 classes at 512x1024 on noise; one thread, LiteRT. Every round runs every head on one image, in turns; the rounds are
shared out among several processes, one after the other, and a ratio is summed up over rounds and processes as `bench`
does. Expansion to full size is in every mask's time. Writes results/heads.json, prints a table.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pipeline.core.mask import Grid  # noqa: E402
from pipeline.heads.exact import exact_mask  # noqa: E402
from pipeline.heads.native import NativeMask  # noqa: E402
from pipeline.measure.timing import Timed, ratio_of  # noqa: E402

CALIBRATION_IMAGES = 32
BASELINE = "logits, stride 8"
STARTS = 10
Files = dict[tuple[str, int], bytes]
Finish = Callable[[np.ndarray, np.ndarray], object]
"""Makes the mask: (output, where to write it)."""


@dataclasses.dataclass(frozen=True)
class Head:
    """A file's output and stride, and what makes the mask of it in the app: 'exact' or 'nearest', in C, or 'numpy'."""

    name: str
    output: str
    stride: int
    finish: str | None


HEADS = [
    Head(BASELINE, "logits", 8, None),
    Head("logits, stride 8 + exact mask in C", "logits", 8, "exact"),
    Head("logits, stride 8 + exact mask in NumPy", "logits", 8, "numpy"),
    Head("logits, full size (argmax not included)", "logits", 1, None),
    Head("mask in the graph: ×8 + argmax", "mask", 1, None),
    Head("×4 + argmax in the graph, nearest ×2 in C", "mask", 2, "nearest"),
    Head("×2 + argmax in the graph, nearest ×4 in C", "mask", 4, "nearest"),
    Head("argmax in the graph, nearest ×8 in C", "mask", 8, "nearest"),
]


def trained(data: str) -> tuple[Any, Any, Any]:
    """The CamVid network, its ranges by minimum and maximum over some training images, and the dataset."""
    import models
    from calib.ranges import measure
    from models.pretrained import pretrained
    from pipeline.core.preprocessing import Preprocessing
    from pipeline.core.spec import ModelSpec, parse_size
    from pipeline.data import open_dataset
    from pipeline.quantize.plan import plan
    from pipeline.weights import checkpoint

    dataset, weights = open_dataset(data), pretrained("fast-scnn")["camvid"]
    size = parse_size(checkpoint.size_in(weights) or "")
    model = models.build(ModelSpec("fast-scnn", *size, len(dataset.classes)))
    checkpoint.load(model, weights)
    preprocessing = Preprocessing(*size)
    samples = dataset.splits["train"]
    chosen = samples[:: max(1, len(samples) // CALIBRATION_IMAGES)]
    planned = plan(model)
    images = (preprocessing.tensor(sample.image(), "float32") for sample in chosen)
    return model, planned.share(measure(model, planned.points, lambda: images)), dataset


def files(model: Any, ranges: Any) -> Files:
    from pipeline.quantize.quantize import quantize
    from pipeline.targets import target

    contents: Files = {}
    for head in HEADS:
        key = (head.output, head.stride)
        if key not in contents:
            click.echo(f"converting {head.output} at stride {head.stride}", err=True)
            spec = target("cpu").file_spec(head.output, head.stride)  # type: ignore[arg-type]
            contents[key] = quantize(model, ranges, target("cpu"), spec).data
    return contents


class Running:
    """One file in LiteRT, its output read where it lies."""

    def __init__(self, data: bytes, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=data, num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.tensor(self._interpreter.get_output_details()[0]["index"])

    def give(self, image: np.ndarray) -> None:
        self._interpreter.set_tensor(self._input, image)

    def run(self, finish: Finish | None, mask: np.ndarray) -> float:
        """Milliseconds."""
        began = time.perf_counter()
        self._interpreter.invoke()
        if finish is not None:
            finish(self._output(), mask)
        return 1000 * (time.perf_counter() - began)

    def output(self) -> np.ndarray:
        return self._output().copy()


def timed(
    contents: Files, images: list[np.ndarray], grid: Grid, rounds: range
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Milliseconds of every head in each round, and of the mask alone on the logits as they came and on random ones."""
    with tempfile.TemporaryDirectory() as folder:
        native = NativeMask(Path(folder))
    finish: dict[str | None, Finish | None] = {
        None: None,
        "exact": lambda output, mask: native.exact(output[0], grid, mask),
        "numpy": lambda output, _: exact_mask(output[0], grid),
        "nearest": lambda output, mask: native.nearest(output[0], grid, mask),
    }
    first = rounds.start % len(HEADS)  # of what is loaded first, too, each process has another
    running = {  # each its own: what another has just run would still be in the cache
        head.name: Running(contents[head.output, head.stride], 1) for head in HEADS[first:] + HEADS[:first]
    }
    mask = np.empty(grid.size, np.uint8)
    times: dict[str, list[float]] = {head.name: [] for head in HEADS}
    alone: dict[str, list[float]] = {"C": [], "C, random logits": [], "NumPy": [], "NumPy, random logits": []}
    rng = np.random.default_rng(0)
    shape = running[BASELINE].output().shape[1:]
    noise = [rng.integers(-128, 128, shape, np.int8) for _ in range(8)]
    for number in range(rounds.start - 3, rounds.stop):
        image = images[number % len(images)]
        for at in range(len(HEADS)):
            head = HEADS[(at + number) % len(HEADS)]
            runner = running[head.name]
            runner.give(image)
            make_mask = finish[head.finish]
            runner.run(make_mask, mask)  # as in an app, what it computes with is in the cache when it is timed
            spent = runner.run(make_mask, mask)
            if number >= rounds.start:  # the first ones warm up
                times[head.name].append(spent)
        logits = running[BASELINE].output()[0]
        for name, values in (("", logits), (", random logits", noise[number % len(noise)])):
            for how, make in (("C", lambda x: native.exact(x, grid, mask)), ("NumPy", lambda x: exact_mask(x, grid))):
                if how == "NumPy" and number % 10:
                    continue
                began = time.perf_counter()
                make(values)
                if number >= rounds.start:
                    alone[how + name].append(1000 * (time.perf_counter() - began))
    return times, alone


def measured(contents: Files, images: list[np.ndarray], grid: Grid, rounds: int, classes: int) -> dict[str, Any]:
    """Times of every head and of the mask alone, one thread, each process a start of all of them."""
    each = -(-rounds // STARTS)
    parts = []
    for start in range(STARTS):
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # which inherits the core that this one is bound to
            parts.append(pool.apply(timed, (contents, images, grid, range(start * each, (start + 1) * each))))
    times, alone = ({name: [ms for part in parts for ms in part[i][name]] for name in parts[0][i]} for i in (0, 1))
    base = Timed.of(times[BASELINE], STARTS)
    rows = {
        name: {
            "median_ms": float(np.median(spent)),
            "min_ms": min(spent),
            "ratio": dataclasses.asdict(ratio_of(Timed.of(spent, STARTS), base)),
        }
        for name, spent in times.items()
    }
    return {
        "classes": classes,
        "rounds": each * STARTS,
        "starts": STARTS,
        "threads": 1,
        "heads": rows,
        "mask_alone_median_ms": {name: float(np.median(spent)) for name, spent in alone.items()},
        "mask_alone_min_ms": {name: min(spent) for name, spent in alone.items()},
        "worst_case_ratio": 1 + float(np.median(alone["C, random logits"]) / np.median(times[BASELINE])),
    }


def scored(contents: Files, dataset: Any, grid: Grid, count: int | None) -> dict[str, float]:
    """mIoU of each head's masks on the validation images, by the same score as `evaluate`."""
    from pipeline.core.preprocessing import Preprocessing
    from pipeline.core.score import mean_iou_percent
    from pipeline.data.decoded import Decoded
    from pipeline.heads.full_size import mask_of
    from pipeline.measure.confusion import confusion

    decoded, preprocessing = Decoded(dataset.splits["val"]), Preprocessing(*grid.size)
    running = {key: Running(data, 1) for key, data in contents.items()}
    totals = {key: np.zeros((len(dataset.classes),) * 2, np.int64) for key in contents}
    for i in range(min(len(decoded), count or len(decoded))):
        image, label = decoded[i]
        for key, runner in running.items():
            runner.give(preprocessing.tensor(image, "uint8"))
            runner.run(None, label)
            mask = mask_of(runner.output(), label.shape[0], label.shape[1], grid)
            totals[key] += confusion(label, mask, len(dataset.classes))
    percent = {key: float(mean_iou_percent(total)) for key, total in totals.items()}
    return {head.name: percent[head.output, head.stride] for head in HEADS}


def table(cases: dict[str, Any]) -> str:
    """Markdown: a row per head."""
    names = list(next(iter(cases.values()))["heads"])
    lines = ["| head | " + " | ".join(cases) + " |", "|---|" + "---|" * len(cases)]
    for name in names:
        cells = []
        for case in cases.values():
            row = case["heads"][name]
            score = f"mIoU {row['miou_percent']:.2f} %, " if "miou_percent" in row else ""
            ratio = row["ratio"]
            cells.append(
                f"{score}{row['median_ms']:.2f} ms, {ratio['ratio']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
            )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@click.command()
@click.option("--data", required=True, metavar="camvid:DIR", help="Validation images with labels.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "results" / "heads.json", show_default=True)
@click.option("--rounds", type=click.IntRange(10), default=404, show_default=True)
@click.option("--images", type=click.IntRange(1), help="Score only the first N.  [default: all]")
@click.option("--core", type=int, help="Pin this process to one core.")
@click.option("--large/--no-large", default=True, show_default=True, help="The case of 512x1024 too.")
def main(data: str, out: Path, rounds: int, images: int | None, core: int | None, large: bool) -> None:
    from benchmarks.coverage import network
    from pipeline.core.files import write_atomically
    from pipeline.core.preprocessing import Preprocessing
    from pipeline.devices import connect

    if core is not None:
        os.sched_setaffinity(0, {core})
    machine, cases = connect("host").describe(), {}

    model, ranges, dataset = trained(data)
    height, width = model.input_shape[1:3]
    grid = Grid(height, width, "align_corners")
    contents = files(model, ranges)
    frames = [Preprocessing(*grid.size).tensor(sample.image(), "uint8") for sample in dataset.splits["val"]]
    click.echo("scoring", err=True)
    percent = scored(contents, dataset, grid, images)
    click.echo("timing", err=True)
    result = measured(contents, frames, grid, rounds, len(dataset.classes))
    for name, value in percent.items():
        result["heads"][name]["miou_percent"] = value
    cases[f"{height}x{width}, CamVid"] = result
    if large:
        grid = Grid(512, 1024, "align_corners")
        model, ranges = network("fast-scnn", "512x1024", 1.0, 19)
        contents = files(model, ranges)
        rng = np.random.default_rng(0)
        frames = [rng.integers(0, 256, (1, 512, 1024, 3), np.uint8) for _ in range(4)]
        cases["512x1024, 19 classes, random weights"] = measured(contents, frames, grid, rounds // 2, 19)
    content = {"machine": machine, "data": data.partition(":")[0], "split": "val", "cases": cases}
    write_atomically(out, (json.dumps(content, indent=1) + "\n").encode())
    click.echo(table(cases))
    for name, case in cases.items():
        alone = ", ".join(f"{how} {ms:.3g}" for how, ms in case["mask_alone_median_ms"].items())
        click.echo(f"{name}: the mask alone, median ms: {alone}; worst case {case['worst_case_ratio']:.2f}")


if __name__ == "__main__":
    main()
