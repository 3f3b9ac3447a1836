"""Runs the fuzzers of our readers, beside each other."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.torture.server import ROOT
from tests.torture.table import Other

GRACE_SECONDS = 120
FILES = re.compile(r"^\w+: (\d+) files in ", re.MULTILINE)


def fuzz(mutants: int, seconds: float, seed: int, found: Path) -> list[Other]:
    """A batch of so many mutants, and coverage-guided files for so long; what was not answered goes to ``found``."""
    commands = {"mutants": ["tests.fuzz.batch", "--count", str(mutants), "--seed", str(seed), "--show", str(found)]}
    notes = []
    if importlib.util.find_spec("atheris") is None:
        notes.append(
            Other("guided by coverage", 0, 0, "skipped: pip install --require-hashes -r requirements-fuzz.txt")
        )
    else:
        limits = ["--seconds", str(int(seconds)), "--seed", str(seed + 1), "--found", str(found)]
        commands["guided by coverage"] = ["tests.fuzz.guided", *limits]
    logs = {name: tempfile.TemporaryFile("w+") for name in commands}
    running = {
        name: subprocess.Popen([sys.executable, "-m", *words], cwd=ROOT, stdout=logs[name], stderr=subprocess.DEVNULL)
        for name, words in commands.items()
    }
    try:
        codes = {name: _code(process, seconds) for name, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    for name, log in logs.items():
        log.seek(0)
        notes.append(_other(name, codes[name], log.read()))
    return notes


def _code(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(2 * seconds + GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _other(name: str, code: int | None, output: str) -> Other:
    if name == "mutants":
        last = output.splitlines()[-1:] or [""]
        counted = json.loads(last[0]) if last[0].startswith("{") else {"mutants": 0, "bad": 0}
        count, failed = counted["mutants"], counted["bad"]
    else:
        count, failed = sum(map(int, FILES.findall(output))), output.count("FOUND")
    if code:
        failed = max(failed, 1)
    how = f"not at its end after {GRACE_SECONDS} s more" if code is None else output[-3000:] if failed else ""
    return Other(name, count, failed, how)
