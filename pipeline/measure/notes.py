"""Notes on a measurement: the conditions that a reader must know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.core.device import XNNPACK
from pipeline.core.measurement import HostComparison
from pipeline.core.score import only_class, says_nothing
from pipeline.measure.loaded import Loaded
from pipeline.measure.plan import BenchPlan
from pipeline.targets import targets

BUSY = 0.5
"""A machine is busy from this load per core on."""
THROTTLED = 0.95
"""A core was throttled when its clock has fallen below this share of what it was."""


def notes_of(
    plan: BenchPlan,
    machine: dict[str, object],
    after: dict[str, object],
    loaded: Sequence[Loaded],
    on_host: HostComparison | None,
    count: int,
) -> Iterator[str]:
    """``loaded``: the parent, the artifact, then others; ``count``: images that were scored."""
    artifact, target = plan.artifact, plan.artifact.recipe.target
    if (note := plan.run.config.division.note_on(plan.split)) is not None:
        yield note
    for each in loaded:
        if each.total is not None and (only := only_class(each.total)) is not None:
            yield f"{each.name}: {says_nothing(plan.run.config.classes[only])}"
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
            f"{artifact.compiled.name} is not for this device: the uncompiled file {artifact.path.name} was scored and"
            " timed instead"
        )
    if on_host and artifact.recipe.file.weights == "int8" and on_host.identical_outputs < count:
        yield (
            f"the int8 output differs from LiteRT's on this machine's CPU on"
            f" {count - on_host.identical_outputs} of {count} images; masks agree on"
            f" {on_host.agreement_percent:.3f} % of pixels"
        )
    yield from notes_on_times(machine, after, loaded)


def notes_on_times(machine: dict[str, object], after: dict[str, object], loaded: Sequence[Loaded]) -> Iterator[str]:
    """What the machine did meanwhile: cautions, load, drift, throttling."""
    if caution := machine.get("caution"):
        yield str(caution)
    cores, load = machine.get("cores"), machine.get("load_average_1min")
    if isinstance(cores, int) and isinstance(load, float) and load > BUSY * cores:
        yield f"the machine was busy before the measurement: a load of {load:.1f} on {cores} cores"
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
