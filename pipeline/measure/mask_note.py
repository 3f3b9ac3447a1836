"""A note on an artifact whose output is smaller than the mask: what its latency leaves out."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from pipeline.core.artifact import Artifact
from pipeline.core.file_spec import EXACT
from pipeline.core.mask import Grid
from pipeline.heads.native import NativeMask, compiler

RUNS = 100


def mask_note(artifact: Artifact, output: np.ndarray, grid: Grid, here: bool) -> str | None:
    """The note; None where the output is of full size.

    ``output``: the artifact's output for some image. ``here``: whether the device is this machine; if it is, and there
    is a C compiler, the note says how long the exact mask of that output takes.
    """
    spec = artifact.recipe.file
    if spec.stride == 1:
        return None
    note = (
        f"latency is up to the {spec.output} at stride {spec.stride}; the mask of full size is made outside the network"
    )
    if spec.postprocess != EXACT or not here or compiler() is None:
        return note
    with tempfile.TemporaryDirectory() as folder:
        native, mask, times_ms = NativeMask(Path(folder)), np.empty(grid.size, np.uint8), []
        for _ in range(RUNS):
            began = time.perf_counter()
            native.exact(output[0], grid, mask)
            times_ms.append(1000 * (time.perf_counter() - began))
    return f"{note}, by segquant_mask.c in {np.median(times_ms):.2f} ms on this machine (median of {RUNS}, one thread)"
