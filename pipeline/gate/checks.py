"""Compares how an artifact stands with limits and with a baseline, check by check."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal

from pipeline.core.errors import BadSpec, RunError, UnknownName
from pipeline.core.number import real, reals
from pipeline.gate.standing import MACHINE, Standing

Outcome = Literal["passed", "failed", "skipped"]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What an artifact must keep; None: not asked.

    Attributes:
      max_loss_points: of mIoU, from the baseline to the artifact.
      max_class_loss_points: the same of each class's IoU.
      max_latency_ratio, max_size_ratio: the artifact's over the baseline's.
      max_coverage_loss_points: of the share of multiply-accumulates that are accelerated.
      max_drop_points: of mIoU, from the float parent to the artifact.
      max_latency_ms: median.
      min_coverage_percent: of multiply-accumulates.
      class_floors: class → least IoU in percent.
    """

    max_loss_points: float | None = None
    max_class_loss_points: float | None = None
    max_latency_ratio: float | None = None
    max_size_ratio: float | None = None
    max_coverage_loss_points: float | None = None
    max_drop_points: float | None = None
    max_latency_ms: float | None = None
    min_coverage_percent: float | None = None
    class_floors: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises BadSpec for what is no limit, such as NaN, which nothing exceeds."""
        points = ("max_loss_points", "max_class_loss_points", "max_coverage_loss_points", "max_drop_points")
        reals(((name, getattr(self, name)) for name in points), -100, 100)
        for name in ("max_latency_ratio", "max_size_ratio", "max_latency_ms"):
            if (limit := getattr(self, name)) is not None:
                real(name, limit, 0, 1e9, above=True)
        percents = [(f"the floor of {name}", floor) for name, floor in self.class_floors.items()]
        reals([("min_coverage_percent", self.min_coverage_percent), *percents], 0, 100)


WITH_BASELINE = Limits(
    max_loss_points=0.5,
    max_class_loss_points=5.0,
    max_latency_ratio=1.1,
    max_size_ratio=1.05,
    max_coverage_loss_points=0.0,
)
"""What is asked with a baseline where nothing else is said."""
RELATIVE = tuple(name for name, limit in dataclasses.asdict(WITH_BASELINE).items() if isinstance(limit, float))


@dataclasses.dataclass(frozen=True)
class Check:
    """One limit and what was found.

    Attributes:
      value, limit: in ``unit``; None where nothing could be compared.
      detail: both sides in words, or why the check was skipped or cannot be passed.
    """

    name: str
    outcome: Outcome
    value: float | None
    limit: float
    unit: str
    detail: str


@dataclasses.dataclass(frozen=True)
class Gated:
    """What became of the gate."""

    standing: Standing
    baseline: Standing | None
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.outcome != "failed" for check in self.checks)

    def to_json(self) -> dict[str, object]:
        return {"passed": self.passed, **dataclasses.asdict(self)}


def gate(standing: Standing, baseline: Standing | None, asked: Limits) -> Gated:
    """Checks everything that is asked, and with a baseline what nobody asked for otherwise (``WITH_BASELINE``).

    A limit that was asked for and cannot be checked is failed; one that is checked by default is skipped. Raises
    BadSpec where nothing is to be checked, RunError for a baseline of other data, and UnknownName for a class that is
    not there.
    """
    if baseline is None and (relative := [name for name in RELATIVE if getattr(asked, name) is not None]):
        raise BadSpec(f"{relative[0]} compares with a baseline: give one with --baseline FILE or RUN.")
    if baseline is not None:
        _comparable(standing, baseline)
    checks = tuple(_checks(standing, baseline, asked))
    if not checks:
        raise BadSpec("the gate has nothing to check: give a baseline, or a limit such as --max-drop 1.")
    return Gated(standing, baseline, checks)


def _comparable(standing: Standing, baseline: Standing) -> None:
    ours = standing.split, standing.images, tuple(sorted(standing.iou_percent))
    theirs = baseline.split, baseline.images, tuple(sorted(baseline.iou_percent))
    if ours[:2] != theirs[:2]:
        raise RunError(
            f"{baseline.where} was scored on {baseline.images} {baseline.split} images and {standing.where} on"
            f" {standing.images} {standing.split} images: accuracies are compared on the same images; measure again."
        )
    if not set(ours[2]) & set(theirs[2]):
        raise RunError(f"{baseline.where} and {standing.where} have no class in common: their datasets differ.")
    for each in (baseline, standing):
        if not each.images_sha256:
            raise RunError(
                f"{each.where} is of an earlier version and does not say which images were scored: measure again, and"
                " save the baseline again."
            )
    unlike = baseline.images_sha256 != standing.images_sha256
    if unlike or baseline.labelled_pixels != standing.labelled_pixels:
        raise RunError(
            f"{baseline.where} was scored on other {'images' if unlike else 'labels'} ({baseline.scored}) than"
            f" {standing.where} ({standing.scored}): accuracies are compared on the same files; measure both on the"
            " same dataset."
        )


def _checks(now: Standing, before: Standing | None, asked: Limits) -> Iterator[Check]:
    if asked.max_drop_points is not None:
        yield _at_most("drop from the float parent", now.drop_points, asked.max_drop_points, "points")
    if asked.max_latency_ms is not None:
        yield _at_most("median latency", now.median_ms, asked.max_latency_ms, "ms")
    if asked.min_coverage_percent is not None:
        yield _at_least("multiply-accumulates accelerated", now.coverage_percent, asked.min_coverage_percent)
    for name, floor in asked.class_floors.items():
        if name not in now.iou_percent:
            raise UnknownName("class", name, now.iou_percent)
        yield _at_least(f"IoU of {name}", now.iou_percent[name], floor)
    if before is None:
        return
    yield _loss(now, before, _limit(asked, "max_loss_points"))
    yield _worst_class(now, before, _limit(asked, "max_class_loss_points"))
    yield _latency(now, before, asked)
    yield _size(now, before, _limit(asked, "max_size_ratio"))
    yield _coverage(now, before, asked)


def _limit(asked: Limits, name: str) -> float:
    value: float | None = getattr(asked, name)
    default: float = getattr(WITH_BASELINE, name)
    return default if value is None else value


def _at_most(name: str, value: float | None, limit: float, unit: str, detail: str = "") -> Check:
    if value is None:
        return Check(name, "failed", None, limit, unit, "it was not measured")
    return Check(name, "passed" if value <= limit else "failed", value, limit, unit, detail)


def _at_least(name: str, value: float | None, limit: float) -> Check:
    if value is None:
        return Check(name, "failed", None, limit, "% at least", "it is not known: the target has no rules")
    return Check(name, "passed" if value >= limit else "failed", value, limit, "% at least", "")


def _loss(now: Standing, before: Standing, limit: float) -> Check:
    words = f"{before.miou_percent:.2f} % → {now.miou_percent:.2f} %"
    return _at_most("loss of mIoU", before.miou_percent - now.miou_percent, limit, "points", words)


def _worst_class(now: Standing, before: Standing, limit: float) -> Check:
    """A class that occurs no more, in labels or masks, has lost all."""
    losses = {name: iou - now.iou_percent.get(name, 0.0) for name, iou in before.iou_percent.items()}
    worst = max(losses, key=losses.__getitem__)
    words = f"{worst}: {before.iou_percent[worst]:.2f} % → {now.iou_percent.get(worst, 0.0):.2f} %"
    return _at_most("largest loss of a class's IoU", losses[worst], limit, "points", words)


def _latency(now: Standing, before: Standing, asked: Limits) -> Check:
    name, limit = "latency over the baseline's", _limit(asked, "max_latency_ratio")
    if now.against is not None and now.against[0] == before.sha256:
        return _at_most(name, 1 / now.against[1], limit, "times", "timed in the same turns")
    unlike = [key for key in MACHINE if now.machine.get(key) != before.machine.get(key)]
    if unlike or now.median_ms is None or before.median_ms is None:
        why = f"measured with another {unlike[0]}" if unlike else "one of them was not timed"
        outcome: Outcome = "skipped" if asked.max_latency_ratio is None else "failed"
        return Check(name, outcome, None, limit, "times", f"{why}: `bench --vs` times both in the same turns")
    words = f"{before.median_ms:.2f} ms → {now.median_ms:.2f} ms, measured at different times"
    return _at_most(name, now.median_ms / before.median_ms, limit, "times", words)


def _size(now: Standing, before: Standing, limit: float) -> Check:
    words = f"{before.size_bytes / 2**20:.2f} MiB → {now.size_bytes / 2**20:.2f} MiB"
    return _at_most("size over the baseline's", now.size_bytes / before.size_bytes, limit, "times", words)


def _coverage(now: Standing, before: Standing, asked: Limits) -> Check:
    name, limit = "loss of accelerated multiply-accumulates", _limit(asked, "max_coverage_loss_points")
    if now.coverage_percent is None or before.coverage_percent is None:
        outcome: Outcome = "skipped" if asked.max_coverage_loss_points is None else "failed"
        return Check(name, outcome, None, limit, "points", "not known of both: `gate --save` keeps it")
    words = f"{before.coverage_percent:.1f} % → {now.coverage_percent:.1f} %"
    return _at_most(name, before.coverage_percent - now.coverage_percent, limit, "points", words)
