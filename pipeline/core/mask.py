"""The full-size mask of a network from its small output, exactly: see ``pipeline/heads/segquant_mask.h``.

The same result as that C file, in NumPy.
"""

from __future__ import annotations

import dataclasses

from pipeline.core.spec import Resize


@dataclasses.dataclass(frozen=True)
class Grid:
    """The pixels that the output of a network stands for, and how its samples lie on them."""

    height: int
    width: int
    resize: Resize

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width
