"""The table of the runs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from pipeline.core.runs import RunSummary
from pipeline.report.console import console


def show_runs(runs: Sequence[RunSummary]) -> None:
    """One row per run; those that are broken below, each with the reason."""
    table = Table()
    for heading in ("run", "network", "data", "size", "val mIoU", "artifacts", "newest measurement"):
        table.add_column(heading, overflow="fold")
    for each in runs:
        if each.run is not None:
            config = each.run.config
            files = ", ".join(f"{target} ({count})" if count > 1 else target for target, count in each.artifacts)
            row = (str(each.path), config.model.network, config.data, config.model.size)
            table.add_row(*row, each.state, files, each.measured)
    if table.row_count:
        console().print(table)
    for each in runs:
        if each.run is None:
            console().print(f"{each.path}  {each.state}")
