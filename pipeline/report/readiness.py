"""What is ready on this machine."""

from __future__ import annotations

from rich.table import Table

from pipeline import devices, targets
from pipeline.report.console import console


def show_readiness() -> None:
    """Each target and device: ready on this machine, or the one command that makes it so."""
    table = Table()
    for name in ("", "name", "what", "ready"):
        table.add_column(name, overflow="fold")
    for target in targets.targets().values():
        needed = target.missing() if target.missing else None
        compiled = "its compiler too" if target.missing else "nothing to compile"
        table.add_row("target", target.name, target.title, f"no: {needed}" if needed else f"yes, {compiled}")
    for device in devices.devices().values():
        there = device.find()
        ready = f"yes, {there}" if there else f"no: {device.missing()}"
        table.add_row("device", device.name + device.selector_help, device.title, ready)
    console().print(table)
    console().print(
        "Without its compiler a target can still be converted for and inspected; only the compiled file is missing."
    )
