"""Writes the licences of docs/supply-chain.md from the installed packages: python docs/dependencies.py [--check]

Its rows are the packages of requirements.txt, with the versions that are pinned there. --check writes nothing, and
names what differs; then the exit code is 1. It needs Python's standard library alone.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "supply-chain.md"
BEGIN, END = "<!-- licences: docs/dependencies.py -->\n", "<!-- /licences -->\n"
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)", re.MULTILINE)
TOLD_ELSEWHERE = {"namex": "Apache-2.0", "kiwisolver": "BSD-3-Clause", "matplotlib": "PSF-2.0 (matplotlib's own)"}
"""Package → its licence, where its metadata tell none in a few words; from its repository."""
LONGEST = 60


def licence_of(package: str) -> str:
    """Raises LookupError for a package that is not installed or tells no licence."""
    if package in TOLD_ELSEWHERE:
        return TOLD_ELSEWHERE[package]
    metadata = importlib.metadata.metadata(package)
    kinds = [kind for kind in metadata.get_all("Classifier") or [] if kind.startswith("License ::")]
    expressions = metadata.get_all("License-Expression") or [kind.split(" :: ")[-1] for kind in kinds]
    named = (expressions or metadata.get_all("License") or [""])[0]
    first = named.strip().partition("\n")[0][:LONGEST]
    if not first:
        raise LookupError(f"{package} tells no licence: look it up, and add it to TOLD_ELSEWHERE")
    return first


def table() -> str:
    rows = [
        f"| {name} | {version} | {licence_of(name)} |" for name, version in PIN.findall(requirements("requirements"))
    ]
    return "\n".join(("| package | version | licence |", "|---|---|---|", *rows)) + "\n"


def requirements(name: str) -> str:
    return (ROOT / f"{name}.txt").read_text()


def main(check: bool) -> int:
    before, rest = PAGE.read_text().split(BEGIN)
    page = f"{before}{BEGIN}{table()}{END}{rest.split(END)[1]}"
    if page == PAGE.read_text():
        return 0
    if check:
        print("docs/supply-chain.md differs from requirements.txt: run python docs/dependencies.py", file=sys.stderr)
        return 1
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
