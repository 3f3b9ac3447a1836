"""Compiles faults.c, and arms it in this process."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.torture.case import FOR_GOOD, Case

SOURCE = Path(__file__).with_name("faults.c")
LIBRARY, PRELOAD = "faults.so", "LD_PRELOAD"


def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc")


def library(home: Path) -> Path:
    """Compiled into ``home``."""
    file = home / LIBRARY
    subprocess.run(
        [str(compiler()), "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(file), str(SOURCE), "-ldl"],
        check=True,
    )
    return file


def preloaded(file: Path) -> bool:
    return os.environ.get(PRELOAD) == str(file)


def start_again_with(file: Path, environment: dict[str, str]) -> None:
    """This process, from its beginning, with the library under the C library."""
    os.execve(sys.executable, sys.orig_argv, {**os.environ, **environment, PRELOAD: str(file)})


def arm(file: Path, place: Path, case: Case | None, log: int) -> None:
    """From now on changes below ``place`` are counted, and logged to the file descriptor; ``case`` happens."""
    happening = (
        (0, 0, 0, False) if case is None else (case.before_change, case.signal, case.error, case.way == FOR_GOOD)
    )
    number, signal, error, lasting = happening
    ctypes.CDLL(str(file)).torture_arm(os.fsencode(place), ctypes.c_long(number), signal, error, int(lasting), log)
