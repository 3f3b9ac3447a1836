"""What an artifact is made for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline.nouns.errors import BadSpec
from pipeline.nouns.preprocessing import InputType
from pipeline.nouns.rules import Rules, Verdict
from pipeline.nouns.tflite import Graph

Say = Callable[[str], None]
Weights = Literal["int8", "float16", "float32"]


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What became of the target's own compiler.

    Attributes:
      path: the compiled file, or None.
      note: one sentence: compiled by what, or why not and how to do it.
    """

    path: Path | None
    note: str


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a target's own compiler or runtime says of a file.

    Attributes:
      verdicts: one per op; None where it could not be asked or said nothing of single ops.
      note: what was asked, or why not and how to make it possible.
      estimates: what it predicts, under its own names and units.
    """

    verdicts: tuple[Verdict, ...] | None
    note: str
    estimates: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Target:
    """A contract on numbers and ops.

    Attributes:
      weights: type of the weights; 'int8' makes the whole graph int8.
      io: types that the input and output may have, the default first.
      source: where its contract comes from.
      rules: which ops it accelerates; None where nothing is known of single ops.
      levels: rules by feature level, for a target that has such; ``rules`` are those of its default level.
      ask: (the .tflite file, its graph) → what the real compiler or runtime makes of each op; None where there is none.
      compile: (the .tflite file, seconds it may take) → Compiled; may raise CompilerError. None where nothing is
        compiled ahead of time.
      missing: () → the command that makes its compiler ready on this machine, or None where it is; None where it needs
        nothing.
      compiled_suffix: what a compiled file's name ends in.
      argmax_lanes: channels that its ARG_MAX takes at once. Where the last ones are not there it reads zeros, which win
        over negative logits, so that a mask is made of a multiple of so many.
      advice: said whenever somebody converts for this target.
    """

    name: str
    title: str
    weights: Weights
    io: tuple[InputType, ...]
    source: str
    rules: Rules | None = None
    levels: Mapping[int, Rules] = dataclasses.field(default_factory=dict)
    ask: Callable[[Path, Graph], Answer] | None = None
    compile: Callable[[Path], Compiled] | None = None
    missing: Callable[[], str | None] | None = None
    compiled_suffix: str = ""
    argmax_lanes: int = 1
    advice: str = ""

    def at_level(self, level: int | None) -> Target:
        """This target with the rules of a feature level; raises BadSpec where it has no such level."""
        if level is None:
            return self
        if level not in self.levels:
            known = f"it has {', '.join(map(str, self.levels))}" if self.levels else "it has none"
            raise BadSpec(f"target {self.name} has no feature level {level}: {known}.")
        return dataclasses.replace(self, rules=self.levels[level])
