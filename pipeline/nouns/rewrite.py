"""Another form of an op that computes the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from pipeline.nouns.graph_edit import GraphEdit


@dataclasses.dataclass(frozen=True)
class Rewrite:
    """How one op is written in others that compute the same.

    Attributes:
      ops: the names of those that it can replace.
      how: what it puts in their place, in words.
      steps: how far a value of its int8 output may be from the op's own, in steps of its scale; a test holds it.
      make: (the graph, the op's index, whether kernels must have one scale each) → the ops in its place, the last of
        which writes what the op wrote; None where it does not fit. New tensors have names that begin with ``name_for``.
      faster: why it is made where the target takes the op as well; '' where only a refused op is rewritten.
    """

    name: str
    ops: tuple[str, ...]
    how: str
    steps: int
    make: Callable[[GraphEdit, int, bool], list[Any] | None]
    faster: str = ""


@dataclasses.dataclass(frozen=True)
class Applied:
    """A rewrite that was made.

    Attributes:
      output: name of the tensor that the rewritten op writes, before and after.
      why: why the target would not have taken the op, or is faster without it.
    """

    rewrite: str
    op: str
    output: str
    why: str


def name_for(output: str, rewrite: str) -> str:
    """What the names of a rewrite's new tensors begin with."""
    return f"{output}/{rewrite}"
