"""What people type to call this program, in messages: written as for a checkout, shown as for an installed one."""

from __future__ import annotations

import functools
import importlib.metadata
import re
import sys
from pathlib import Path

NAME, FROM_CHECKOUT = "segquant", "python cli.py"
REQUIREMENTS = re.compile(r"pip install -r requirements-(\w+)\.txt")
WEB = "--prefix web"


def as_called(text: str) -> str:
    """``text`` with the commands as they are typed here."""
    if Path(sys.argv[0]).stem != NAME:
        return text
    text = REQUIREMENTS.sub(lambda match: install_extra(match[1]), text.replace(FROM_CHECKOUT, NAME))
    return text.replace(WEB, f"--prefix {Path(__file__).resolve().parents[2] / WEB.split()[-1]}")


@functools.cache
def install_extra(name: str) -> str:
    """The command that adds the packages of an extra to the environment of this program."""
    try:
        required = importlib.metadata.requires(NAME) or []
    except importlib.metadata.PackageNotFoundError:
        required = []
    packages = " ".join(text.partition(";")[0].strip() for text in required if f'extra == "{name}"' in text)
    prefix = Path(sys.prefix)
    if (prefix / "pipx_metadata.json").is_file():
        return f"pipx inject {NAME} {packages}"
    if (prefix / "uv-receipt.toml").is_file():
        return f"uv pip install --python {prefix} {packages}"
    return f"{sys.executable} -m pip install {packages}"
