"""Spreads cases over processes that were forked off this one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterator, Sequence

from tests.torture import server
from tests.torture.case import Case, Verdict

NUMBER = struct.Struct("<I")


def sweep(cases: Sequence[Case], jobs: int, judge: Callable[[Case, int], Verdict], until: float) -> Iterator[Verdict]:
    """The verdicts as they come; no case begins after ``until``, of the monotonic clock.

    ``judge``: gets a case and the number of its process. Where the iterator is closed or interrupted, the cases that
    run are ended.
    """
    tasks, give = os.pipe()
    os.write(give, b"".join(NUMBER.pack(i) for i in range(len(cases))))
    os.close(give)
    workers: dict[int, int] = {}
    try:
        for number in range(jobs):
            results, tell = os.pipe()
            if not (worker := os.fork()):
                os.close(results)
                _work(cases, tasks, tell, number, judge)
            os.close(tell)
            workers[results] = worker
        yield from _verdicts(list(workers), tasks, until)
    finally:
        _take_all(tasks)
        for results, worker in workers.items():
            os.kill(worker, signal.SIGTERM)
            os.waitpid(worker, 0)
            os.close(results)
        os.close(tasks)


def _take_all(tasks: int) -> None:
    while os.read(tasks, 1 << 16):
        pass


def _verdicts(pipes: Sequence[int], tasks: int, until: float) -> Iterator[Verdict]:
    with selectors.DefaultSelector() as selector:
        rest = {pipe: b"" for pipe in pipes}
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(1):
                data = os.read(key.fd, 1 << 16)
                *lines, rest[key.fd] = (rest[key.fd] + data).split(b"\n")
                for line in lines:
                    fields = json.loads(line)
                    yield Verdict(**{**fields, "problems": tuple(fields["problems"])})
                if not data:
                    selector.unregister(key.fd)
            if time.monotonic() > until:
                _take_all(tasks)


def _work(cases: Sequence[Case], tasks: int, tell: int, number: int, judge: Callable[[Case, int], Verdict]) -> None:
    """Does not return."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the first process ends the others
    signal.signal(signal.SIGTERM, lambda *_: os._exit(server.end_children_now()))
    server.adopt_orphans()
    try:
        while data := os.read(tasks, NUMBER.size):
            case = cases[NUMBER.unpack(data)[0]]
            try:
                verdict = judge(case, number)
            except Exception:  # a fault of the sweep itself fails the case, and no other
                verdict = Verdict(case.name, ("the sweep itself failed",), traceback.format_exc(), False, False, 0.0)
            os.write(tell, json.dumps(dataclasses.asdict(verdict)).encode() + b"\n")
    finally:
        with contextlib.suppress(BaseException):
            server.end_children_now()
        os._exit(0)
