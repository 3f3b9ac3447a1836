"""The command `predict`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from pipeline.cli.given import given, no_effect
from pipeline.cli.options import ARTIFACT_TARGET, JSON, RUN, Folder, Number, say, tell, write_numbers
from pipeline.cli.resolve import newest_artifact, run_to_use
from pipeline.core.artifact import Artifact
from pipeline.core.errors import BadSpec
from pipeline.core.files import unused
from pipeline.core.number import MOST_SECONDS
from pipeline.predict.looks import KINDS, Looks, kinds_of
from pipeline.predict.segmenter import Segmenter, segmenter
from pipeline.predict.source import Moving, Stills, source_for
from pipeline.predict.stills import predict_stills
from pipeline.predict.video import predict_video
from pipeline.report.score import show_score
from pipeline.tflite.artifact import open_artifact


@click.command()
@click.argument("source", metavar="IMAGE|FOLDER|DATASET|VIDEO|CAMERA")
@RUN
@click.option(
    "--model",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A .tflite file that `convert` wrote, in place of a run's; size, classes and colours are inside it.",
)
@ARTIFACT_TARGET
@click.option(
    "--write",
    "kinds",
    metavar="KIND,...",
    help=f"Pictures to write, some of {', '.join(KINDS)}.  [default: overlay,mask, and errors where there are labels;"
    " overlay for a video]",
)
@click.option(
    "--opacity", type=Number(0, 1), default=0.5, show_default=True, help="Opacity of the colours over the image."
)
@click.option(
    "--like",
    type=click.Choice(["mediapipe"]),
    help="Make the masks as MediaPipe's ImageSegmenter makes them of the file, for an app that uses it.",
)
@click.option("--split", default="val", show_default=True, help="Which images of a dataset.")
@click.option("--images", type=click.IntRange(1), help="Only the first N images.  [default: all]")
@click.option(
    "--seconds",
    type=Number(0, MOST_SECONDS, min_open=True),
    help="Length to draw of a video or camera.  [default: to its end]",
)
@click.option(
    "--out",
    type=Folder(file_okay=False),
    metavar="DIR",
    help="Where the pictures go.  [default: a new folder in the run's predictions/, with --model in predictions/]",
)
@click.option("--force", is_flag=True, help="Replace pictures of the same names in --out.")
@JSON
def predict(
    source: str,
    run_path: Path | None,
    file: Path | None,
    target_name: str | None,
    kinds: str | None,
    opacity: float,
    like: Any,
    split: str,
    images: int | None,
    seconds: float | None,
    out: Path | None,
    force: bool,
    json_path: str | None,
) -> None:
    """Draw the masks of an artifact over images, a video or a camera, at their own size.

    \b
      python cli.py predict photo.jpg                      one image, by the latest run's artifact
      python cli.py predict holiday/ --model network.tflite
      python cli.py predict camvid:DIR --write side        with labels: image, label, prediction and errors
      python cli.py predict drive.mp4
      python cli.py predict camera:0 --seconds 20
    """
    looks = Looks(None if kinds is None else kinds_of(kinds), opacity)
    if looks.kinds is not None and not {"overlay", "side"} & set(looks.kinds):
        no_effect(f"--write {kinds}, which shows no colours over an image", "opacity")
    pictures = source_for(source, split, say)
    if isinstance(pictures, Moving) or pictures.classes is None:
        no_effect(f"{source}, which is no dataset with labels", "split")
    if isinstance(pictures, Stills) and seconds is not None:
        raise BadSpec("--seconds is for a video or a camera; --images N takes the first N images.")
    if isinstance(pictures, Moving) and images is not None:
        raise BadSpec("--images is for images; --seconds limits a video or a camera.")
    artifact, home = _artifact(file, run_path, target_name)
    folder = out or unused(home, pictures.name)
    with segmenter(artifact, like) as network:
        say(f"{artifact.path.name} ({artifact.recipe.target}) on {pictures.title}")
        if isinstance(pictures, Stills):
            chosen = dataclasses.replace(pictures, images=pictures.images[:images])
            _stills(chosen, network, looks, folder, force, json_path)
        else:
            _video(pictures, network, looks, folder, force, seconds, json_path)


def _artifact(file: Path | None, run_path: Path | None, target_name: str | None) -> tuple[Artifact, Path]:
    """The artifact, and the folder in which predictions lie."""
    if file is not None:
        if given("run_path") or given("target_name"):
            raise BadSpec("--model names the file; leave --run and --target out.")
        return open_artifact(file), Path("predictions")
    run = run_to_use(run_path, say)
    return newest_artifact(run, target_name, say), run.path / "predictions"


def _stills(stills: Stills, network: Segmenter, looks: Looks, folder: Path, force: bool, json_path: str | None) -> None:
    result = predict_stills(stills, network, looks, folder, say, force=force)
    if result.score is not None:
        show_score(result.score, f"{network.file} on {result.images} images: {stills.title}")
    count = "1 image" if result.images == 1 else f"{result.images} images"
    say(f"{count} in {result.seconds:.1f} s, {result.images / result.seconds:.1f} per second")
    for kind in result.kinds:
        tell(f"{folder / kind}")
    write_numbers(
        json_path,
        {
            "file": str(network.file),
            "source": stills.title,
            "out": str(folder),
            "kinds": list(result.kinds),
            "images": result.images,
            "seconds": result.seconds,
            "score": result.score.to_json() if result.score else None,
        },
    )


def _video(
    moving: Moving,
    network: Segmenter,
    looks: Looks,
    folder: Path,
    force: bool,
    seconds: float | None,
    json_path: str | None,
) -> None:
    result = predict_video(moving, network, looks, folder, say, force=force, seconds=seconds)
    if result.ended:
        say(f"ended {result.ended}")
    parts = ", ".join(f"{part} {ms:.1f}" for part, ms in result.part_ms.items())
    slowest, alone = result.slowest
    say(
        f"{result.frames} frames, {result.frames_per_second:.1f} per second; milliseconds a frame: {parts};"
        f" the slowest, {slowest}, reaches {alone:.1f} per second on one thread"
    )
    for path in result.files or [result.folder]:
        tell(str(path))
    write_numbers(
        json_path,
        {
            "file": str(network.file),
            "source": moving.title,
            "out": str(folder),
            "files": [str(path) for path in result.files],
            "frames": result.frames,
            "frames_per_second": result.frames_per_second,
            "part_ms": result.part_ms,
        },
    )
