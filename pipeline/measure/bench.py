"""Measures what 8 bits cost: accuracy of the file that ships against its float parent, and the time of both."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence

from pipeline.core.device import Connection, DeviceOptions
from pipeline.core.measurement import Measurement
from pipeline.core.say import Say
from pipeline.devices import connect, device
from pipeline.measure.alone import alone_on
from pipeline.measure.on_device import bench_on
from pipeline.measure.plan import BenchPlan


def bench(plan: BenchPlan, names: Sequence[str], options: DeviceOptions, say: Say) -> Iterator[Measurement]:
    """One measurement per device, as they end: side by side on different machines, one at a time on the same.

    A device that fails does not stop the others; the first error is raised when all have ended.
    """
    chosen = {name: device(name)[0] for name in names}  # a wrong name is said before anything is measured
    results: queue.Queue[Measurement | BaseException] = queue.Queue()
    with contextlib.ExitStack() as stack:
        by_machine: dict[str, list[tuple[str, Connection]]] = {}
        for name in names:
            connection = connect(name, options)
            stack.callback(connection.close)
            by_machine.setdefault(connection.identity, []).append((name, connection))

        def work(of_machine: list[tuple[str, Connection]]) -> None:
            for name, connection in of_machine:

                def tell(text: str, prefix: str = f"{name}: " if len(names) > 1 else "") -> None:
                    say(prefix + text)

                try:
                    with alone_on(connection.identity, tell):
                        results.put(bench_on(plan, chosen[name], name, connection, tell))
                except BaseException as error:
                    results.put(error)

        for of_machine in by_machine.values():
            threading.Thread(target=work, args=[of_machine], daemon=True).start()
        failed: list[BaseException] = []
        for _ in names:
            result = results.get()
            if isinstance(result, Measurement):
                yield result
            else:
                failed.append(result)
                if len(names) > 1:
                    say(f"failed: {result}")
        if failed:
            raise failed[0]
