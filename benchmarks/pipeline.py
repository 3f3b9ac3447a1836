"""What the pipeline itself costs beside the work that it cannot do without: python benchmarks/pipeline.py

    --parent FILE --data camvid:DIR     the trained Fast-SCNN on a dataset; else random weights on built-in scenes

scoring      all validation images, decoded and from the cache, against decoding, inference and metric, each measured
             alone in one thread; all three overlap over all cores. Goal: 1.2 times the largest.
calibration  each way to estimate ranges, against as many plain forward passes as it makes, both from a standing start:
             TensorFlow traces the network once for each. Goal: 1.3 times for those that see extremes, 2 for those
             that see histograms.
converting   `convert` of Fast-SCNN with calibration on 100 images, and of FCN8 from ranges that are known, each in a
             process of its own: 30 s; 5 minutes and 8 GiB.

Prints a line for each, writes results/pipeline.json.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
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

IMAGES = 100
GOALS = {"scoring": 1.2, "extremes": 1.3, "histogram": 2.0, "fast_scnn_s": 30.0, "fcn8_s": 300.0, "fcn8_gib": 8.0}


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def drain(items: Any) -> None:
    for _ in items:
        pass


def trained(parent: Path | None, data: str, size: str | None) -> tuple[Any, Any]:
    """Fast-SCNN for the dataset, and the dataset; raises the errors of both."""
    import models
    from benchmarks.coverage import network
    from pipeline.core.spec import ModelSpec
    from pipeline.data import open_dataset, source_of
    from pipeline.weights import checkpoint

    dataset = open_dataset(data)
    size = size or source_of(data).training.size or "360x480"
    if parent is None:
        return network("fast-scnn", size, 1.0, len(dataset.classes))[0], dataset
    height, width = map(int, size.split("x"))
    model = models.build(ModelSpec("fast-scnn", height, width, len(dataset.classes)))
    checkpoint.load(model, parent)
    return model, dataset


def scoring(model: Any, dataset: Any, repeats: int) -> dict[str, Any]:
    """Medians over ``repeats``, in turns."""
    from calib.ranges import measure
    from pipeline.core.device import RunnerOptions
    from pipeline.core.preprocessing import Preprocessing
    from pipeline.data.decoded import Decoded
    from pipeline.devices import connect
    from pipeline.measure.confusion import confusions
    from pipeline.measure.score import on_this_machine, runner_infer, score_masks
    from pipeline.quantize.plan import plan
    from pipeline.quantize.quantize import quantize
    from pipeline.targets import target

    samples = dataset.splits["val"][:IMAGES]
    preprocessing = Preprocessing(*model.input_shape[1:3])
    planned = plan(model)
    few = [preprocessing.tensor(sample.image(), "float32") for sample in samples[:4]]
    ranges = planned.share(measure(model, planned.points, lambda: few))
    seconds_of: dict[str, list[float]] = {}

    def note(name: str, work: Callable[[], object]) -> None:
        seconds_of.setdefault(name, []).append(seconds(work))

    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "network.tflite"
        file.write_bytes(quantize(model, ranges, target("cpu")).data)
        runner = connect("host").open(file, RunnerOptions())
        with on_this_machine(file, preprocessing) as everywhere:
            alone = runner_infer(runner, preprocessing)
            for _ in range(repeats):
                fresh = Decoded(samples)
                note("decoding", lambda d=fresh: drain(d[i] for i in range(len(d))))  # type: ignore[misc]
                pairs = [fresh[i] for i in range(len(fresh))]
                masks: list[np.ndarray] = []
                note("inference", lambda p=pairs, m=masks: m.extend(alone(image) for image, _ in p))  # type: ignore[misc]
                labelled = [(label, mask) for (_, label), mask in zip(pairs, masks, strict=True)]
                note("metric", lambda x=labelled: confusions(x, len(dataset.classes)))  # type: ignore[misc]
                again = Decoded(samples)
                for name in ("scoring", "scoring_cached"):
                    note(name, lambda d=again: score_masks(d, everywhere, dataset.classes))  # type: ignore[misc]
        runner.close()
    median = {name: float(np.median(each)) for name, each in seconds_of.items()}
    largest = max(median[name] for name in ("decoding", "inference", "metric"))
    return {
        "images": len(samples),
        "seconds": median,
        "times_largest": {name: median[name] / largest for name in ("scoring", "scoring_cached")},
    }


def calibration(model: Any, dataset: Any, count: int, repeats: int) -> dict[str, Any]:
    """By estimator: its seconds, and the ratio to those of its forward passes, each with a trace of its own."""
    import tensorflow as tf
    import tf_keras

    from calib.estimators import ESTIMATORS
    from calib.ranges import measure
    from pipeline.core.preprocessing import Preprocessing
    from pipeline.quantize.plan import plan

    preprocessing = Preprocessing(*model.input_shape[1:3])
    samples = dataset.splits["train"][:count]
    tensors = [preprocessing.tensor(sample.image(), "float32") for sample in samples]
    points = plan(model).points
    taps = tf_keras.Model(model.input, [model.get_layer(name).output for name in points])

    def passes(n: int) -> None:
        forward = tf.function(lambda image: taps(image, training=False))
        for _ in range(n):
            for image in tensors:
                forward(tf.constant(image))

    passes(1)  # what only the process's first pass costs
    results: dict[str, Any] = {}
    for name, how in ESTIMATORS.items():
        n = 1 if how.narrow is None else 2
        ratios, times = [], []
        for _ in range(repeats):
            plain = seconds(lambda n=n: passes(n))  # type: ignore[misc]
            times.append(seconds(lambda how=how: measure(model, points, lambda: tensors, how)))  # type: ignore[misc]
            ratios.append(times[-1] / plain)
        results[name] = {
            "forward_passes": n,
            "seconds": float(np.median(times)),
            "times_forward": float(np.median(ratios)),
        }
    return {"images": len(tensors), "estimators": results}


def converting(name: str, size: str, classes: int, calibrated: bool) -> dict[str, Any]:
    """Seconds and peak memory of a process that makes the int8 file; ``calibrated``: on 100 images, as PTQ does."""
    code = f"""
import resource, sys, time
began = time.perf_counter()  # before TensorFlow is loaded
sys.path.insert(0, {str(ROOT)!r})
from benchmarks.pipeline import int8_file
size_bytes = int8_file({name!r}, {size!r}, {classes}, {calibrated})
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(time.perf_counter() - began, time.process_time(), peak, size_bytes)
"""
    result = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    took, of_cpu, gib, size_bytes = map(float, result.stdout.split()[-4:])
    return {
        "network": name,
        "size": size,
        "seconds": took,
        "cpu_seconds": of_cpu,
        "peak_memory_gib": gib,
        "file_bytes": int(size_bytes),
    }


def int8_file(name: str, size: str, classes: int, calibrated: bool) -> int:
    """Bytes of the file; what `convert --target cpu` does between the weights and the disk."""
    import models
    from calib.ranges import measure
    from pipeline.core.ranges import Range
    from pipeline.core.spec import ModelSpec
    from pipeline.quantize.plan import plan
    from pipeline.quantize.quantize import quantize
    from pipeline.targets import target

    height, width = map(int, size.split("x"))
    model = models.build(ModelSpec(name, height, width, classes))
    planned = plan(model)
    if calibrated:
        rng = np.random.default_rng(0)
        images = [rng.random((1, height, width, 3), np.float32) for _ in range(4)]
        ranges = planned.share(measure(model, planned.points, lambda: (images[i % 4] for i in range(IMAGES))))
    else:
        ranges = planned.share({point: Range(-1.0, 3.0) for point in planned.points})
    return len(quantize(model, ranges, target("cpu")).data)


PARTS = ("scoring", "calibration", "fast-scnn", "fcn8")


@click.command()
@click.option("--parent", type=click.Path(exists=True, path_type=Path), help="Float weights of Fast-SCNN, .weights.h5.")
@click.option("--data", default="synthetic", show_default=True, help="Such as camvid:DIR.")
@click.option("--size", help="HEIGHTxWIDTH.  [default: the dataset's]")
@click.option("--part", "parts", type=click.Choice(PARTS), multiple=True, default=PARTS, show_default=True)
@click.option("--calibration-images", type=click.IntRange(1), default=100, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "results" / "pipeline.json", show_default=True)
def main(
    parent: Path | None,
    data: str,
    size: str | None,
    parts: tuple[str, ...],
    calibration_images: int,
    repeats: int,
    out: Path,
) -> None:
    from pipeline.core.files import write_atomically
    from pipeline.devices import connect

    results = json.loads(out.read_text()) if out.is_file() else {}
    results |= {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": connect("host").describe(),
        "data": data.partition(":")[0],
        "goals": GOALS,
    }
    model, dataset = trained(parent, data, size) if {"scoring", "calibration"} & set(parts) else (None, None)
    for part in parts:
        if part == "scoring":
            results[part] = now = scoring(model, dataset, repeats)
            click.echo(
                f"scoring {now['images']} images: {now['times_largest']['scoring']:.2f} times the largest part, from"
                f" the cache {now['times_largest']['scoring_cached']:.2f}  ("
                + ", ".join(f"{k} {v:.2f} s" for k, v in now["seconds"].items())
                + ")"
            )
        elif part == "calibration":
            results[part] = now = calibration(model, dataset, calibration_images, repeats)
            for name, estimator in now["estimators"].items():
                click.echo(
                    f"calibration {name} on {now['images']} images: {estimator['times_forward']:.2f} times its"
                    f" {estimator['forward_passes']} forward pass(es), {estimator['seconds']:.1f} s"
                )
        else:
            results[part] = now = converting(part, "360x480", 11, part == "fast-scnn")
            click.echo(
                f"converting {part} {now['size']}: {now['seconds']:.1f} s ({now['cpu_seconds']:.1f} s of CPU),"
                f" {now['peak_memory_gib']:.2f} GiB"
            )
        write_atomically(out, (json.dumps(results, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
