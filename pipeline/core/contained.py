"""What is written into a run stays in it: no link of a stranger's run leads writing to another folder."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.core.errors import RunError


def check_contained(run: Path) -> None:
    """Raises RunError where a folder in the run is a link that leads out of it; the run itself may be a link.

    Links to files are harmless: files are written beside the place and moved there, which replaces a link.
    """
    for place, folders, files in os.walk(run):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink() and (name in folders or not path.exists()):
                check_inside(run, path)


def check_inside(run: Path, path: Path) -> None:
    """Raises RunError where ``path`` is a link, or lies behind one, that leads out of the run."""
    real = os.path.realpath(path)
    if not Path(real).is_relative_to(os.path.realpath(run)):
        raise RunError(
            f"{path} leads out of the run, to {real}, and nothing is written there: replace the link with what it leads"
            f" to (`cp -RL {run} COPY` does so in a copy), or remove it."
        )
