"""Measures what 8 bits cost: accuracy and latency of the file that ships, beside its float parent, on each device."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Iterator, Sequence

from pipeline.core.device import Connection, Device, DeviceOptions
from pipeline.core.measurement import Measurement
from pipeline.core.program import end_those_of
from pipeline.core.progress import Prefixed
from pipeline.core.say import Say
from pipeline.devices import connect, device
from pipeline.measure.alone import alone_on
from pipeline.measure.on_device import bench_on
from pipeline.measure.plan import BenchPlan


@dataclasses.dataclass(frozen=True)
class _Connected:
    """A device that is being used. ``say`` puts its name before each line where there are several."""

    name: str
    kind: Device
    connection: Connection
    say: Say


def bench(plan: BenchPlan, names: Sequence[str], options: DeviceOptions, say: Say) -> Iterator[Measurement]:
    """One measurement per device, as they end: side by side on different machines, one at a time on the same.

    A device that fails does not stop the others; the first error is raised when all have ended.
    """
    results: queue.Queue[Measurement | BaseException] = queue.Queue()
    errors: list[BaseException] = []
    with contextlib.ExitStack() as stack:
        groups = _connect(names, options, stack, say)
        threads = [
            threading.Thread(target=_bench_in_turn, args=[plan, devices, results], daemon=True) for devices in groups
        ]
        try:
            for thread in threads:
                thread.start()
            for _ in names:
                result = results.get()
                if isinstance(result, Measurement):
                    yield result
                else:
                    errors.append(result)
                    if len(names) > 1:
                        say(f"failed: {result}")
        except BaseException:
            _end(threads)  # before their devices are closed
            raise
    if errors:
        raise errors[0]


def _end(threads: Sequence[threading.Thread]) -> None:
    """Of a measurement that is interrupted: without their programs the threads meet errors, and end."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(thread.is_alive() for thread in threads):
        end_those_of(*threads)
        for thread in threads:
            if thread.is_alive():
                thread.join(0.1)


def _connect(
    names: Sequence[str], options: DeviceOptions, stack: contextlib.ExitStack, say: Say
) -> list[list[_Connected]]:
    """The devices in groups of one machine each; ``stack`` closes them. Raises UnknownName before it connects any."""
    kinds = [device(name)[0] for name in names]
    machines: dict[str, list[_Connected]] = {}
    for name, kind in zip(names, kinds, strict=True):
        connection = connect(name, options)
        stack.callback(connection.close)
        say_named = Prefixed(say, f"{name}: ") if len(names) > 1 else say
        machines.setdefault(connection.identity, []).append(_Connected(name, kind, connection, say_named))
    return list(machines.values())


def _bench_in_turn(plan: BenchPlan, devices: list[_Connected], results: queue.Queue) -> None:
    """Puts a measurement or an error for each device into ``results``."""
    for each in devices:
        try:
            with alone_on(each.connection.identity, each.say):
                results.put(bench_on(plan, each.kind, each.name, each.connection, each.say))
        except BaseException as error:
            results.put(error)
