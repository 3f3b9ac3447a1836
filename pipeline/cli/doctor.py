"""The command `doctor`."""

from __future__ import annotations

import click

from pipeline.report.readiness import show_readiness


@click.command()
def doctor() -> None:
    """Say of each target and device whether it is ready on this machine, and the one command that makes it so."""
    show_readiness()
