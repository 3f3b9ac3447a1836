"""The command `calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from calib.estimators import ESTIMATORS
from pipeline.cli.bad_images import ON_BAD_IMAGE, settle_bad_images, skipped_in
from pipeline.cli.options import JSON, PER_TENSOR, RUN, pool_options, quiet_tensorflow, say, write_numbers
from pipeline.cli.resolve import run_to_use
from pipeline.core.pool import Pool
from pipeline.report.sweep import show_sweep


@click.command()
@RUN
@click.option(
    "--calibration",
    "methods",
    multiple=True,
    metavar="NAME",
    help="How ranges are estimated, see `list`; may be repeated.  [default: all]",
)
@click.option(
    "--select",
    "selections",
    multiple=True,
    metavar="NAME",
    help="How images are chosen, see `list`; may be repeated.  [default: all]",
)
@click.option(
    "--images",
    "counts",
    type=click.IntRange(1),
    multiple=True,
    default=(8, 32, 100),
    show_default=True,
    metavar="N",
    help="How many images to calibrate on; may be repeated.",
)
@click.option(
    "--images-from", "folder", metavar="DIR", help="Images without labels to use in place of the training images."
)
@PER_TENSOR
@ON_BAD_IMAGE
@pool_options
@JSON
def calibrate(
    run_path: Path | None,
    methods: tuple[str, ...],
    selections: tuple[str, ...],
    counts: tuple[int, ...],
    folder: str | None,
    per_tensor: bool,
    on_bad_image: Any,
    jobs: int,
    cluster: str | None,
    json_path: str | None,
) -> None:
    """Compare ways to calibrate: the estimator, the choice of images and their number.

    Quantizes the float network after training in every combination and scores each int8 file on the validation
    images. A repeated command goes on where it was interrupted. Use the best combination with
    `convert --method ptq --calibration NAME ...`.
    """
    pool = Pool(jobs, cluster)
    quiet_tensorflow()
    from calib.images import SELECTIONS
    from pipeline.measure.sweep import sweep

    run = run_to_use(run_path, say, writes=True)
    settle_bad_images(run, on_bad_image, ("train", "val"), folder)
    ways = [way for way in SELECTIONS if not (folder and way == "class-balanced")]
    result = sweep(run, methods or list(ESTIMATORS), selections or ways, counts, per_tensor, folder, say, pool)
    write_numbers(json_path, {**result.to_json(), "skipped": skipped_in(run, "train", "val")})
    show_sweep(result)
