"""The command `evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.cli.bad_images import ON_BAD_IMAGE, settle_bad_images, skipped_in
from pipeline.cli.given import no_effect
from pipeline.cli.options import (
    ARTIFACT_TARGET,
    IMAGES,
    JSON,
    RUN,
    pool_options,
    quiet_tensorflow,
    say,
    split_option,
    write_numbers,
)
from pipeline.cli.resolve import newest_artifact, run_to_use
from pipeline.core.pool import Pool
from pipeline.data import TEST, dataset_to_score, split_to_score
from pipeline.data.decoded import Decoded
from pipeline.measure.score import on_this_machine, score_masks
from pipeline.report.score import show_score
from pipeline.targets import target as find_target


@click.command()
@RUN
@click.option(
    "--weights",
    type=click.Choice(["float", "artifact"]),
    default="artifact",
    show_default=True,
    help="Score the float network in Keras, or the artifact in LiteRT.",
)
@ARTIFACT_TARGET
@split_option("val", "train", TEST)
@IMAGES
@ON_BAD_IMAGE
@pool_options
@JSON
def evaluate(
    run_path: Path | None,
    weights: str,
    target_name: str | None,
    split: str,
    images: int | None,
    on_bad_image: Any,
    jobs: int,
    cluster: str | None,
    json_path: str | None,
) -> None:
    """Score the float network in Keras, or an artifact in LiteRT, on labelled images."""
    pool = Pool(jobs, cluster)
    if weights == "float":
        no_effect("--weights float", "target_name")
    quiet_tensorflow()
    from pipeline.convert import parent
    from pipeline.measure.score_shards import score_shard, score_spread
    from pipeline.measure.weights_shards import score_weights_shard
    from pipeline.train.train import keras_infer

    if target_name:
        find_target(target_name)
    run = run_to_use(run_path, say)
    what = run.float_training.best if weights == "float" else newest_artifact(run, target_name, say).path
    split = split_to_score(run, split, say)
    settle_bad_images(run, on_bad_image, (split,))
    dataset = dataset_to_score(run, split)
    decoded = Decoded(dataset.splits[split])
    if not pool.here:
        work = score_weights_shard if weights == "float" else score_shard
        score = score_spread(run, split, what, images, pool, say, work)
    elif weights == "float":
        score = score_masks(decoded, keras_infer(parent.load_float(run, what)), dataset.classes, images, say)
    else:
        with on_this_machine(what, run.preprocessing, run.config.model.resize) as infer:
            score = score_masks(decoded, infer, dataset.classes, images, say)
    show_score(score, f"{what} on {dataset.counted(split, score.images)} {split} images of {run.config.data}")
    if (note := run.config.division.note_on(split)) is not None:
        say(f"note: {note}")
    numbers = {"what": str(what), "split": split, **score.to_json(), "skipped": skipped_in(run, split), "note": note}
    write_numbers(json_path, numbers)
