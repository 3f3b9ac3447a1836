"""The command `train`."""

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
    RUN,
    STEPS,
    new_run_options,
    quiet_tensorflow,
    say,
    tell,
)
from pipeline.cli.resolve import Wanted, sized_as
from pipeline.cli.workers import run_of_workers, worker_options, workers_of
from pipeline.core.errors import BadSpec


def train_float_parent(run: Any, training: Any, force: bool, precision: Any = "float32") -> None:
    from pipeline.train.feed import Augmentation
    from pipeline.train.train import defaults_of
    from pipeline.train.train import train as train_float

    defaults = defaults_of(run)
    result = train_float(
        run,
        training.schedule,
        Augmentation.of(defaults),
        say,
        encoder_weights=training.encoder_weights,
        init=training.init,
        precision=precision,
        force=force,
    )
    tell(
        f"float network: val mIoU {result.best_val_miou_percent:.2f} % (best of {len(result.history)}"
        f" evaluations), last {result.last_val_miou_percent:.2f} %, {result.seconds:.0f} s"
    )


def check_start(parent: Path | None, init: str | None) -> None:
    """Raises BadSpec where more than one of --parent, --init and --encoder-weights is given."""
    if parent is not None and init is not None:
        raise BadSpec("--parent takes weights as they are, and --init starts a training from them: leave one out.")
    for option, value in (("--parent", parent), ("--init", init)):
        if value is not None:
            no_effect(f"{option}, which gives the encoder's weights as well", "encoder_weights")


@click.command()
@RUN
@new_run_options
@click.option("--steps", type=STEPS, help="Weight updates.  [default: the dataset's]")
@click.option("--batch", type=BATCH, default=8, show_default=True, help="Images per step.")
@click.option(
    "--learning-rate",
    type=LEARNING_RATE,
    help="Highest learning rate; decays polynomially to 0.  [default: the dataset's]",
)
@PARENT
@INIT
@click.option(
    "--precision",
    type=click.Choice(["float32", "mixed"]),
    default="float32",
    show_default=True,
    help="mixed: layers compute in float16, weights stay float32; faster on GPUs.",
)
@worker_options
@ON_BAD_IMAGE
@FORCE
def train(
    run_path: Path | None,
    parent: Path | None,
    init: str | None,
    steps: int | None,
    batch: int,
    learning_rate: float | None,
    encoder_weights: str | None,
    precision: Any,
    workers: str | None,
    rank: int | None,
    on_bad_image: Any,
    force: bool,
    **wanted: Any,
) -> None:
    """Train the float parent.

    Uses the latest run when it fits the options, else makes a new one. The loss is class-weighted cross entropy with a
    soft Jaccard loss; the best and the last checkpoint are kept. Interrupt it with Ctrl-C, and repeat the command to
    resume.
    """
    check_start(parent, init)
    if parent is not None:
        training = ("steps", "batch", "learning_rate", "precision", "workers", "rank")
        no_effect("--parent, which takes weights as they are", *training)
    team = workers_of(workers, rank, batch)
    quiet_tensorflow(team)
    from pipeline.train.adopt import adopt
    from pipeline.train.train import FloatTraining, float_schedule

    described = sized_as(parent, Wanted(**wanted), run_path, say)
    run = click.get_current_context().with_resource(run_of_workers(team, run_path, described))
    force = force and (team is None or team.leads)  # the chief has begun anew already
    settle_bad_images(run, on_bad_image, ("train", "val"), renew=force)
    if parent is not None:
        adopt(run, parent, say, force=force)
    else:
        schedule = float_schedule(run, steps, batch, learning_rate, tuning=init is not None)
        train_float_parent(run, FloatTraining(schedule, encoder_weights, init), force, precision)
