"""Where an inference spends its time, op by op, beside the time that the machine could attain."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a runtime's own profile, measured.

    Attributes:
      kernel: what ran, in the runtime's words: 'AVERAGE_POOL_2D', 'Convolution (NHWC, QC8) IGEMM'.
      node: the op's index in the file; where delegated, its index within the delegate's partition.
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
      between_ms: time per inference that no line covers: the runtime between its ops.
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
    """The best rates that the machine attained in the same runtime with the same threads, measured.

    Attributes:
      int8_macs_per_ms, float_macs_per_ms: multiply-accumulates in one large 1×1 convolution, the best of several sizes.
      bytes_per_ms: of memory copied by NumPy, reads and writes both counted; by the bytes that one copy moves.
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
    """One op of the file, or a line of the profile that could not be attributed to an op.

    Attributes:
      index: the op's; None for such a line.
      op: its name in the file; '' for such a line.
      layer: from the name of the tensor that it writes.
      kernels: what ran for it; empty where the runtime fused the op into another or left it out.
      measured_ms, measured_share: time per inference, and its share of the whole.
      macs: counted from the file, 1 MAC = one product added.
      moved_bytes: counted from the file: its constants, what it reads and what it writes, each once.
      attainable_ms: estimated from the machine's peaks, ``macs`` and ``moved_bytes``; 0 where nothing ran for the op.
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
      ops: in the order of the file, then the lines that could not be attributed.
      total_ms: the sum of ``ops`` and ``between_ms``.
      between_ms: what the runtime spends between the ops.
      plain_ms: a whole inference without the profiler, timed from outside.
      notes: sizes that the file leaves open, and what was assumed for them.
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
        """The ops in groups ('op' or 'stage'), the longest first; unattributed lines are a group of their own."""
        groups: dict[str, list[OpTime]] = {}
        for op in self.ops:
            groups.setdefault(getattr(op, attribute) if op.index is not None else UNATTRIBUTED, []).append(op)
        return sorted(groups.items(), key=lambda group: -sum(op.measured_ms for op in group[1]))

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, **dataclasses.asdict(self)}


UNATTRIBUTED = "not attributed"
