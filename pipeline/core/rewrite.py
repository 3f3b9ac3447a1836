"""Another form of an op: an exact one, or an approximation, which a user must ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.tflite.edit import GraphEdit


@dataclasses.dataclass(frozen=True)
class Rewrite:
    """How an op is replaced by others.

    Attributes:
      ops: names of the ops that it can replace.
      how: what replaces them, in words.
      tolerance_steps: how far a value of its int8 output may be from the op's own, in steps of its scale; tested. None
        for an approximation: it is made only where it was asked for by name, and measured.
      make: (the graph, the op's index, whether kernels must have one scale each) → the new ops, the last of which
        writes the op's output; [] where its readers were changed instead, so that the op can go; None where the rewrite
        does not fit the op. Names of new tensors begin with ``name_for``.
      always: why it is made even of an op that the target accelerates; empty where it is made of refused ops alone.
      needs: which op it fits, in words, for the error where it was asked for and no op fits.
    """

    name: str
    ops: tuple[str, ...]
    how: str
    tolerance_steps: int | None
    make: Callable[[GraphEdit, int, bool], list[Any] | None]
    always: str = ""
    needs: str = ""

    @property
    def exact(self) -> bool:
        return self.tolerance_steps is not None


@dataclasses.dataclass(frozen=True)
class AppliedRewrite:
    """A rewrite that was made.

    Attributes:
      rewrite, op: names of the rewrite and of the op that it replaced.
      output: name of the tensor that the op wrote; the new ops write it now.
      why: why the target does not accelerate the op, or the rewrite's ``always``.
    """

    rewrite: str
    op: str
    output: str
    why: str


def name_for(output: str, rewrite: str) -> str:
    """The prefix of the names of a rewrite's new tensors."""
    return f"{output}/{rewrite}"
