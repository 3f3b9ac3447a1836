"""Makes the artifact of every target, and says what became of each. One that fails does not stop the others."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.convert.convert import compile_artifact, convert, spec_for
from pipeline.convert.parent import Parent, choose_parent
from pipeline.core.artifact import Artifact
from pipeline.core.calibration import Quantization
from pipeline.core.errors import SegquantError
from pipeline.core.file_spec import Output, Stride
from pipeline.core.inspection import Coverage
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.core.target import Target
from pipeline.measure.inspect import inspect

COMPILER_BYTES = 3 << 30
"""What a compiler of a whole FCN8 may need; an estimate, with room to spare."""


@dataclasses.dataclass(frozen=True)
class TargetOutcome:
    """What became of one target.

    Attributes:
      coverage: by the target's compiler or runtime where it answered, else by its rules; None without either.
      estimates: what its compiler predicts; nothing of it was measured.
      note: compiled by what, or why not; the error where it failed.
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


def convert_all(  # long: to be split
    run: Run,
    targets: Iterable[Target],
    say: Say,
    *,
    output: Output,
    asked: Quantization,
    stride: Stride | None = None,
    rewrites: bool = True,
    force: bool = False,
    require_compiled: bool = False,
) -> tuple[TargetOutcome, ...]:
    """Converts for each target in turn; compiles and inspects beside that, several at once where memory allows.

    An error becomes that target's note.
    """
    begun: list[TargetOutcome | Future[TargetOutcome]] = []
    parents: dict[str, Parent] = {}
    with ThreadPoolExecutor(at_once()) as compilers:
        for target in targets:
            say(f"{target.name}: {target.title}")
            target = target if rewrites else target.without_rewrites()
            try:
                if target.weights not in parents:
                    parents[target.weights] = choose_parent(run, target, asked, say)
                spec = spec_for(run, target, output, stride, None, say)
                source = parents[target.weights]
                artifact = convert(run, target, say, spec, source=source, force=force, replace_stale=True)
            except SegquantError as error:
                begun.append(_failed(target, error, say))
            else:
                begun.append(compilers.submit(_compiled, artifact, target, require_compiled, say))
        found = []
        for one in begun:
            found.append(one if isinstance(one, TargetOutcome) else one.result())
    return tuple(found)


def at_once() -> int:
    """How many compilers run beside each other: one for each processor, and for each 3 GiB of memory at hand."""
    try:
        said = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        at_hand_bytes = int(said["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):  # not Linux
        at_hand_bytes = COMPILER_BYTES
    return max(1, min(os.cpu_count() or 1, at_hand_bytes // COMPILER_BYTES))


def _compiled(artifact: Artifact, target: Target, require_compiled: bool, say: Say) -> TargetOutcome:
    try:
        artifact, compiled = compile_artifact(artifact, target, require_compiled and target.compile is not None, say)
        note = compiled.note if compiled is not None else "LiteRT runs it as it is"
        seen = inspect(artifact.path, target) if target.rules is not None else None
    except SegquantError as error:
        return _failed(target, error, say)
    say(f"{target.name}: done")
    return TargetOutcome(
        target.name,
        False,
        note,
        str(artifact.path),
        artifact.path.stat().st_size,
        (seen.real_coverage or seen.coverage) if seen else None,
        seen.estimates if seen else {},
    )


def _failed(target: Target, error: SegquantError, say: Say) -> TargetOutcome:
    say(f"{target.name}: {error}")
    return TargetOutcome(target.name, True, str(error))
