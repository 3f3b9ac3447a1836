"""A runner whose inferences happen in a process that speaks ``litert_worker``'s protocol, here or far away."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import queue
import re
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipeline.core.device import Block, RunnerFacts, RunnerOptions
from pipeline.core.errors import ArtifactError, DeviceError, SegquantError
from pipeline.core.memory import free_bytes
from pipeline.core.program import KEPT_BYTES, end, start
from pipeline.drivers.answers import Nonsense, bytes_of, check_output, facts_of, times_of
from pipeline.drivers.last_words import how_it_ended, why_it_failed
from pipeline.drivers.litert_worker import MOST_ARRAY_BYTES, receive, send
from pipeline.drivers.printed import Printed
from pipeline.tflite.read import read_file

Explain = Callable[[int, str], SegquantError | None]
"""(exit code, what it printed) → an error that says more than the general one, or None."""
ROOT = Path(__file__).resolve().parents[2]
AHEAD = 8
"""Images on their way before the first one's output is read."""
FACTS = b'{"input_dtype"'
"""How the worker's first line begins; a login far away may print before it."""
FACTS_BYTES = 1 << 16
HEADER_BYTES = 1 << 12
"""More than what goes before the values of an array."""
LOADING_SECONDS, ANSWER_SECONDS = 900, 3600
"""Longer than any file takes; a process that has not answered by then is stuck."""
Answer = TypeVar("Answer")


def check_readable(artifact: Path) -> None:
    """Raises ArtifactError for a file that is not there or no .tflite file."""
    read_file(artifact)


def output_shape(artifact: Path) -> tuple[int, ...] | None:
    """Of a .tflite file; None for a file of another kind, or one whose first axis is open."""
    if artifact.suffix != ".tflite" or not artifact.is_file():
        return None
    _, graph = read_file(artifact)
    output = graph.output_tensor
    return None if output.dynamic else output.shape


def settings_of(options: RunnerOptions) -> dict[str, Any]:
    """The options as the settings of ``litert_worker``."""
    settings: dict[str, Any] = {"threads": options.threads, "pinned": options.pinned}
    return settings | ({"mask": dataclasses.asdict(options.mask)} if options.mask else {})


def with_package() -> dict[str, str]:
    """The environment of a worker that needs this package, beyond the one file that is copied to other machines."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


class WorkerRunner:
    """The process that ``command`` starts, which holds ``artifact``; ``closed`` is called when no other will follow."""

    def __init__(
        self,
        artifact: Path,
        command: Sequence[str],
        explain: Explain = lambda code, log: None,
        environment: Mapping[str, str] | None = None,
        closed: Callable[[], object] = lambda: None,
    ) -> None:
        self.artifact = artifact
        self._command, self._environment, self._explain, self._closed = command, environment, explain, closed
        self._given: np.ndarray | None = None
        self._output_shape = output_shape(artifact)
        self._peak_memory_bytes = 0
        self.facts = self._start()

    def _start(self) -> RunnerFacts:
        pipe = subprocess.PIPE
        self._process = start(
            self._command, self._environment, memory_bytes=free_bytes(), stdin=pipe, stdout=pipe, stderr=pipe
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._in, self._out = self._process.stdin, self._process.stdout
        self._errors = Printed(self._process.stderr)
        self._ahead = 0
        try:
            with self._within(LOADING_SECONDS):
                greeted_bytes = 0
                while not (line := self._out.readline(FACTS_BYTES)).startswith(FACTS):
                    greeted_bytes += len(line)
                    if not line or greeted_bytes > KEPT_BYTES:
                        raise self._died()
            return self._understood(lambda: facts_of(line))
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        """An answer that does not come in this time ends the process, and so the wait for it."""
        late = threading.Timer(seconds, self._process.kill)
        late.daemon = True
        late.start()
        try:
            yield
        finally:
            late.cancel()

    def _understood(self, read_answer: Callable[[], Answer]) -> Answer:
        """What the process answered; raises DeviceError where that is nonsense, and ends it."""
        try:
            return read_answer()
        except Nonsense as error:
            self._process.kill()
            raise DeviceError(
                f"{self.artifact}: the program that runs it answers nonsense ({error}): see that the device has"
                " LiteRT's own runtime, and repeat the command."
            ) from None

    def restart(self) -> None:
        """Another process; ``facts`` stay those of the first, whose loading met the machine as it was."""
        self._peak_memory_bytes = self.peak_memory_bytes()
        self._end()
        self._start()
        if self._given is not None:
            self.infer(self._given)

    def _ask(self, request: str, most_bytes: int, array: np.ndarray | None = None) -> np.ndarray:
        if self._ahead:
            raise RuntimeError("infer_many is not at its end, nor closed")
        try:
            with self._within(ANSWER_SECONDS):
                self._tell(request, array)
                return self._received(most_bytes)
        except (OSError, EOFError, ValueError):
            raise self._died() from None

    def _tell(self, request: str, array: np.ndarray | None = None) -> None:
        self._in.write(request.encode() + b"\n")
        if array is not None:
            send(self._in, array)
        self._in.flush()

    def _received(self, most_bytes: int) -> np.ndarray:
        """An array of at most so many bytes. Raises OSError, EOFError, and DeviceError for what is none."""

        def array() -> np.ndarray:
            try:
                return receive(self._out, most_bytes + HEADER_BYTES)
            except ValueError as error:
                raise Nonsense(str(error)) from None

        return self._understood(array)

    @property
    def _output_bytes(self) -> int:
        if self._output_shape is None:
            return MOST_ARRAY_BYTES
        return math.prod(self._output_shape) * np.dtype(self.facts.output_dtype).itemsize

    def _died(self) -> SegquantError:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        end(self._process, 0)
        text = self.log()
        if better := self._explain(code, text):
            return better
        if chip := re.search(r"unresolved custom op: ([\w-]+)", text):
            return ArtifactError(
                f"{self.artifact} was compiled for a chip ({chip[1]}) that this device does not have: use the"
                " uncompiled file, or a device with that chip."
            )
        how, why = how_it_ended(code), why_it_failed(text)
        return ArtifactError(
            f"LiteRT cannot run {self.artifact} ({how}; {why}): convert the network again; `inspect --target cpu` says"
            " what it makes of each op."
        )

    def log(self) -> str:
        """What the process has printed so far."""
        return self._errors.text()

    def infer(self, image: np.ndarray) -> np.ndarray:
        return self._checked_output(self._ask("infer", self._output_bytes, self._checked(image)))

    def _checked(self, image: np.ndarray) -> np.ndarray:
        if image.dtype.name != self.facts.input_dtype:
            raise ArtifactError(f"{self.artifact} takes {self.facts.input_dtype}, but got {image.dtype.name}.")
        self._given = image
        return image

    def _checked_output(self, output: np.ndarray) -> np.ndarray:
        """Raises DeviceError where it is not what the file outputs."""
        return self._understood(lambda: check_output(output, self.facts.output_dtype, self._output_shape))

    def infer_many(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """``infer`` of each; AHEAD are sent before the first output is read, so that none waits for a round trip."""
        waiting: queue.SimpleQueue[np.ndarray | None] = queue.SimpleQueue()

        def sending() -> None:
            with contextlib.suppress(OSError, ValueError):  # it died: whoever reads meets its end
                while (image := waiting.get()) is not None:
                    self._tell("infer", image)

        def reply() -> np.ndarray:
            try:
                with self._within(ANSWER_SECONDS):
                    output = self._received(self._output_bytes)
            except (OSError, EOFError, ValueError):
                self._ahead = 0
                raise self._died() from None
            except BaseException:  # Ctrl-C within a reply: where the next one begins is not known any more
                self._ahead = 0
                self._process.kill()
                raise
            self._ahead -= 1
            return self._checked_output(output)

        sender = threading.Thread(target=sending, daemon=True)
        sender.start()
        try:
            for image in images:
                waiting.put(self._checked(image))
                self._ahead += 1
                if self._ahead > AHEAD:
                    yield reply()
            while self._ahead:
                yield reply()
        finally:
            waiting.put(None)
            # Left early: the outputs still on their way would be taken for those of later images.
            while self._ahead and not self._in.closed:
                reply()
            sender.join()

    def time(self, runs: int) -> Block:
        times = self._ask(f"time {runs}", 8 * runs)
        return Block(runs, self._understood(lambda: times_of(times, runs)))

    def peak_memory_bytes(self) -> int:
        """The most that one of its processes took."""
        answer = self._ask("memory", 8)
        return max(self._peak_memory_bytes, self._understood(lambda: bytes_of(answer)))

    def close(self) -> None:
        self._end()
        self._closed()

    def _end(self) -> None:
        """Ends the process; its end is waited for, but not for ever."""
        if self._ahead:  # infer_many was left open: nobody reads, so the process cannot come to its end
            self._process.kill()
        with contextlib.suppress(OSError):
            self._in.close()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
        finally:
            end(self._process, 0)
            self._out.close()
            self._errors.close()

    def __enter__(self) -> WorkerRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
