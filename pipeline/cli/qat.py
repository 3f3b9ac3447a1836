"""The command `qat`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.cli.bad_images import ON_BAD_IMAGE, settle_bad_images
from pipeline.cli.given import no_effect
from pipeline.cli.options import (
    BATCH,
    FORCE,
    INIT,
    LEARNING_RATE,
    PARENT,
    PER_TENSOR,
    RUN,
    STEPS,
    Number,
    calibration_of,
    calibration_options,
    new_run_options,
    quiet_tensorflow,
    say,
    tell,
)
from pipeline.cli.resolve import Wanted, sized_as
from pipeline.cli.train import check_start, train_float_parent
from pipeline.cli.workers import run_of_workers, worker_options, workers_of
from pipeline.core.calibration import Calibration
from pipeline.core.errors import BadSpec
from pipeline.data import dataset_of


@click.command()
@RUN
@new_run_options
@PARENT
@INIT
@click.option("--steps", type=STEPS, help="Weight updates of the QAT.  [default: the dataset's]")
@click.option(
    "--float-steps",
    type=STEPS,
    metavar="N",
    help="Weight updates of the float parent, where it is trained first.  [default: the dataset's]",
)
@click.option("--batch", type=BATCH, default=8, show_default=True, help="Images per step.")
@click.option("--learning-rate", type=LEARNING_RATE, help="Highest learning rate of the QAT.  [default: the dataset's]")
@click.option(
    "--labels/--no-labels",
    default=True,
    show_default=True,
    help="Learn from the labels and the float parent, or from the float parent alone.",
)
@click.option(
    "--distil",
    type=Number(0, 1e6),
    default=10.0,
    show_default=True,
    help="Weight of the float parent's predictions in the loss.",
)
@click.option(
    "--ranges",
    type=click.Choice(["learned", "frozen"]),
    default="learned",
    show_default=True,
    help="Whether training adjusts the calibrated ranges or keeps them.",
)
@click.option(
    "--freeze-statistics",
    type=Number(0, 1),
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Share of the steps after which batch norm's statistics are frozen; 0 keeps the parent's.",
)
@click.option("--evaluations", type=STEPS, help="How many checkpoints to choose from.  [default: one every 50 steps]")
@click.option(
    "--keep",
    type=click.Choice(["judged", "last"]),
    default="judged",
    show_default=True,
    help="The best checkpoint if it is judged better than the start, else the start; or the last checkpoint anyway.",
)
@PER_TENSOR
@calibration_options
@click.option(
    "--control",
    is_flag=True,
    help="Train in float for the same steps instead: shows what the steps gain without quantization.",
)
@worker_options
@ON_BAD_IMAGE
@FORCE
def qat(  # long: one line per option
    run_path: Path | None,
    parent: Path | None,
    init: str | None,
    steps: int | None,
    float_steps: int | None,
    batch: int,
    learning_rate: float | None,
    labels: bool,
    distil: float,
    ranges: str,
    freeze_statistics: float,
    evaluations: int | None,
    keep: str,
    per_tensor: bool,
    method: str | None,
    selection: str | None,
    images: int | None,
    folder: str | None,
    control: bool,
    encoder_weights: str | None,
    workers: str | None,
    rank: int | None,
    on_bad_image: Any,
    force: bool,
    **wanted: Any,
) -> None:
    """Run quantization-aware training (QAT); train the float parent first where there is none.

    QAT starts from the float parent's weights and from ranges calibrated on training images. A fifth of the training
    images, 40 at most, is held out, and the int8 file of each checkpoint is scored on them. The best checkpoint
    replaces the start if its gain there is larger than chance explains: a one-sided test at 5 %, by the standard error
    of the gain, corrected for the number of checkpoints. With too few images held out to tell (fewer than 5 with one
    checkpoint, 7 with four) the start is kept. --keep last keeps the last checkpoint instead: images held out that the
    float parent was trained on hardly show a gain. The validation images are only reported on; they choose nothing.
    """
    if parent is not None and float_steps is not None:
        raise BadSpec("--float-steps is for training a float parent, and --parent gives one: leave one of them out.")
    check_start(parent, init)
    if control:
        no_effect("--control, which trains in float", "ranges", "per_tensor", "method", "selection", "images")
        if labels:
            no_effect("--control, which trains in float on the labelled images", "folder")
    team = workers_of(workers, rank, batch)
    quiet_tensorflow(team)
    from pipeline.train.adopt import adopt
    from pipeline.train.feed import Augmentation
    from pipeline.train.initialize import check_encoder, check_started_from
    from pipeline.train.qat import QatOptions
    from pipeline.train.qat import qat as train_quantized
    from pipeline.train.schedule import Schedule
    from pipeline.train.train import defaults_of, float_training

    described = sized_as(parent, Wanted(**wanted), run_path, say)
    run = click.get_current_context().with_resource(run_of_workers(team, run_path, described))
    force = force and (team is None or team.leads)  # the chief has begun anew already
    defaults = defaults_of(run)
    steps = steps or defaults.qat_steps
    schedule = Schedule(
        steps,
        batch,
        learning_rate or defaults.qat_learning_rate,
        evaluations=evaluations or max(1, steps // 50),
        labels=labels,
        distil=distil,
        statistics_until=freeze_statistics,
    )
    chosen = {"method": method, "selection": selection, "images": images, "folder": folder}
    qat_options = QatOptions(
        Augmentation.of(defaults),
        calibration_of(chosen) or Calibration(),
        per_tensor,
        ranges == "learned",
        control,
        keep == "last",
    )
    settle_bad_images(run, on_bad_image, ("train", "val"), folder, renew=force)
    if encoder_weights is not None:
        check_encoder(run, encoder_weights)
    if parent is not None:
        adopt(run, parent, say, force=force)
    elif (missing := float_training(run, float_steps, batch, encoder_weights, init)) is not None:
        if team is not None:
            raise BadSpec(
                f"{run.path} has no float parent yet, and --workers train one network at a time: run `train` with the"
                " same --workers first, or give trained weights with --parent."
            )
        count = len(dataset_of(run, "train", renew=force).splits["train"])
        say(
            "there is no float parent in this run: training it first. Plan:"
            f" {missing.schedule.steps} float steps (--float-steps), then {steps} {'control' if control else 'QAT'}"
            f" steps (--steps), on {count} training images. An estimate of the time follows the first steps."
        )
        train_float_parent(run, missing, False)
    elif init is not None:
        check_started_from(run, init)
    result = train_quantized(run, schedule, qat_options, say, force=force)
    what = "float control: val mIoU" if control else "QAT network: val mIoU of its int8 file"
    tell(f"{what} {result.val_miou_percent:.2f} %, {result.seconds:.0f} s")
    if not control:
        say(f"next: python cli.py convert --target cpu{f' --run {run.path}' if run_path else ''}")
