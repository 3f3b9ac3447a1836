"""Applies a target's rules to each op of a graph."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.core.graph import BORDER, Graph, Op
from pipeline.core.rules import Check, Rule, Rules, Verdict
from pipeline.tflite.macs import MALFORMED

QUANTIZE_IT = "an int8 file: `convert` makes one for this target"
NOT_RUN = "the whole file does not run with this op"


def apply_rules(graph: Graph, rules: Rules) -> tuple[Verdict, ...]:
    """The verdict on each op by itself, before the target chooses partitions."""
    return tuple(_judge(op, graph, rules) for op in graph.ops)


def _judge(op: Op, graph: Graph, rules: Rules) -> Verdict:
    verdict = _judge_alone(op, graph, rules)
    if verdict.outcome != "falls back" or op.custom:
        return verdict
    reason = _first_reason(rules.fallback.get(op.name, ()), op, graph)
    if not reason:
        return verdict
    return Verdict(op.index, "refused", f"{reason}: {NOT_RUN}", rules.source, remedy=rules.fallback_remedy)


def _first_reason(checks: Sequence[Check], op: Op, graph: Graph) -> str | None:
    for check in checks:
        try:
            reason = check(op, graph)
        except MALFORMED:
            reason = "its inputs or options do not fit this kind of op: the file may be broken"
        if reason:
            return reason
    return None


def _judge_alone(op: Op, graph: Graph, rules: Rules) -> Verdict:
    def no(reason: str, source: str, remedy: str = "", refused: bool = False) -> Verdict:
        return Verdict(op.index, "refused" if refused else "falls back", reason, source, remedy=remedy)

    rule: Rule | None = (rules.custom if op.custom else rules.ops).get(op.name)
    if rule is None:
        return no("a custom op" if op.custom else "not an op that this target knows", rules.source)
    if rule.max_version is not None and op.version > rule.max_version:
        return no(f"version {op.version}; {rule.max_version} at most", rule.source, rule.remedy, rules.refuses_newer)
    for tensors, allowed in ((graph.reads(op), rule.reads), (graph.writes(op), rule.writes or rule.reads)):
        for tensor in tensors:
            if not tensor.constant and tensor.dtype not in allowed:
                float_file = op.name not in BORDER and "float" in tensor.dtype and "float" not in "".join(allowed)
                remedy = QUANTIZE_IT if float_file else rule.remedy
                return no(f"works on {tensor.dtype}; allowed: {', '.join(allowed)}", rule.source, remedy)
    if reason := _first_reason((*rules.everywhere, *rule.checks), op, graph):
        return no(reason, rule.source, rule.remedy)
    if reason := _first_reason(rule.fatal_checks, op, graph):
        return no(f"{reason}: {NOT_RUN}", rule.source, rule.fatal_remedy, refused=True)
    return Verdict(op.index, "accelerated", "", rule.source)
