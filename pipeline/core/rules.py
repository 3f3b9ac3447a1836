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
      max_version: newest version of the op that is taken; None: any.
      checks: what its shapes and options must fulfil.
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
      caveat: what the rules leave out because no compiler could be asked; a sentence for whoever reads the verdicts.
      fallback: op → what the runtime's own kernel asks of an op that falls back to it. Where a check fails, the whole
        file does not load or run.
      fallback_remedy: what to do then.
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
    caveat: str = ""
    fallback: Mapping[str, tuple[Check, ...]] = dataclasses.field(default_factory=dict)
    custom: Mapping[str, Rule] = dataclasses.field(default_factory=dict)
    fallback_remedy: str = ""
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
