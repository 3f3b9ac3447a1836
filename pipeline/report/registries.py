"""Shows everything that is registered."""

from __future__ import annotations

from rich.table import Table

from pipeline import data, devices, targets
from pipeline.core.target import Target
from pipeline.report.console import console


def _details(target: Target) -> str:
    socs = f"; SOC: {', '.join(target.socs)}" if target.socs else ""
    return f"{target.weights} weights; --io {', '.join(target.io)}{socs}"


def show_registries() -> None:
    import models  # loads TensorFlow, which the tables of measurements do not need
    from calib.estimators import ESTIMATORS
    from calib.images import SELECTIONS

    for title, rows in (
        ("models", [(n.name, n.title, n.source) for n in models.networks().values()]),
        ("datasets", [(s.name + (":DIR" if s.layout else ""), s.title, s.layout) for s in data.sources().values()]),
        (
            "targets",
            [(t.name + t.selector_help, t.title, _details(t)) for t in targets.targets().values()],
        ),
        ("calibrations", [(e.name, e.title) for e in ESTIMATORS.values()]),
        ("selections", [(e.name, e.title) for e in SELECTIONS.values()]),
        (
            "devices",
            [(d.name + d.selector_help, d.title, d.find() or "not attached") for d in devices.devices().values()],
        ),
    ):
        table = Table(
            title=title, title_justify="left", title_style="bold", show_header=False, box=None, padding=(0, 2)
        )
        for row in rows:
            table.add_row(*row)
        console().print(table)
        console().print()
