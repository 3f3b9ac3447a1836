"""What a target takes of each op, as typed data, and what is said of an op."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

from pipeline.core.graph import Graph, Op

Outcome = Literal["accelerated", "falls back", "refused"]
Check = Callable[[Op, Graph], str | None]
"""Why an op is not taken, in words that say what came and what is allowed; None where it is."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a target takes of one op.

    Attributes:
      reads, writes: types that its activations may have; no ``writes``: those of ``reads``.
      source: where that is written.
      newest: newest version of the op that is taken; None: any.
      checks: what its shapes and options must fulfil.
      remedy: what can be done about it where a check fails.
      breaks: what ends the loading, compilation or first run of the whole file where an op that passed all of the above
        does not fulfil it.
      mend: what can be done about that.
    """

    reads: tuple[str, ...]
    source: str
    newest: int | None = None
    checks: tuple[Check, ...] = ()
    writes: tuple[str, ...] = ()
    remedy: str = ""
    breaks: tuple[Check, ...] = ()
    mend: str = ""


@dataclasses.dataclass(frozen=True)
class Rules:
    """What a target takes of a graph. An op without a rule falls back.

    Attributes:
      ops: op → rule.
      custom: custom op → rule.
      source: of the list of ops itself.
      everywhere: checks that each op must pass.
      partitions: which of the accelerated pieces of a graph the target keeps: 'all', the 'largest', the 'first', or the
        'whole' graph alone.
      refuses_newer: whether an op of a newer version ends the compilation instead of falling back.
      cache_bytes: on-chip memory for parameters; what is beyond it streams in each inference. None: no such limit.
      cache_source: where cache_bytes comes from.
      beyond: what nobody could ask here, and the rules therefore do not say.
      fallback: op → what the runtime's own kernel asks of one that falls back to it; where that is not fulfilled, the
        whole file does not load, or not run.
      mend: what can be done about that.
      stored_bytes: what the target keeps of an accelerated op's constants, padded as it lays them out; None: what they
        have in the file.
    """

    ops: Mapping[str, Rule]
    source: str
    everywhere: tuple[Check, ...] = ()
    partitions: Literal["all", "largest", "first", "whole"] = "all"
    refuses_newer: bool = False
    cache_bytes: int | None = None
    cache_source: str = ""
    beyond: str = ""
    fallback: Mapping[str, tuple[Check, ...]] = dataclasses.field(default_factory=dict)
    custom: Mapping[str, Rule] = dataclasses.field(default_factory=dict)
    mend: str = ""
    stored_bytes: Callable[[Op, Graph], int] | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What becomes of one op.

    Attributes:
      op: its index in the graph.
      reason: why it is not accelerated; empty where it is.
      source: where that is written.
      by: 'rule', or the name and version of the compiler or runtime that did it.
      remedy: what could be done about it; may be empty.
    """

    op: int
    outcome: Outcome
    reason: str
    source: str
    by: str = "rule"
    remedy: str = ""
