"""segquant_mask.c on this machine: built with its C compiler, called through ctypes."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import ArtifactError, CompilerError
from pipeline.core.mask import Grid
from pipeline.core.spec import Resize
from pipeline.heads.shipping import SOURCES

CONVENTIONS: dict[Resize, int] = {"align_corners": 0, "half_pixel": 1}
"""As segquant_mask.h numbers them."""
STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror")
TIMEOUT_SECONDS = 120


def compiler() -> str | None:
    """The C compiler of this machine, or None."""
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def build(sources: Sequence[Path], to: Path, *flags: str) -> Path:
    """Compiles C; raises CompilerError with what the compiler said, or how to install one."""
    cc = compiler()
    if cc is None:
        raise CompilerError("there is no C compiler: install one (`apt-get install gcc libc6-dev`).")
    command = [cc, *STRICT, *flags, f"-I{SOURCES[0].parent}", *map(str, sources), "-o", str(to)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    if done.returncode:
        raise CompilerError(f"{' '.join(command)} failed: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return to


class NativeMask:
    """The C functions, loaded. Not to be used by two threads at once: it keeps the scratch memory."""

    def __init__(self, folder: Path, *flags: str) -> None:
        """Builds the library in ``folder``; raises CompilerError."""
        library = ctypes.CDLL(str(build(SOURCES[:1], folder / "segquant_mask.so", "-O2", "-shared", "-fPIC", *flags)))
        pointer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
        self._mask, self._expand = library.segquant_mask, library.segquant_expand
        self._mask.argtypes = [pointer, number, number, number, size, pointer, number, number, size, number, pointer]
        self._expand.argtypes = [pointer, number, number, pointer, number, number, size, number, pointer]
        self._scratch = np.empty(0, np.int32)

    def exact(self, logits: np.ndarray, grid: Grid, mask: np.ndarray | None = None) -> np.ndarray:
        """As ``core.mask.exact_mask``; ``mask``, C-contiguous uint8 [height, width], is where it goes."""
        rows, columns, classes = logits.shape
        given = np.ascontiguousarray(logits, np.int8)
        return self._called(self._mask, given, (rows, columns, classes, columns * classes), columns, grid, mask)

    def nearest(self, classes: np.ndarray, grid: Grid, mask: np.ndarray | None = None) -> np.ndarray:
        """As ``core.mask.nearest_mask``."""
        given = np.ascontiguousarray(classes, np.int32)
        return self._called(self._expand, given, given.shape, given.shape[1], grid, mask)

    def _called(
        self,
        function: Any,
        given: np.ndarray,
        sizes: Sequence[int],
        columns: int,
        grid: Grid,
        mask: np.ndarray | None,
    ) -> np.ndarray:
        if mask is None:
            mask = np.empty(grid.size, np.uint8)
        if self._scratch.size < 2 * columns + 3:  # never less than SEGQUANT_MASK_SCRATCH
            self._scratch = np.empty(2 * columns + 3, np.int32)
        code = function(
            given.ctypes.data,
            *sizes,
            mask.ctypes.data,
            grid.height,
            grid.width,
            grid.width,
            CONVENTIONS[grid.resize],
            self._scratch.ctypes.data,
        )
        if code:
            raise ArtifactError(f"segquant_mask.c refuses {given.shape} for {grid}: error {code} of segquant_mask.h.")
        return mask
