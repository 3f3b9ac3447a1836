#!/usr/bin/env python3
"""segquant: from a Keras segmentation network to a measured 8-bit file. `python cli.py --help` says what it can do."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NEEDED = ("click", "rich", "numpy", "PIL", "tensorflow", "tf_keras", "tensorflow_model_optimization", "ai_edge_litert")


def _ensure_environment() -> None:
    """Goes on in the project's own environment when this Python lacks the dependencies, or says how to make it."""
    from importlib.util import find_spec

    missing = [name for name in NEEDED if find_spec(name) is None]
    if not missing:
        return
    python = HERE / ".venv" / "bin" / "python"
    if python.is_file() and Path(sys.prefix).resolve() != python.parent.parent.resolve():
        print(f"cli.py: this Python lacks {missing[0]}: going on with {python}", file=sys.stderr, flush=True)
        os.execv(python, [str(python), *sys.argv])
    sys.exit(
        f"cli.py: this Python ({sys.executable}) lacks {', '.join(missing)}: run `make install` in {HERE} with Python"
        " 3.11, which sets up .venv, and repeat the command."
    )


def _open_closed_streams() -> None:
    """A stream that the caller closed leads nowhere: else the next file that is opened would take its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))


def _print_any_name() -> None:
    """What the encoding of a terminal or a log lacks is escaped, as Python does it on standard error alone."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


_open_closed_streams()
_print_any_name()
_ensure_environment()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

from pipeline.cli import main  # noqa: E402

__all__ = ["main"]

if __name__ == "__main__":
    main()
