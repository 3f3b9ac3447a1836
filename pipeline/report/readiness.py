"""Shows what is ready on this machine."""

from __future__ import annotations

from rich.table import Table

from pipeline import devices, targets
from pipeline.report.console import console


def show_readiness() -> None:
    """Each target and device: ready on this machine, or the command that makes it ready."""
    table = Table()
    for name in ("", "name", "what", "ready"):
        table.add_column(name, overflow="fold")
    for target in targets.targets().values():
        needed = target.missing() if target.missing else None
        compiled = "with its compiler" if target.missing else "no compiler needed"
        table.add_row("target", target.name, target.title, f"no: {needed}" if needed else f"yes, {compiled}")
    for device in devices.devices().values():
        attached = device.find()
        ready = f"yes, {attached}" if attached else f"no: {device.missing()}"
        table.add_row("device", device.name + device.selector_help, device.title, ready)
    console().print(table)
    console().print("convert and inspect work without a target's compiler; only the compiled file needs it.")
