"""The command `report`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import Folder, OutputFile, complete, say, tell, write_text
from pipeline.cli.resolve import run_to_use
from pipeline.core.contained import check_inside
from pipeline.core.errors import RunError
from pipeline.core.files import write_new

FORMATS = {"html": "report.html", "md": "report.md"}


@click.command()
@click.option(
    "--run",
    "paths",
    type=Folder(),
    multiple=True,
    metavar="DIR",
    help="Run directory; several stand side by side.  [default: the latest run]",
    shell_complete=complete("runs"),
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(list(FORMATS)),
    default="html",
    show_default=True,
    help="One HTML file with pictures and charts, or the figures as Markdown for a pull request.",
)
@click.option(
    "--out",
    type=OutputFile(),
    metavar="FILE",
    help="Where it goes; - is standard output.  [default: report.html or report.md in the run]",
)
def report(paths: tuple[Path, ...], kind: str, out: str | None) -> None:
    """Write a report of one or several runs in one file: accuracy, pictures, latency, coverage, origin.

    It is made from the run directories alone, and the file loads nothing, so it can be sent. A section whose data is
    missing names the command that adds it.

    \b
      python cli.py report                                        the latest run
      python cli.py report --run runs/a --run runs/b --out a-b.html
      python cli.py report --format md --out -                    for a pull request
    """
    from pipeline.cli import VERSION
    from pipeline.report.page import report as making

    if len(paths) > 1 and out is None:
        raise RunError(f"a report of {len(paths)} runs belongs to none of them: say where it goes with --out FILE.")
    runs = tuple(run_to_use(path, say).path for path in paths or (None,))
    say(f"reading {', '.join(map(str, runs))}")
    page = making.page_of(runs, VERSION)
    text = making.html(page) if kind == "html" else making.markdown(page)
    if out is not None:
        write_text(out, text)
    else:
        check_inside(runs[0], runs[0] / FORMATS[kind])
        write_new(runs[0] / FORMATS[kind], text)
    if out != "-":
        tell(out or str(runs[0] / FORMATS[kind]))
