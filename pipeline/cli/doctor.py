"""The command `doctor`."""

from __future__ import annotations

import click

from pipeline.report.readiness import show_readiness


@click.command()
def doctor() -> None:
    """Show whether each target and device is ready on this machine, and the command that makes it ready."""
    show_readiness()
