"""Makes the artifact of every target, and says what became of each. One that fails does not stop the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from pipeline.convert import Graphs, Parent, choose_parent, compile_artifact, convert
from pipeline.fold import Output
from pipeline.inspect import inspect
from pipeline.nouns.calibration import Quantization
from pipeline.nouns.errors import SegquantError
from pipeline.nouns.inspection import Coverage
from pipeline.nouns.run import Run
from pipeline.nouns.target import Target

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Made:
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


def convert_all(
    run: Run, targets: Iterable[Target], say: Say, *, output: Output, asked: Quantization, rewrites: bool = True,
    force: bool = False, require_compiled: bool = False,
) -> tuple[Made, ...]:  # fmt: skip
    """Converts, compiles and inspects for each target in turn; an error becomes that target's note."""
    found = []
    parents: dict[str, Parent] = {}
    graphs: Graphs = {}
    for target in targets:
        say(f"{target.name}: {target.title}")
        target = target if rewrites else dataclasses.replace(target, rewrites=())
        try:
            if target.weights not in parents:
                parents[target.weights] = choose_parent(run, target, asked, say)
            artifact = convert(
                run, target, say, output=output, asked=asked, force=force, replace_stale=True,
                parent=parents[target.weights], graphs=graphs,
            )  # fmt: skip
            artifact, compiled = compile_artifact(
                artifact, target, require_compiled and target.compile is not None, say
            )  # fmt: skip
            note = compiled.note if compiled is not None else "LiteRT runs it as it is"
            seen = inspect(artifact.path, target) if target.rules is not None else None
            found.append(
                Made(
                    target.name, False, note, str(artifact.path), artifact.path.stat().st_size,
                    (seen.real_coverage or seen.coverage) if seen else None, seen.estimates if seen else {},
                )
            )  # fmt: skip
        except SegquantError as error:
            say(f"{target.name}: {error}")
            found.append(Made(target.name, True, str(error)))
    return tuple(found)
