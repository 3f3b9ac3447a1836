"""The command `bundle`."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from PIL import Image

from pipeline.bundle.bundle import bundle as write_bundle
from pipeline.cli.options import RUN, Folder, complete, say, tell
from pipeline.cli.resolve import newest_artifact, run_to_use
from pipeline.core.errors import DataError
from pipeline.core.run import Run
from pipeline.data import dataset_of
from pipeline.data.decode import read_image
from pipeline.targets import target as find_target

ENLARGED = 1.25


@click.command()
@RUN
@click.option(
    "--target",
    "target_name",
    required=True,
    metavar="NAME[:SELECTOR]",
    help="Target whose newest file goes into the folder, see `list`.",
    shell_complete=complete("targets"),
)
@click.option(
    "--image",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The golden image.  [default: the first validation image, enlarged where it has the network's size]",
)
@click.option(
    "--out",
    type=Folder(file_okay=False),
    metavar="DIR",
    help="The folder.  [default: bundles/TARGET in the run, for a chip bundles/TARGET-CHIP]",
)
@click.option("--force", is_flag=True, help="Replace the files of a folder that is not empty.")
def bundle(run_path: Path | None, target_name: str, file: Path | None, out: Path | None, force: bool) -> None:
    """Write a folder for an app team: the file, its labels, mask code, and programs that check themselves.

    The programs are in Python, C++ and for a web page, which also segments what is dropped on it and the camera. Each
    compares its output and its mask with golden ones, made here of the golden image.
    """
    run = run_to_use(run_path, say, writes=True)
    artifact = newest_artifact(run, target_name, say)
    image = read_image(file) if file is not None else first_image(run)
    target = find_target(target_name)
    folder = out or run.path / "bundles" / target.text.replace(":", "-")
    result = write_bundle(artifact, target, image, folder, say, force=force)
    if result.mediapipe:
        say(f"note: MediaPipe's ImageSegmenter cannot use this file: {result.mediapipe}")
    say(f"{len(result.files)} files; README.md says how to use them")
    tell(str(result.folder))


def first_image(run: Run) -> np.ndarray:
    """The first validation image of the run's dataset, enlarged where it has the network's size; raises DataError."""
    try:
        image = dataset_of(run, "val").splits["val"][0].image()
    except DataError as error:
        raise DataError(f"{error} Give a golden image with --image FILE.") from None
    height, width = image.shape[:2]
    if (height, width) != (run.config.model.height, run.config.model.width):
        return image
    # Else an app with a wrong resize would pass.
    size = round(width * ENLARGED), round(height * ENLARGED)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
