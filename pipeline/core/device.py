"""Where an artifact runs and how it is timed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline.core.mask import Grid

XNNPACK = "xnnpack"
"""LiteRT's delegate for CPUs, which runs a file unless another delegate is asked for."""


@dataclasses.dataclass(frozen=True)
class RunnerOptions:
    """How a device runs an artifact.

    Attributes:
      threads: CPU threads.
      pinned: bind the threads to the fastest cores where the device allows it; for timing.
      target: name of the target that the file was made for.
      delegate: LiteRT's delegate for that target (``Target.delegate``), for a device that has several.
      mask: the pixels of the full-size mask that segquant_mask.c makes from the output within each timed inference;
        None without a mask. Only for a device that ``makes_masks``.
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
      init_ms: loading the file and preparing its tensors; None where the device does not report it.
      first_ms: the very first inference, which is not among the timed ones; None where it is not reported.
      runs_on: what runs it, in words: 'XNNPACK', 'GPU delegate, 3 of 60 ops left to the CPU'.
      block_ms: how long a timed block should last, so that the cost of asking for it is negligible.
      block_is_a_start: each timed block runs in a process of its own, so ``restart`` has nothing to do.
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
      samples_ms: each inference, in order; () where the device's tool reports a summary alone.
      summary_ms: that summary, some of 'median', 'mean', 'min', 'max', 'std', 'p5', 'p95'; {} where there are samples.
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
    """One artifact loaded on a device. Close it when done. Its methods raise DeviceError when the device goes away."""

    @property
    def facts(self) -> RunnerFacts: ...

    def infer(self, image: np.ndarray) -> np.ndarray:
        """The network's input [1, h, w, 3] → its output as it is stored (quantized outputs stay integers)."""
        ...

    def infer_many(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """``infer`` of each image, in order; a remote device gets several at once."""
        ...

    def time(self, runs: int) -> Block:
        """Times ``runs`` inferences on the last input, or on zeros where there was no input yet."""
        ...

    def restart(self) -> None:
        """Starts the artifact again in a new process, which keeps the last input."""
        ...

    def peak_memory_bytes(self) -> int | None:
        """Of the process that runs it; None where the device does not report it."""
        ...

    def close(self) -> None: ...


class Connection(Protocol):
    """A device in use. Close it when done: then none of our files stay on the device.

    Attributes:
      identity: the machine, such as 'host' or 'android:SERIAL'. Connections of one identity are used one at a time.
    """

    @property
    def identity(self) -> str: ...

    def describe(self) -> dict[str, Any]:
        """The device, for a measurement. Keys as in ``litert_worker.describe``; None for what it does not report.

        A 'caution' is a sentence that `bench` prints beside the times.
        """
        ...

    def state(self) -> dict[str, Any]:
        """What changes while it works: 'load_average_1min', 'temperature_celsius', 'frequency_mhz'; None as above."""
        ...

    def open(self, file: Path, options: RunnerOptions) -> Runner:
        """Raises ArtifactError for a file that the runtime refuses, DeviceError where the device fails."""
        ...

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class DeviceOptions:
    """What a user may set about a device, besides its name.

    Attributes:
      benchmark_binary: LiteRT's benchmark_model, built for the device.
      delegate_library: path on the device of the delegate's shared library, where it is not in its usual place.
      remote_python: the Python with ai-edge-litert on the ssh host, where it is neither `python3` nor that of ~/.venv.
    """

    benchmark_binary: Path | None = None
    delegate_library: str | None = None
    remote_python: str | None = None


@dataclasses.dataclass(frozen=True)
class Device:
    """A registered kind of device. A user names one device of that kind with ``name`` or ``name:SELECTOR``.

    Attributes:
      rank: `--device best` takes the attached device with the highest rank.
      selector_help: how to name one of several, for the help: '[:SERIAL]'.
      find: () → what is attached, in words, or None. It must not take long.
      missing: () → how to attach it: one command or action, in words; shown where ``find`` returns None.
      connect: (selector or '', options) → Connection; raises DeviceError.
      runs_compiled: names of the targets whose compiled files it runs; for other targets it gets the uncompiled file.
      makes_masks: whether it supports ``RunnerOptions.mask``.
      aliases: what people call it, in small letters; the error for such a name suggests the registered one.
      takes: the fields of ``DeviceOptions`` that it uses.
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
    takes: tuple[str, ...] = ()
