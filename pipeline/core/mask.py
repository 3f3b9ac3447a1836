"""The size of a full-size mask, and how the samples of a smaller output lie on it."""

from __future__ import annotations

import dataclasses

from pipeline.core.spec import Resize


@dataclasses.dataclass(frozen=True)
class Grid:
    """The pixels that a network's output stands for, and the convention that places its samples on them."""

    height: int
    width: int
    resize: Resize

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width
