"""Plans: what to measure."""

from __future__ import annotations

import dataclasses

from pipeline.core.artifact import Artifact
from pipeline.core.compared import ComparedFile
from pipeline.core.run import Run
from pipeline.measure.timing import DEFAULT, Protocol


@dataclasses.dataclass(frozen=True)
class BenchPlan:
    """What to measure, the same on every device.

    Attributes:
      against: another file to compare with, timed in the same turns.
      threads: the first is that of the measurement, the others are swept after it.
      images: the first so many of the split, None: all.
    """

    run: Run
    artifact: Artifact
    parent: Artifact
    against: ComparedFile | None = None
    protocol: Protocol = DEFAULT
    threads: tuple[int, ...] = (1,)
    split: str = "val"
    images: int | None = None


@dataclasses.dataclass(frozen=True)
class HeadsPlan:
    """What to measure of the heads of an artifact's network.

    Attributes:
      images: the first so many validation images, None: all.
    """

    run: Run
    artifact: Artifact
    protocol: Protocol = DEFAULT
    threads: int = 1
    images: int | None = None
