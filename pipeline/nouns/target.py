"""What an artifact is made for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pipeline.nouns.preprocessing import InputType

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
class Target:
    """A contract on numbers and ops.

    Attributes:
      weights: type of the weights; 'int8' makes the whole graph int8.
      io: types that the input and output may have, the default first.
      op_versions: newest version of each op that the target's compiler takes; None where LiteRT itself runs the file,
        which takes every version that it writes.
      source: where op_versions comes from.
      compile: (the .tflite file, seconds it may take) → Compiled; may raise CompilerError. None where nothing is
        compiled ahead of time.
      compiled_suffix: what a compiled file's name ends in.
      advice: said whenever somebody converts for this target.
    """

    name: str
    title: str
    weights: Weights
    io: tuple[InputType, ...]
    source: str
    op_versions: dict[str, int] | None = None
    compile: Callable[[Path], Compiled] | None = None
    compiled_suffix: str = ""
    advice: str = ""
