"""The C form of the exact mask, compiled here and called as an app calls it, for benchmarks/peer_worker.py."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = Path(__file__).resolve().parent.parent / "pipeline" / "heads" / "segquant_mask.c"
FLAGS = ("-std=c99", "-O3")
"""Without -march: the code that every x86-64 machine runs."""
CONVENTIONS = {"align_corners": 0, "half_pixel": 1}


def compiled(folder: Path) -> Path:
    library = folder / "segquant_mask.so"
    subprocess.run(["cc", *FLAGS, "-shared", "-fPIC", "-o", str(library), str(SOURCE)], check=True)
    return library


class ExactMask:
    """int8 logits [1, h, w, classes], or float32 ones that are first rounded to int8, → ``mask`` uint8 [height, width].

    ``said``: library, size [height, width], resize; for float logits scale and zero_point of the int8 network's.
    """

    def __init__(self, said: dict[str, Any]) -> None:
        self.call = ctypes.CDLL(said["library"]).segquant_mask
        self.mask = np.zeros(said["size"], np.uint8)
        self.resize = CONVENTIONS[said["resize"]]
        self.inverse = np.float32(1 / said["scale"])
        self.zero_point = np.float32(said["zero_point"])
        self.scratch = np.zeros(4 * self.mask.shape[1], np.int32)
        self.steps = np.zeros(0, np.float32)

    def rounded(self, logits: np.ndarray) -> np.ndarray:
        if self.steps.shape != logits.shape:
            self.steps, self.codes = np.empty_like(logits), np.empty(logits.shape, np.int8)
        np.multiply(logits, self.inverse, out=self.steps)
        np.add(self.steps, self.zero_point, out=self.steps)
        np.rint(self.steps, out=self.steps)
        np.clip(self.steps, -128, 127, out=self.steps)
        np.copyto(self.codes, self.steps, casting="unsafe")
        return self.codes

    def __call__(self, logits: np.ndarray) -> None:
        if logits.dtype == np.float32:
            logits = self.rounded(logits)
        _, h, w, classes = logits.shape
        height, width = self.mask.shape
        code = self.call(
            logits.ctypes.data_as(ctypes.c_void_p), h, w, classes, ctypes.c_size_t(w * classes),
            self.mask.ctypes.data_as(ctypes.c_void_p), height, width, ctypes.c_size_t(width), self.resize,
            self.scratch.ctypes.data_as(ctypes.c_void_p),
        )  # fmt: skip
        assert code == 0, code
