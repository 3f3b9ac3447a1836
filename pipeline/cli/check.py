"""The command `check`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
import numpy as np

from pipeline.check.check import Checked
from pipeline.check.check import check as look_at
from pipeline.check.sheet import sheet
from pipeline.cli.given import no_effect
from pipeline.cli.options import BATCH, JSON, STEPS, complete, quiet_tensorflow, say, tell, write_numbers
from pipeline.core.dataset import Dataset, TrainingDefaults
from pipeline.core.errors import DataError
from pipeline.core.files import unused, write_atomically
from pipeline.core.spec import ModelSpec, parse_size
from pipeline.data import open_dataset, source_of
from pipeline.predict.looks import encoded
from pipeline.report.checked import show_checked, show_training_time

SIZE = "360x480"
"""To time a training at where neither the user nor the dataset gives one: that of the weights that ship."""


@click.command()
@click.argument("data", metavar="NAME[:DIR]", shell_complete=complete("datasets"))
@click.option(
    "--sheet",
    "sheet_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.png",
    help="Where the contact sheet goes.  [default: a new file contact-sheet-NAME.png]",
)
@click.option("--no-sheet", is_flag=True, help="Draw no contact sheet.")
@click.option(
    "--model",
    "network",
    default="fast-scnn",
    show_default=True,
    metavar="NAME",
    help="Network to time.",
    shell_complete=complete("networks"),
)
@click.option(
    "--size",
    metavar="HEIGHTxWIDTH",
    help=f"Input size to time the training at.  [default: the dataset's, else {SIZE}]",
)
@click.option("--batch", type=BATCH, default=8, show_default=True, help="Images per step, to time.")
@click.option("--steps", type=STEPS, help="Weight updates to estimate the time of.  [default: the dataset's]")
@click.option("--no-time", is_flag=True, help="Take no training steps to estimate their time.")
@click.option(
    "--on-bad-image",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="Whether an image that cannot be used is an error, or is left out, as by `train --on-bad-image skip`.",
)
@JSON
def check(
    data: str,
    sheet_path: Path | None,
    no_sheet: bool,
    network: str,
    size: str | None,
    batch: int,
    steps: int | None,
    no_time: bool,
    on_bad_image: str,
    json_path: str | None,
) -> None:
    """Check a dataset before it is trained on.

    Opens every image and label of both splits, counts the pixels of each class, and looks for what spoils a training:
    files that cannot be used, absent and rare classes, images that are in both splits, masks that look shifted or
    inverted. The contact sheet shows some images with their masks: look at it. A few real training steps tell how long
    a training would take here. Exit code 2 where there is an error.

    \b
      python cli.py check folder:photos
    """
    if no_sheet:
        no_effect("--no-sheet", "sheet_path")
    if no_time:
        no_effect("--no-time", "network", "size", "batch", "steps")
    if size is not None:
        parse_size(size)
    if sheet_path is not None and sheet_path.exists() and not no_sheet:  # before all files are read
        raise DataError(f"{sheet_path} is there already: name another file with --sheet.")
    dataset = open_dataset(data)
    checked = look_at(dataset, say, skip_bad_images=on_bad_image == "skip")
    show_checked(checked)
    defaults = source_of(data).training
    defaults = dataclasses.replace(
        defaults,
        size=size or defaults.size,
        steps=steps or defaults.steps,
        tuning_steps=steps or defaults.tuning_steps,
    )
    timed = None if no_time or not checked.usable else _timed(dataset, checked, defaults, network, batch)
    write_numbers(json_path, {**checked.to_json(), "training_time": timed})
    if not no_sheet:
        path = sheet_path or unused(Path(), f"contact-sheet-{source_of(data).name}", ".png")
        write_atomically(path, encoded("mask", sheet(dataset)))
        tell(str(path))
    if not checked.usable:
        count = sum(finding.level == "error" for finding in checked.findings)
        errors = f"{count} errors" if count > 1 else "an error"
        raise DataError(f"{data} has {errors}, listed above: mend that before training.")


def _usable(dataset: Dataset, checked: Checked) -> Dataset:
    """Without the images that cannot be used."""
    splits = {s: tuple(x for x in each if x.name not in checked.unusable[s]) for s, each in dataset.splits.items()}
    return dataclasses.replace(dataset, splits=splits)


def _timed(dataset: Dataset, checked: Checked, defaults: TrainingDefaults, network: str, batch: int) -> dict[str, Any]:
    if defaults.size is None:
        say(f"the time is that of a training at {SIZE}: --size HEIGHTxWIDTH takes another")
    quiet_tensorflow()
    from pipeline.train.estimate import estimate

    height, width = parse_size(defaults.size or SIZE)
    spec, pixels = ModelSpec(network, height, width, len(dataset.classes)), np.array(checked.splits["train"].pixels)
    time = estimate(spec, _usable(dataset, checked), pixels, defaults, batch, say)
    show_training_time(time)
    return time.to_json()
