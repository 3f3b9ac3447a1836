"""Where an inference spends its time, op by op, beside what the machine could attain."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a runtime's own profile, measured.

    Attributes:
      kernel: what ran, in the runtime's words: 'AVERAGE_POOL_2D', 'Convolution (NHWC, QC8) IGEMM'.
      node: the op's index in the file; where delegated, its place within the delegate's piece.
      ms: per inference.
    """

    kernel: str
    node: int
    delegated: bool
    ms: float


@dataclasses.dataclass(frozen=True)
class RuntimeProfile:
    """The lines of one file's inferences in the order of execution.

    Attributes:
      between_ms: of an inference, what is in no line: the runtime between its ops.
      plain_ms: a whole inference without the profiler, timed from outside.
      runs: inferences with the profiler, and as many without, in turns.
    """

    lines: tuple[Line, ...]
    between_ms: float
    plain_ms: float
    runs: int

    @property
    def total_ms(self) -> float:
        return sum(line.ms for line in self.lines) + self.between_ms


@dataclasses.dataclass(frozen=True)
class Peaks:
    """What the machine attained at best in the same runtime with the same threads, measured.

    Attributes:
      int8_macs_per_ms, float_macs_per_ms: multiply-accumulates in one large 1×1 convolution, the best of several sizes.
      bytes_per_ms: of memory copied by NumPy, read and written both counted, by how many bytes one copy moves.
    """

    int8_macs_per_ms: float
    float_macs_per_ms: float
    bytes_per_ms: dict[int, float]

    def attainable_ms(self, macs: int, moved_bytes: int, int8: bool) -> float:
        """The longer of computing at the peak and moving the bytes at the rate of a copy of as many or more."""
        largest = max(self.bytes_per_ms)
        rate = max(rate for size, rate in self.bytes_per_ms.items() if size >= min(moved_bytes, largest))
        peak = self.int8_macs_per_ms if int8 else self.float_macs_per_ms
        return max(macs / peak, moved_bytes / rate)


@dataclasses.dataclass(frozen=True)
class OpTime:
    """One op of the file; or a line of the profile that could not be told which op it is of.

    Attributes:
      index: the op's, None for such a line.
      op: its name in the file; '' for such a line.
      layer: from the name of what it writes.
      kernels: what ran for it; empty where the runtime fused the op into another or left it out.
      measured_ms, measured_share: time per inference, and its share of the whole.
      macs: counted from the file, 1 MAC = one product added.
      moved_bytes: counted from the file: its constants, what it reads and what it writes, each once.
      attainable_ms: estimated: what the machine's peaks allow for these; 0 where nothing ran for the op.
    """

    index: int | None
    op: str
    layer: str
    stage: str
    kernels: tuple[str, ...]
    measured_ms: float
    measured_share: float
    macs: int
    moved_bytes: int
    attainable_ms: float


@dataclasses.dataclass(frozen=True)
class Profile:
    """One file on one machine.

    Attributes:
      ops: in the order of the file, then what could not be told.
      total_ms: all of ``ops`` and ``between_ms``, what the runtime spends between them.
      plain_ms: a whole inference without the profiler, timed from outside.
      notes: what the file leaves open, and as what it was taken.
    """

    file: str
    sha256: str
    machine: dict[str, Any]
    threads: int
    runs: int
    total_ms: float
    between_ms: float
    plain_ms: float
    ops: tuple[OpTime, ...]
    peaks: Peaks
    notes: tuple[str, ...] = ()

    def by(self, attribute: str) -> list[tuple[str, list[OpTime]]]:
        """The ops in groups ('op' or 'stage'), the longest first; what could not be told is a group of its own."""
        groups: dict[str, list[OpTime]] = {}
        for one in self.ops:
            groups.setdefault(getattr(one, attribute) if one.index is not None else UNATTRIBUTED, []).append(one)
        return sorted(groups.items(), key=lambda group: -sum(one.measured_ms for one in group[1]))

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, **dataclasses.asdict(self)}


UNATTRIBUTED = "not told apart"
