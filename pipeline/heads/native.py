"""segquant_mask.c on this machine: built with its C compiler, called through ctypes."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import ArtifactError, CompilerError
from pipeline.core.mask import Grid
from pipeline.core.program import NotEnded, run
from pipeline.core.spec import Resize
from pipeline.heads.shipping import SOURCES

CONVENTIONS: dict[Resize, int] = {"align_corners": 0, "half_pixel": 1}
"""As segquant_mask.h numbers them."""
STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror")
TIMEOUT_SECONDS = 120


def compiler() -> str | None:
    """The C compiler of this machine, or None."""
    return next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)


def build(sources: Sequence[Path], to: Path, *flags: str) -> Path:
    """Compiles C; raises CompilerError with the compiler's output, or with how to install one."""
    cc = compiler()
    if cc is None:
        raise CompilerError("this machine has no C compiler: install one (`apt-get install gcc libc6-dev`).")
    command = [cc, *STRICT, *flags, f"-I{SOURCES[0].parent}", *map(str, sources), "-o", str(to)]
    try:
        finished = run(command, TIMEOUT_SECONDS)
    except (NotEnded, OSError) as error:
        raise CompilerError(f"{cc} {error}: see whether it works, or install another C compiler.") from None
    if finished.code:
        raise CompilerError(f"{' '.join(command)} failed: {finished.err.strip() or f'exit code {finished.code}'}")
    if not to.is_file():
        raise CompilerError(f"{' '.join(command)} ended with exit code 0 and wrote no file.")
    return to


class NativeMask:
    """The C functions, loaded. Two threads must not use one object at a time, because it keeps the scratch memory."""

    def __init__(self, folder: Path, *flags: str) -> None:
        """Builds the library in ``folder``; raises CompilerError."""
        library = ctypes.CDLL(str(build(SOURCES[:1], folder / "segquant_mask.so", "-O2", "-shared", "-fPIC", *flags)))
        pointer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
        self._mask, self._expand = library.segquant_mask, library.segquant_expand
        self._mask.argtypes = [pointer, number, number, number, size, pointer, number, number, size, number, pointer]
        self._expand.argtypes = [pointer, number, number, pointer, number, number, size, number, pointer]
        self._scratch = np.empty(0, np.int32)

    def exact(self, logits: np.ndarray, grid: Grid, mask: np.ndarray | None = None) -> np.ndarray:
        """As ``heads.exact.exact_mask``, into ``mask``, C-contiguous uint8 [height, width], where it is given."""
        rows, columns, classes = logits.shape
        sizes = (rows, columns, classes, columns * classes)
        return self._call(self._mask, np.ascontiguousarray(logits, np.int8), sizes, columns, grid, mask)

    def nearest(self, classes: np.ndarray, grid: Grid, mask: np.ndarray | None = None) -> np.ndarray:
        """As ``heads.exact.nearest_mask``."""
        samples = np.ascontiguousarray(classes, np.int32)
        return self._call(self._expand, samples, samples.shape, samples.shape[1], grid, mask)

    def _call(
        self,
        function: Any,
        samples: np.ndarray,
        sizes: Sequence[int],
        columns: int,
        grid: Grid,
        mask: np.ndarray | None,
    ) -> np.ndarray:
        if mask is None:
            mask = np.empty(grid.size, np.uint8)
        if self._scratch.size < 2 * columns + 3:  # SEGQUANT_MASK_SCRATCH or more
            self._scratch = np.empty(2 * columns + 3, np.int32)
        code = function(
            samples.ctypes.data,
            *sizes,
            mask.ctypes.data,
            grid.height,
            grid.width,
            grid.width,
            CONVENTIONS[grid.resize],
            self._scratch.ctypes.data,
        )
        if code:
            raise ArtifactError(f"segquant_mask.c refuses {samples.shape} for {grid}: error {code} of segquant_mask.h.")
        return mask
