"""The command `list`."""

from __future__ import annotations

import click

from pipeline.cli.options import quiet_tensorflow
from pipeline.report.registries import show_registries


@click.command("list")
def list_() -> None:
    """List the models, datasets, targets and devices."""
    quiet_tensorflow()
    show_registries()
