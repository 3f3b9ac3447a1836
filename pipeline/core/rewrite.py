"""Another form of an op: one that computes the same, or one that nearly does and must be asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.tflite.edit import GraphEdit


@dataclasses.dataclass(frozen=True)
class Rewrite:
    """How one op is written in others.

    Attributes:
      ops: the names of those that it can replace.
      how: what it puts in their place, in words.
      tolerance_steps: how far a value of its int8 output may be from the op's own, in steps of its scale; tested. None
        for an approximation: it is made only where it was asked for by name, and measured.
      make: (the graph, the op's index, whether kernels must have one scale each) → the ops in its place, the last of
        which writes what the op wrote, or none where its readers were changed to do without; None where it does not
        fit. New tensors have names that begin with ``name_for``.
      always: why it is made of an op that the target takes, too; empty where it is not.
      needs: what an op must be for it, in words; said where it was asked for and no op is that.
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
      output: name of the tensor that the rewritten op writes, before and after.
      why: why the target would not have taken the op, or why it is made of one that it takes.
    """

    rewrite: str
    op: str
    output: str
    why: str


def name_for(output: str, rewrite: str) -> str:
    """What the names of a rewrite's new tensors begin with."""
    return f"{output}/{rewrite}"
