"""Which ops a target accelerates, as typed data, and the verdict on an op."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

from pipeline.core.graph import Graph, Op

Outcome = Literal["accelerated", "falls back", "refused"]
Check = Callable[[Op, Graph], str | None]
"""(op, graph) → why the target does not take the op: what came and what is allowed. None where it takes it."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """When a target accelerates one kind of op.

    Attributes:
      reads, writes: types that its activations may have; without ``writes``, those of ``reads``.
      source: where that is documented.
      max_version: newest version of the op that the target takes; None for any.
      checks: on its shapes and options; all must return None.
      remedy: what to do where a check fails.
      fatal_checks: as ``checks``, for an op that passed those. Where one fails, the whole file does not load, compile
        or run.
      fatal_remedy: what to do then.
    """

    reads: tuple[str, ...]
    source: str
    max_version: int | None = None
    checks: tuple[Check, ...] = ()
    writes: tuple[str, ...] = ()
    remedy: str = ""
    fatal_checks: tuple[Check, ...] = ()
    fatal_remedy: str = ""


@dataclasses.dataclass(frozen=True)
class Rules:
    """Which ops of a graph a target accelerates. An op without a rule falls back.

    Attributes:
      ops: name of an op → its rule.
      custom: name of a custom op → its rule.
      source: where the list of ops is documented.
      everywhere: checks that each op must pass.
      partitions: which partitions of a graph the target keeps: 'all', the 'largest', the 'first', or the 'whole' graph
        and nothing less.
      refuses_newer: whether an op of a newer version ends the compilation instead of falling back.
      cache_bytes: on-chip memory for parameters; the rest streams in each inference. None for no such limit.
      cache_source: where cache_bytes comes from.
      caveat: what the rules leave out because no compiler could be asked; a sentence for whoever reads the verdicts.
      fallback: op → what the runtime's own kernel asks of an op that falls back to it. Where a check fails, the whole
        file does not load or run.
      fallback_remedy: what to do then.
      stored_bytes: (op, graph) → bytes of an accelerated op's constants as the target lays them out, with padding; None
        where they have the size that they have in the file.
    """

    ops: Mapping[str, Rule]
    source: str
    everywhere: tuple[Check, ...] = ()
    partitions: Literal["all", "largest", "first", "whole"] = "all"
    refuses_newer: bool = False
    cache_bytes: int | None = None
    cache_source: str = ""
    caveat: str = ""
    fallback: Mapping[str, tuple[Check, ...]] = dataclasses.field(default_factory=dict)
    custom: Mapping[str, Rule] = dataclasses.field(default_factory=dict)
    fallback_remedy: str = ""
    stored_bytes: Callable[[Op, Graph], int] | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a target does with one op.

    Attributes:
      op: its index in the graph.
      reason: why it is not accelerated; empty where it is.
      source: where that is documented.
      by: 'rule', or the name and version of the compiler or runtime that decided.
      remedy: what to do about it; may be empty.
    """

    op: int
    outcome: Outcome
    reason: str
    source: str
    by: str = "rule"
    remedy: str = ""
