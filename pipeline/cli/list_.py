"""The command `list`."""

from __future__ import annotations

import click

from pipeline.cli.options import quiet_tensorflow, tell
from pipeline.core.run import RUNS
from pipeline.core.runs import summaries


@click.command("list")
@click.option("--runs", "of_runs", is_flag=True, help="List the runs in runs/ instead, the newest first.")
def list_(of_runs: bool) -> None:
    """List the models, datasets, targets and devices.

    With --runs, the runs: what each was trained on, the mIoU that its trainings reached on the validation images, its
    artifacts and its newest measurement.
    """
    if of_runs:
        from pipeline.report.runs import show_runs

        if runs := summaries():
            show_runs(runs)
        else:
            tell(f"there is no run in {RUNS}/ yet: `python cli.py qat` makes one")
        return
    quiet_tensorflow()
    from pipeline.report.registries import show_registries

    show_registries()
