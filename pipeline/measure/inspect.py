"""Inspects how a target runs a .tflite file, op by op."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.core.errors import ArtifactError, BadSpec
from pipeline.core.graph import BORDER, Graph
from pipeline.core.inspection import Change, Coverage, Inspection
from pipeline.core.printable import LONGEST_NAME, printable
from pipeline.core.program import end_those_of
from pipeline.core.rules import Rules, Verdict
from pipeline.core.target import Answer, Target
from pipeline.targets import targets
from pipeline.tflite.apply_rules import apply_rules
from pipeline.tflite.macs import MALFORMED, macs
from pipeline.tflite.partitions import after_partitioning, partitions
from pipeline.tflite.read import read_file

MOST_CHANGES = 24
"""Groups of ops for which ``best_change`` tries acceptance; a file can have as many custom ops as it has ops."""


def coverage(graph: Graph, verdicts: Sequence[Verdict], by: str, counts: Sequence[int] | None = None) -> Coverage:
    """The sums of ``verdicts``, which come from ``by``. ``counts``: the MACs of each op, where known already."""
    accelerated = [v.outcome == "accelerated" for v in verdicts]
    parts = partitions(graph, accelerated)
    part_of = {i: n for n, part in enumerate(parts) for i in part}
    producer = {i: op.index for op in graph.ops for i in op.outputs}
    crossing = {
        i for op in graph.ops for i in op.inputs if i in producer and part_of.get(producer[i]) != part_of.get(op.index)
    }
    counts = [macs(op, graph) for op in graph.ops] if counts is None else counts
    return Coverage(
        ops=len(graph.ops),
        ops_accelerated=sum(accelerated),
        macs=sum(counts),
        macs_accelerated=sum(n for n, yes in zip(counts, accelerated, strict=True) if yes),
        partitions=len(parts),
        crossing_bytes=sum(graph.tensors[i].activation_bytes for i in crossing),
        by=by,
    )


def best_change(graph: Graph, alone: tuple[Verdict, ...], rules: Rules) -> Change | None:
    """Of the groups of ops with one name and one remedy, that whose acceptance would gain most: MACs, then ops."""
    counts = [macs(op, graph) for op in graph.ops]
    now = coverage(graph, after_partitioning(graph, alone, rules), "rule", counts)
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in alone:
        if verdict.outcome != "accelerated":
            groups.setdefault((graph.ops[verdict.op].name, verdict.remedy), []).append(verdict)
    large = sorted(groups.items(), key=lambda group: (-sum(counts[v.op] for v in group[1]), -len(group[1])))
    changes = []
    for (name, remedy), group in large[:MOST_CHANGES]:
        inside = {v.op for v in group}
        then = tuple(dataclasses.replace(v, outcome="accelerated") if v.op in inside else v for v in alone)
        new = coverage(graph, after_partitioning(graph, then, rules), "rule", counts)
        gained = (new.macs_accelerated - now.macs_accelerated, new.ops_accelerated - now.ops_accelerated)
        changes.append(Change(tuple(sorted(inside)), name, group[0].reason, remedy, gained[1], gained[0]))
    return max(changes, key=lambda c: (c.macs_gained, c.ops_gained), default=None)


def _stored(graph: Graph, verdicts: Sequence[Verdict], rules: Rules) -> int:
    """Bytes of the accelerated ops' constants as the target stores them; 0 where its layout is not known."""
    if rules.stored_bytes is None:
        return 0
    try:
        return sum(rules.stored_bytes(graph.ops[v.op], graph) for v in verdicts if v.outcome == "accelerated")
    except MALFORMED:
        return 0


def _answer(target: Target, file: Path, graph: Graph, wait_seconds: float | None) -> Answer:
    """The compiler's answer; after ``wait_seconds`` the compiler and all that it began are killed."""
    assert target.ask is not None
    if wait_seconds is None:
        return target.ask(file, graph)
    answers: queue.SimpleQueue[Answer | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put(target.ask(file, graph))  # type: ignore[misc]
        except Exception as error:
            answers.put(error)

    asking = threading.Thread(target=work, daemon=True)
    asking.start()
    try:
        answer = answers.get(timeout=wait_seconds)
    except queue.Empty:
        end_those_of(asking, for_good=True)
        return Answer(None, f"its compiler gave no answer within {wait_seconds:g} s (--wait gives it longer)")
    if isinstance(answer, Exception):
        raise answer
    return answer


def opened(file: Path) -> tuple[bytes, Graph]:
    """The bytes and the graph of a .tflite file that no vendor's compiler has compiled; raises ArtifactError."""
    data, graph = read_file(file)
    check_not_compiled(graph, file)
    return data, graph


def check_not_compiled(graph: Graph, file: Path) -> None:
    """Raises ArtifactError for a file that a vendor's compiler wrote: the ops that it compiled are no longer in it."""
    marks: dict[str, list[str]] = {}
    for target in targets().values():
        for mark in target.compiled_ops:
            marks.setdefault(mark, []).append(target.name)
    compiled_op = next((op.name for op in graph.ops if op.custom and op.name in marks), None)
    if compiled_op is not None:
        raise ArtifactError(
            f"{file} is compiled already: it holds {compiled_op}, an op of the compiler for"
            f" {' or '.join(marks[compiled_op])}. Name the file that it was compiled from."
        )


def notes_on(graph: Graph) -> tuple[str, ...]:
    """What to know about the file: a size that it leaves open, which one is assumed and how to fix it, and a QAT that
    kept its start."""
    return tuple(_sizes_left_open(graph)) + tuple(_start_kept(graph))


def _start_kept(graph: Graph) -> Iterator[str]:
    with contextlib.suppress(ArtifactError):  # another program's recipe decides nothing here
        recipe = graph.recipe()
        if recipe is not None and recipe.origin is not None and recipe.origin.kept_start:
            yield (
                "quantization-aware training kept its start, so the file has the float weights with calibrated ranges,"
                " as post-training quantization makes them; the run's report says why"
            )


def _sizes_left_open(graph: Graph) -> Iterator[str]:
    for i in graph.inputs:
        tensor = graph.tensors[i]
        if tensor.open_axes:
            fixed = f"[{', '.join(map(str, tensor.shape))}]"
            what = "more than the batch size" if graph.open_beyond_batch else "the batch size"
            yield (
                f"input {printable(tensor.name, LONGEST_NAME)} leaves {what} open: {fixed} is assumed, the size that"
                " the file stores, as runtimes do by default. To fix the size, convert from a function of that size:"
                f" tf.function(network, input_signature=[tf.TensorSpec({fixed})]).get_concrete_function()"
            )
            return


def inspect(file: Path, target: Target, compiler: bool = True, wait_seconds: float | None = None) -> Inspection:
    """How ``target`` runs ``file``, by its rules and, with ``compiler``, by its own compiler where that is installed.

    ``wait_seconds``: how long the compiler may take; None: as long as it needs.
    Raises ArtifactError for a file that is not a .tflite file, and BadSpec for a target without rules.
    """
    if target.rules is None:
        only = (
            f"only its compiler can say: `convert --target {target.name}`"
            if target.compile
            else "choose another (`list`)"
        )
        raise BadSpec(f"target {target.name} has no rules about ops: {only}.")
    _, graph = opened(file)
    rules = target.rules
    alone = apply_rules(graph, rules)
    verdicts = after_partitioning(graph, alone, rules)
    real, estimates, note = None, {}, f"target {target.name} has no compiler that can be asked"
    if target.ask is not None and compiler:
        answer = _answer(target, file, graph, wait_seconds)
        real, estimates, note = answer.verdicts, dict(answer.estimates), answer.note
    elif not compiler:
        note = "not asked"
    if real is None and rules.caveat:
        note = f"{note}. {rules.caveat}"
    inside = {i for v in verdicts if v.outcome == "accelerated" for i in graph.ops[v.op].inputs if i >= 0}
    parameters = sum(graph.tensors[i].size_bytes for i in inside)
    stored = _stored(graph, verdicts, rules) or parameters
    counts = [macs(op, graph) for op in graph.ops]
    largest = max((t for t in graph.tensors if not t.constant), key=lambda t: t.activation_bytes, default=None)
    return Inspection(
        target=target.text,
        ops=tuple((op.name, next((t.name for t in graph.writes(op)), "").split(";")[0]) for op in graph.ops),
        verdicts=verdicts,
        coverage=coverage(graph, verdicts, "rule", counts),
        real=real,
        real_coverage=coverage(graph, real, real[0].by, counts) if real else None,
        real_note=note,
        parameter_bytes=parameters,
        streamed_bytes=None if rules.cache_bytes is None else max(0, stored - rules.cache_bytes),
        largest_activation_bytes=largest.activation_bytes if largest else 0,
        largest_activation=largest.name if largest else "",
        requantizations=sum(
            op.name in BORDER
            and not graph.at_border(op)
            and not all(t.constant for t in graph.reads(op))  # weights stored as float16 do not change a range
            for op in graph.ops
        ),
        estimates=estimates,
        change=best_change(graph, alone, rules),
        subgraphs=graph.subgraphs,
        notes=notes_on(graph),
    )
