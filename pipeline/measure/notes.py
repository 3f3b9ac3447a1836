"""What a reader of a measurement must know of how it came about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.core.device import XNNPACK
from pipeline.core.measurement import HostComparison
from pipeline.measure.loaded import Loaded
from pipeline.measure.plan import BenchPlan
from pipeline.targets import targets

BUSY = 0.5
"""Load per core from which on a machine is called busy."""
THROTTLED = 0.95
"""Share of its clock that a core has lost when that is worth a note."""


def notes_of(
    plan: BenchPlan,
    machine: dict[str, object],
    after: dict[str, object],
    loaded: Sequence[Loaded],
    on_host: HostComparison | None,
    count: int,
) -> Iterator[str]:
    artifact, target = plan.artifact, plan.artifact.recipe.target
    delegate = targets()[target].delegate if target in targets() else ""
    if loaded[1].runner.facts.runs_on == "XNNPACK" and delegate != XNNPACK:
        yield f"latency is of this device's CPU, not of {target}"
    if plan.against is not None and (ours := plan.run.preprocessing.shape) != plan.against.takes:
        yield (
            f"{plan.against.path} takes an image of shape {list(plan.against.takes)}, the artifact {list(ours)}: their"
            " times are not of the same work"
        )
    if artifact.compiled is not None and loaded[1].path != artifact.compiled:
        yield (
            f"{artifact.compiled.name} is not for this device: scored and timed through its uncompiled twin"
            f" {artifact.path.name}"
        )
    if on_host and artifact.recipe.file.weights == "int8" and on_host.identical_outputs < count:
        yield (
            f"the int8 output differs from LiteRT's on this machine's CPU on"
            f" {count - on_host.identical_outputs} of {count} images; masks agree on"
            f" {on_host.agreement_percent:.3f} % of pixels"
        )
    yield from notes_on_times(machine, after, loaded)


def notes_on_times(machine: dict[str, object], after: dict[str, object], loaded: Sequence[Loaded]) -> Iterator[str]:
    """What a reader must know of how the machine was meanwhile."""
    if caution := machine.get("caution"):
        yield str(caution)
    cores, load = machine.get("cores"), machine.get("load_average_1min")
    if isinstance(cores, int) and isinstance(load, float) and load > BUSY * cores:
        yield f"the machine was busy: a load of {load:.1f} on {cores} cores before"
    for each in loaded:
        latency = each.latency
        if latency and not latency.stable:
            yield f"{each.name}: times had not settled after {latency.warmup_runs} warm-up runs"
        if latency and latency.drift_percent:
            word = "slower" if latency.drift_percent > 0 else "faster"
            yield f"{each.name}: drifting, {abs(latency.drift_percent):.1f} % {word} at the end than at the start"
    was, now = machine.get("frequency_mhz"), after.get("frequency_mhz")
    if isinstance(was, float) and isinstance(now, float) and now < THROTTLED * was:
        heat = after.get("temperature_celsius")
        yield f"throttled: {was:.0f} MHz before, {now:.0f} after" + (f", {heat:.0f} °C" if heat else "")
