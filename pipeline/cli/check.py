"""The command `check`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.check.check import check as look_at
from pipeline.check.sheet import sheet
from pipeline.cli.options import JSON, say, tell, write_numbers
from pipeline.core.errors import DataError
from pipeline.core.files import write_atomically
from pipeline.data import open_dataset, source_of
from pipeline.predict.looks import encoded
from pipeline.report.checked import show_checked


@click.command()
@click.argument("data", metavar="NAME[:DIR]")
@click.option(
    "--sheet",
    "sheet_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.png",
    help="Where the contact sheet goes.  [default: a new file contact-sheet-NAME.png]",
)
@click.option("--no-sheet", is_flag=True, help="Draw no contact sheet.")
@JSON
def check(data: str, sheet_path: Path | None, no_sheet: bool, json_path: str | None) -> None:
    """Check a dataset before it is trained on.

    Opens every image and label of both splits, counts the pixels of each class, and looks for what spoils a training:
    files that cannot be used, absent and rare classes, images that are in both splits, masks that look shifted or
    inverted. The contact sheet shows some images with their masks: look at it. Exit code 2 where there is an error.

    \b
      python cli.py check folder:photos
    """
    dataset = open_dataset(data)
    checked = look_at(dataset, say)
    show_checked(checked)
    write_numbers(json_path, checked.to_json())
    if not no_sheet:
        path = sheet_path or _new_file(source_of(data).name)
        if path.exists():
            raise DataError(f"{path} is there already: name another file with --sheet.")
        write_atomically(path, encoded("mask", sheet(dataset)))
        tell(str(path))
    if not checked.usable:
        count = sum(finding.level == "error" for finding in checked.findings)
        errors = f"{count} errors" if count > 1 else "an error"
        raise DataError(f"{data} has {errors}, listed above: mend that before training.")


def _new_file(name: str) -> Path:
    path, number = Path(f"contact-sheet-{name}.png"), 1
    while path.exists():
        number += 1
        path = Path(f"contact-sheet-{name}-{number}.png")
    return path
