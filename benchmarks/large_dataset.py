"""Memory and time to the first step on a dataset of Cityscapes' size: python benchmarks/large_dataset.py FOLDER

Makes 2,975 training and 500 validation images of 1024x2048 with labels in Cityscapes' layout: a few different files
under many names (hard links), so that decoding costs what it would and the disk holds 100 MB. Then `train` and `qat`
run on them, each until it has trained for --seconds, and are stopped.

Prints for each the seconds until the first step had been taken, its processor's seconds until then, and the largest
memory so far. Links read from the page cache: on a disk the first reading takes longer.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HEIGHT, WIDTH, DIFFERENT, LABEL_IDS = 1024, 2048, 8, 34
SPLITS = {"train": 2975, "val": 500}
TRAINED = re.compile(r"building the training graph: [\d.]+ s")
"""`--verbose` says this when the first step has been taken."""


def make_dataset(home: Path, splits: dict[str, int]) -> None:
    """Scenes of smooth gradients, edges and sensor noise; their PNG files are about as large as those of Cityscapes."""
    for split, count in splits.items():
        images, labels = home / "leftImg8bit" / split / "city", home / "gtFine" / split / "city"
        for made in (images, labels):
            made.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            name = f"city_{i:06}_000000"
            image, label = images / f"{name}_leftImg8bit.png", labels / f"{name}_gtFine_labelIds.png"
            if image.exists() and label.exists():
                continue
            if i >= DIFFERENT:
                source = f"city_{i % DIFFERENT:06}_000000"
                os.link(images / f"{source}_leftImg8bit.png", image)
                os.link(labels / f"{source}_gtFine_labelIds.png", label)
                continue
            rng = np.random.default_rng((len(split), i))
            ids = rng.integers(0, LABEL_IDS, (16, 32), np.uint8).repeat(64, 0).repeat(64, 1)
            colours = rng.integers(20, 200, (LABEL_IDS, 3))
            light = np.linspace(0.6, 1.2, WIDTH)[None, :, None]
            picture = colours[ids] * light + rng.normal(0, 1.5, (HEIGHT, WIDTH, 1))
            Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(image)
            Image.fromarray(ids).save(label)


def make_run(path: Path, size: str, data: str) -> Path:
    """A run whose float network has fresh weights: QAT costs on them what it costs on trained ones."""
    import models
    from pipeline.core import run as runs
    from pipeline.core.spec import ModelSpec, parse_size
    from pipeline.core.training import FloatResult
    from pipeline.data import open_dataset
    from pipeline.weights import checkpoint

    dataset = open_dataset(data)
    spec = ModelSpec("fast-scnn", *parse_size(size), len(dataset.classes))
    run = runs.create(path, spec, data, dataset.classes, dataset.colours, 0)
    run.float_training.begin({})
    checkpoint.write(models.build(spec), run.float_training.best)
    run.float_training.finish(FloatResult(0.0, parent="fresh weights"))
    return path


class Watched:
    """A command of this program that is stopped some time after its first step."""

    def __init__(self, words: list[str], seconds: float) -> None:
        self.began = time.monotonic()
        self.first: float | None = None
        self.processor_seconds = 0.0
        self.peak_mib = 0.0
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "cli.py"), "--verbose", *words], stderr=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._watch, args=[seconds], daemon=True).start()
        self.last = ""
        for line in self.process.stderr or ():
            print(f"  {line.rstrip()[:200]}", flush=True)
            self.last = line
            if TRAINED.search(line) and self.first is None:
                self.first = time.monotonic() - self.began
        self.code = self.process.wait()

    def _watch(self, seconds: float) -> None:
        ticks = os.sysconf("SC_CLK_TCK")
        while self.process.poll() is None:
            try:
                status = Path(f"/proc/{self.process.pid}/status").read_text()
                used = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                return
            if peak := re.search(r"VmHWM:\s+(\d+)", status):
                self.peak_mib = int(peak[1]) / 1024
            if self.first is None:
                self.processor_seconds = (int(used[11]) + int(used[12])) / ticks
            elif time.monotonic() - self.began > self.first + seconds:
                self.process.terminate()
                seconds = float("inf")
            time.sleep(0.25)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--size", default="256x512", show_default=True)
@click.option("--train-images", default=SPLITS["train"], show_default=True)
@click.option("--val-images", default=SPLITS["val"], show_default=True)
@click.option("--batch", default=8, show_default=True)
@click.option("--seconds", default=60.0, show_default=True, help="To train after the first step.")
@click.option("--only", type=click.Choice(["train", "qat"]), help="One of the two.")
def main(
    folder: Path, size: str, train_images: int, val_images: int, batch: int, seconds: float, only: str | None
) -> None:
    make_dataset(folder / "data", {"train": train_images, "val": val_images})
    data, path = f"cityscapes:{folder / 'data'}", folder / f"run-{size}-{time.time():.0f}"
    options = ["--run", str(path), "--batch", str(batch), "--steps", "10000"]
    commands = {}
    if only != "qat":
        commands["train"] = ["train", "--data", data, "--size", size, *options]
    if only != "train":
        options[1] = str(make_run(Path(f"{path}-qat"), size, data))
        commands["qat"] = ["qat", *options]
    for name, words in commands.items():
        watched = Watched(words, seconds)
        first = "not taken" if watched.first is None else f"{watched.first:.0f} s"
        print(
            f"{name} {size}: first step after {first}, {watched.processor_seconds:.0f} s of processor time;"
            f" {watched.peak_mib:.0f} MiB at most; exit code {watched.code}"
        )


if __name__ == "__main__":
    main()
