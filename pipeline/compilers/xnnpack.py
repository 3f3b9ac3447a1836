"""Asks LiteRT on this machine which ops it hands to XNNPACK."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

from pipeline.core.graph import Graph, Op
from pipeline.core.program import NotEnded, run
from pipeline.core.rules import Verdict
from pipeline.core.target import Answer
from pipeline.drivers.last_words import how_it_ended, why_it_failed

WORKER = Path(__file__).parents[1] / "drivers" / "xnnpack_worker.py"
TIMEOUT_SECONDS = 300
MOST_MEMORY_BYTES = 2 << 30
"""For loading a file, which may be a stranger's."""
ANSWER_BYTES = 256 << 20
"""For graphs of millions of tensors."""


def ask(file: Path, graph: Graph) -> Answer:
    """Which ops LiteRT hands to XNNPACK on this machine."""
    by = f"LiteRT {importlib.metadata.version('ai-edge-litert')}"
    try:
        command = [sys.executable, str(WORKER), str(file)]
        completed = run(command, TIMEOUT_SECONDS, kept_bytes=ANSWER_BYTES, memory_bytes=MOST_MEMORY_BYTES)
    except NotEnded as error:
        return Answer(None, f"{by}, loading the file, {error}")
    if completed.code != 0:
        how, why = how_it_ended(completed.code), why_it_failed(completed.err)
        return Answer(None, f"{by} cannot load the file ({how}): {why}")
    inside = in_pieces(graph, json.loads(completed.stdout.decode().splitlines()[-1]))
    return Answer(
        tuple(
            Verdict(op.index, "accelerated", "", by, by)
            if op.index in inside
            else Verdict(op.index, "falls back", "left to LiteRT's own kernel", by, by)
            for op in graph.ops
        ),
        f"{by}, XNNPACK",
    )


def in_pieces(graph: Graph, pieces: list[dict[str, list[int]]]) -> set[int]:
    """Ops between the inputs and the outputs of the delegate's pieces, and those that write variables inside them."""
    made_by = {i: op for op in graph.ops for i in op.outputs}
    writing: dict[int, list[Op]] = {}
    for op in graph.ops:
        if op.name == "ASSIGN_VARIABLE" and op.inputs:
            writing.setdefault(op.inputs[0], []).append(op)
    delegated: set[int] = set()
    for piece in pieces:
        borders, open_ends = set(piece["inputs"]), list(piece["outputs"])
        while open_ends:
            producer = made_by.get(open_ends.pop())
            if producer is not None and producer.index not in delegated:
                delegated.add(producer.index)
                open_ends += [i for i in producer.inputs if i >= 0 and i not in borders]
                handles = producer.outputs if producer.name == "VAR_HANDLE" else ()
                writers = [writer for i in handles for writer in writing.get(i, ())]
                delegated.update(writer.index for writer in writers)
                open_ends += [i for writer in writers for i in writer.inputs if i not in borders]
    return delegated
