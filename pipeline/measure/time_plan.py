"""Times the files of a plan on a device, in turns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pipeline.core.errors import DeviceError
from pipeline.core.measurement import Ratio, SweepPoint
from pipeline.core.say import Say
from pipeline.measure.loaded import Loaded
from pipeline.measure.plan_files import PlanFiles
from pipeline.measure.timing import Protocol, Timed, latency_of, measure, ratio_of


@dataclasses.dataclass
class PlanTimes:
    """What was timed until the end, or until the device went away.

    Attributes:
      against: the file to compare with, once it is open on the device.
      unfinished: why timing ended early; empty where it did not.
    """

    speedup: Ratio | None = None
    against: Loaded | None = None
    against_ratio: Ratio | None = None
    sweep: list[SweepPoint] = dataclasses.field(default_factory=list)
    unfinished: str = ""


def time_plan(files: PlanFiles, pair: Sequence[Loaded], say: Say) -> PlanTimes:
    """Times the pair and the file to compare with together, then the pair with every other number of threads."""
    plan, times = files.plan, PlanTimes()
    try:
        if plan.against:
            times.against = files.open_other(plan.against)
        loaded = [*pair, *([times.against] if times.against else [])]
        threads = plan.threads[0]
        say(f"timing {len(loaded)} files in turns, {threads} thread{'s' if threads > 1 else ''}")
        parent, artifact, *others = time_in_turns(loaded, plan.protocol, say)
        times.speedup = ratio_of(parent, artifact)
        times.against_ratio = ratio_of(others[0], artifact) if others else None
        for threads in plan.threads[1:]:
            say(f"timing both in turns, {threads} threads")
            times.sweep.append(_time_pair(files.open_pair(threads), threads, plan.protocol, say))
    except DeviceError as error:
        times.unfinished = str(error)
    return times


def time_in_turns(loaded: Sequence[Loaded], protocol: Protocol, say: Say) -> list[Timed]:
    """Gives each file its latency; returns the blocks that it comes from, to compare them."""
    timed = measure([each.runner for each in loaded], protocol, say)
    for each, blocks in zip(loaded, timed, strict=True):
        each.latency = latency_of(blocks, each.runner, each.threads)
    return timed


def _time_pair(pair: Sequence[Loaded], threads: int, protocol: Protocol, say: Say) -> SweepPoint:
    timed = time_in_turns(pair, protocol, say)
    parent, artifact = (each.latency for each in pair)
    assert parent and artifact
    return SweepPoint(threads, parent, artifact, ratio_of(*timed))
