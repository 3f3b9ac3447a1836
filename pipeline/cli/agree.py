"""The command `agree`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.cli.bad_images import ON_BAD_IMAGE, settle_bad_images, skipped_in
from pipeline.cli.options import ARTIFACT_TARGET, JSON, RUN, quiet_tensorflow, say, write_numbers
from pipeline.cli.resolve import newest_artifact, run_to_use
from pipeline.measure.saved import AGREE, keep
from pipeline.report.agreement import show_agreement
from pipeline.targets import target as find_target


@click.command()
@RUN
@ARTIFACT_TARGET
@click.option("--images", type=click.IntRange(1), default=4, show_default=True, help="Validation images to compare on.")
@ON_BAD_IMAGE
@JSON
def agree(
    run_path: Path | None, target_name: str | None, images: int, on_bad_image: Any, json_path: str | None
) -> None:
    """Show where the Keras network and the file made from it diverge, layer by layer.

    The file runs on LiteRT's reference kernels. The Keras network computes in the same integer arithmetic and, for a
    second figure, in floating point as in training. The output names the first layer that diverges, and where it does.
    """
    quiet_tensorflow()
    from pipeline.measure import agree as agreeing

    if target_name:
        find_target(target_name)
    run = run_to_use(run_path, say, writes=True)
    settle_bad_images(run, on_bad_image, ("val",))
    artifact = newest_artifact(run, target_name, say)
    agreement = agreeing.agree(run, artifact, images, say)
    keep(AGREE, artifact.path, agreement.to_json())
    write_numbers(json_path, {**agreement.to_json(), "skipped": skipped_in(run, "val")})
    show_agreement(agreement)
