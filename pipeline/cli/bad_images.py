"""The option --on-bad-image: what is done about images that cannot be used, and said of it at a command's end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import say
from pipeline.core.run import Run

if TYPE_CHECKING:
    from pipeline.data.bad_images import OnBadImage

ON_BAD_IMAGE = click.option(
    "--on-bad-image",
    type=click.Choice(["fail", "skip"]),
    help="What to do about images and labels that cannot be used. skip decodes all once and keeps the list in the run,"
    " so that every command uses the same images.  [default: as the run did before, else fail]",
)


def settle_bad_images(
    run: Run, on_bad_image: OnBadImage | None, splits: Sequence[str], folder: str | None = None, *, renew: bool = False
) -> None:
    """As ``settle``; the command ends with a list of the images of these splits that the run skips."""
    from pipeline.data.bad_images import settle, skipped_lines
    from pipeline.data.record import read_record
    from pipeline.data.unlabelled import folder_key

    settle(run, on_bad_image, splits, folder, say, renew=renew)
    shown = [*splits, *([folder_key(folder)] if folder else [])]

    def summary() -> None:
        skipped = read_record(run).skipped
        for line in skipped_lines({name: skipped[name] for name in shown if skipped.get(name)}):
            say(line)

    click.get_current_context().call_on_close(summary)


def skipped_in(run: Run, *splits: str) -> dict[str, dict[str, str]]:
    """For --json: split → image → why it is skipped."""
    from pipeline.data.record import read_record

    skipped = read_record(run).skipped
    return {split: skipped.get(split, {}) for split in splits}
