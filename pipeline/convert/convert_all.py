"""Makes the artifact of every target, and reports the outcome of each. One that fails does not stop the others."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from pipeline.convert.convert import compile_artifact, convert, spec_for
from pipeline.convert.options import ConvertAllOptions
from pipeline.convert.parent import Parent, choose_parent
from pipeline.core.artifact import Artifact
from pipeline.core.errors import SegquantError
from pipeline.core.inspection import Coverage
from pipeline.core.memory import free_bytes
from pipeline.core.program import end_those_of
from pipeline.core.progress import track
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.core.target import Target
from pipeline.measure.inspect import inspect
from pipeline.measure.saved import INSPECT, keep

COMPILER_BYTES = 3 << 30
"""Memory that a vendor's compiler may need for a whole FCN8: an estimate, with room to spare."""


@dataclasses.dataclass(frozen=True)
class TargetOutcome:
    """The outcome of converting for one target.

    Attributes:
      note: which compiler compiled it, or why none did; the error where it failed.
      coverage: by the target's compiler or runtime where it answered, else by its rules; None without either.
      estimates: what its compiler predicts; nothing of it was measured.
    """

    target: str
    failed: bool
    note: str
    file: str | None = None
    size_bytes: int | None = None
    coverage: Coverage | None = None
    estimates: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def convert_all(run: Run, targets: Iterable[Target], options: ConvertAllOptions, say: Say) -> tuple[TargetOutcome, ...]:
    """Converts for one target after the other; compiles and inspects meanwhile, several at once where memory allows.

    An error becomes the note of its target.
    """
    outcomes: list[TargetOutcome | Future[TargetOutcome]] = []
    parents: dict[str, Parent] = {}
    threads: list[threading.Thread] = []
    with ThreadPoolExecutor(
        compilers_at_once(), initializer=lambda: threads.append(threading.current_thread())
    ) as compilers:
        try:
            targets = list(targets)
            for target in track(say, targets, "converting", len(targets), "targets"):
                say(f"{target.name}: {target.title}")
                target = target if options.rewrites else target.without_rewrites()
                try:
                    artifact = _convert(run, target, options, parents, say)
                except SegquantError as error:
                    outcomes.append(_failed(target, error, say))
                else:
                    outcomes.append(compilers.submit(_compile_and_inspect, artifact, target, options, say))
            finished = track(say, outcomes, "compiling", len(outcomes), "targets")
            return tuple(each if isinstance(each, TargetOutcome) else each.result() for each in finished)
        except BaseException:  # Ctrl-C: the pool waits for its threads, and they for their compilers
            compilers.shutdown(wait=False, cancel_futures=True)
            end_those_of(threading.current_thread())
            end_those_of(*threads, for_good=True)
            raise


def _convert(run: Run, target: Target, options: ConvertAllOptions, parents: dict[str, Parent], say: Say) -> Artifact:
    """``parents``: those chosen so far, by the type of their weights; a new one is added."""
    if target.weights not in parents:
        parents[target.weights] = choose_parent(run, target, options.quantization, say)
    spec = spec_for(run, target, options.output, options.stride, None, say)
    return convert(run, target, say, spec, source=parents[target.weights], force=options.force, replace_stale=True)


def compilers_at_once() -> int:
    """How many compilers run at the same time: one for each processor, and for each 3 GiB of free memory."""
    free = free_bytes()
    return max(1, min(os.cpu_count() or 1, (COMPILER_BYTES if free is None else free) // COMPILER_BYTES))


def _compile_and_inspect(artifact: Artifact, target: Target, options: ConvertAllOptions, say: Say) -> TargetOutcome:
    try:
        required = options.require_compiled and target.compile is not None
        artifact, compiled = compile_artifact(artifact, target, required, say)
        inspection = inspect(artifact.path, target) if target.rules is not None else None
    except SegquantError as error:
        return _failed(target, error, say)
    if inspection is not None:
        keep(INSPECT, artifact.path, inspection.to_json(), inspection.target)
    say(f"{target.name}: done")
    return TargetOutcome(
        target.name,
        failed=False,
        note=compiled.note if compiled is not None else "LiteRT runs it as it is",
        file=str(artifact.path),
        size_bytes=artifact.path.stat().st_size,
        coverage=(inspection.real_coverage or inspection.coverage) if inspection else None,
        estimates=inspection.estimates if inspection else {},
    )


def _failed(target: Target, error: SegquantError, say: Say) -> TargetOutcome:
    say(f"{target.name}: {error}")
    return TargetOutcome(target.name, failed=True, note=str(error))
