"""Where an artifact runs and how it is timed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline.core.mask import Grid

XNNPACK = "xnnpack"
"""LiteRT's delegate for CPUs: what runs a file where nothing else is asked for."""


@dataclasses.dataclass(frozen=True)
class RunnerOptions:
    """How an artifact is to be run.

    Attributes:
      threads: CPU threads.
      pinned: bind them to as many cores, the fastest, where the device allows that: for timing.
      target: name of the target that the file was made for.
      delegate: that target's (``Target.delegate``), which a device with a choice of delegates asks for.
      mask: a timed inference ends with the mask of these pixels, made of the output by segquant_mask.c, which only a
        device that ``makes_masks`` does.
    """

    threads: int = 1
    target: str = "cpu"
    pinned: bool = False
    mask: Grid | None = None
    delegate: str = XNNPACK


@dataclasses.dataclass(frozen=True)
class RunnerFacts:
    """What is known of a loaded artifact.

    Attributes:
      input_dtype, output_dtype: 'uint8', 'int8', 'float32', 'int32'.
      output_scale, output_zero_point: real = scale * (q − zero_point); 0 and 0 where the output is not quantized.
      init_ms: loading the file and preparing its tensors; None where the device does not tell.
      first_ms: the very first inference, which is not among the timed ones; None likewise.
      runs_on: what runs it, in words: 'XNNPACK', 'GPU delegate, 3 of 60 ops left to the CPU'.
      block_ms: how long a timed block should last, so that what it costs to ask for one does not count.
      block_is_a_start: each timed block is a process of its own, so that there is nothing to restart.
    """

    input_dtype: str
    output_dtype: str
    output_scale: float
    output_zero_point: int
    init_ms: float | None = None
    first_ms: float | None = None
    runs_on: str = ""
    block_ms: float = 25.0
    block_is_a_start: bool = False


@dataclasses.dataclass(frozen=True)
class Block:
    """Inferences timed in one go, in milliseconds.

    Attributes:
      samples_ms: each of them, in order; () where the device's tool tells no more than a summary.
      summary_ms: that summary by name, some of 'median', 'mean', 'min', 'max', 'std', 'p5', 'p95'; {} beside samples.
    """

    runs: int
    samples_ms: tuple[float, ...] = ()
    summary_ms: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.runs < 1 or (len(self.samples_ms) != self.runs and not {"median", "mean"} & set(self.summary_ms)):
            raise ValueError(f"{self.runs} runs with {len(self.samples_ms)} samples and {dict(self.summary_ms)}")

    @property
    def typical_ms(self) -> float:
        """The median, or the mean where a summary has no median."""
        if self.samples_ms:
            return float(np.median(self.samples_ms))
        return self.summary_ms.get("median", self.summary_ms.get("mean", 0.0))


class Runner(Protocol):
    """One artifact loaded on a device. Close it when done; its calls raise DeviceError when the device goes away."""

    @property
    def facts(self) -> RunnerFacts: ...

    def infer(self, image: np.ndarray) -> np.ndarray:
        """The network's input [1, h, w, 3] → its output as it is stored (quantized outputs stay integers)."""
        ...

    def infer_many(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """``infer`` of each in order; a device far away takes and gives several at once."""
        ...

    def time(self, runs: int) -> Block:
        """Times ``runs`` inferences on the last input, or on zeros where there was none."""
        ...

    def restart(self) -> None:
        """Puts a new process in the place of the one that runs it, with the same last input."""
        ...

    def peak_memory_bytes(self) -> int | None:
        """Of the process that runs it; None where the device does not tell."""
        ...

    def close(self) -> None: ...


class Connection(Protocol):
    """A device that is being used. Close it when done: nothing of ours stays on the device.

    Attributes:
      identity: the machine, such as 'host' or 'android:SERIAL'. What has the same identity is used one at a time.
    """

    @property
    def identity(self) -> str: ...

    def describe(self) -> dict[str, Any]:
        """The device for a measurement: see ``litert_worker.describe`` for the keys; None where it does not tell.

        A 'caution' is a sentence that `bench` puts beside the times.
        """
        ...

    def state(self) -> dict[str, Any]:
        """What changes while it works: 'load_average_1min', 'temperature_celsius', 'frequency_mhz', None likewise."""
        ...

    def open(self, file: Path, options: RunnerOptions) -> Runner:
        """Raises ArtifactError for a file that the runtime refuses, DeviceError where the device fails."""
        ...

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class DeviceOptions:
    """What a user may say of a device beyond its name.

    Attributes:
      benchmark_binary: LiteRT's benchmark_model, built for the device.
      delegate_library: the delegate's shared library, on the device's side, where it is not in its usual place.
      remote_python: the Python with ai-edge-litert behind ssh, where it is neither `python3` nor ~/.venv's.
    """

    benchmark_binary: Path | None = None
    delegate_library: str | None = None
    remote_python: str | None = None


@dataclasses.dataclass(frozen=True)
class Device:
    """A registered kind of device. One of that kind is called ``name`` or ``name:SELECTOR``.

    Attributes:
      rank: of two attached devices the one with the higher rank is the better.
      selector_help: how one of several is named, such as '[:SERIAL]'.
      find: () → what is attached, in words, or None. It must not take long.
      missing: () → the one command or act that attaches it, in words; said where ``find`` gives None.
      connect: (selector or '', settings) → Connection; raises DeviceError.
      runs_compiled: names of the targets whose compiled files it runs; of others it takes the uncompiled file.
      makes_masks: whether ``RunnerOptions.mask`` may be asked of it.
      aliases: what people call it, in small letters; the error for such a name suggests the registered one.
    """

    name: str
    title: str
    rank: int
    find: Callable[[], str | None]
    connect: Callable[[str, DeviceOptions], Connection]
    selector_help: str = ""
    missing: Callable[[], str] = lambda: "attach it"
    runs_compiled: tuple[str, ...] = ()
    makes_masks: bool = False
    aliases: tuple[str, ...] = ()
