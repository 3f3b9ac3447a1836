"""A run that needs no training: drawn weights, five images, a float and an int8 file, to be measured quickly."""

import numpy as np
from PIL import Image

from pipeline.core.file_spec import FLOAT32, FileSpec
from pipeline.core.recipe import Recipe
from pipeline.core.run import create
from pipeline.core.spec import ModelSpec
from pipeline.measure.plan import BenchPlan
from pipeline.measure.timing import Protocol
from pipeline.tflite import artifact as artifacts
from tests.conftest import file_of, still

IMAGES = 5
QUICK = Protocol("quick", runs=4, seconds=0.0, starts=2, warmup_runs=1, warmup_seconds=0.0, settle_seconds=0.0)


def small_data(home, height, width):
    """Makes a dataset of five images in ``home``; its name."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (home / "data" / split / kind).mkdir(parents=True)
        for i in range(IMAGES):
            image = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
            image = image.repeat(8, 0).repeat(8, 1)[:height, :width]
            Image.fromarray(image).save(home / "data" / split / "images" / f"{i}.png")
            label = rng.integers(0, 5, image.shape[:2], np.uint8)
            Image.fromarray(label).save(home / "data" / split / "masks" / f"{i}.png")
    (home / "data" / "classes.txt").write_text("".join(f"{name}\n" for name in "abcde"))
    return f"folder:{home / 'data'}"


def empty_run(home, **options):
    """A run of Fast-SCNN on such data, of the size that the tests' networks have, without weights."""
    height, width = still("fast-scnn").input_shape[1:3]
    spec = ModelSpec("fast-scnn", height, width, 5, **options)
    return create(home / "run", spec, small_data(home, height, width), "abcde", [(i, i, i) for i in range(5)], 0)


def small_run(home):
    """What to measure of it, the files named as `convert` does."""
    run = empty_run(home)
    converted = [
        artifacts.write(
            run.artifacts(target) / f"fast-scnn-{name}.tflite",
            data,
            Recipe(target, spec),
        )
        for target, name, spec, data in (
            ("float32", "float32", FLOAT32, file_of("fast-scnn", FLOAT32)),
            ("cpu", "int8", FileSpec(), file_of("fast-scnn", FileSpec())),
        )
    ]
    return BenchPlan(run, converted[1], converted[0], protocol=QUICK)
