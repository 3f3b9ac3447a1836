"""Plans: what to measure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pipeline.core.artifact import Artifact
from pipeline.core.compared import ComparedFile
from pipeline.core.errors import BadSpec
from pipeline.core.number import MOST_THREADS, whole
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

    def __post_init__(self) -> None:
        check_counts(self.threads, self.images)


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

    def __post_init__(self) -> None:
        check_counts((self.threads,), self.images)


def check_counts(threads: Sequence[int], images: int | None) -> None:
    """Raises BadSpec for numbers of threads and images that cannot be."""
    if not threads:
        raise BadSpec("threads is empty: give at least one number, such as (1,).")
    for count in threads:
        whole("threads", count, 1, MOST_THREADS)
    if images is not None:
        whole("images", images, 1)
