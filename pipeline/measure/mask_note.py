"""What is not in the latency of an artifact whose output is smaller than the mask, in a sentence."""

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
    """None where the output is of full size.

    ``output``: one that the artifact gave; where that was ``here``, on this machine, and a C compiler is there too, the
    exact mask of it is timed.
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
        native, mask, spent = NativeMask(Path(folder)), np.empty(grid.size, np.uint8), []
        for _ in range(RUNS):
            began = time.perf_counter()
            native.exact(output[0], grid, mask)
            spent.append(1000 * (time.perf_counter() - began))
    return f"{note}, by segquant_mask.c in {np.median(spent):.2f} ms here (median of {RUNS}, one thread)"
