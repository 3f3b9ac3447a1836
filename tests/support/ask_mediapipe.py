"""Asks the MediaPipe of `.mediapipe`, an environment of its own, what it makes of a file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT

PYTHON = ROOT / ".mediapipe" / "bin" / "python"
WORKER = Path(__file__).with_name("mediapipe_worker.py")


def asked(file: Path, images: Mapping[str, np.ndarray], folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What it says of the file, and its masks of the images by their names; see mediapipe_worker.py."""
    if not PYTHON.exists():
        pytest.skip("MediaPipe is not installed: run `make test-real`, which makes .mediapipe")
    np.savez(folder / "images.npz", **dict[str, Any](images))
    command = [str(PYTHON), str(WORKER), str(file), str(folder / "images.npz"), str(folder / "masks.npz")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1]), dict(np.load(folder / "masks.npz"))
