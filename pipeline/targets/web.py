"""Browsers, through LiteRT.js: on the GPU by WebGPU, else on the CPU in WebAssembly.

Its WebGPU accelerator is that of ``gpu``, and so are its rules; what it leaves runs in WebAssembly through XNNPACK,
whose rules are those of ``cpu``. A page can ask for either. Weights may have any type, and int8 ones make the smallest
download; the file's inputs and outputs must have a type for which LiteRT.js has arrays.

WebGPU computes an int8 graph in floats and rounds after each op. For all but two ops this gives exactly XNNPACK's
values: LiteRT's average pool rounds ties differently, and XNNPACK's resize has weights of 11 bits. Both are rewritten,
so that a page gives the same mask wherever it runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from pipeline.compilers.browser import BrowserReply, ask_files, missing, version
from pipeline.compilers.gpu_accelerator import Reply, answer, parse
from pipeline.core.errors import CompilerError
from pipeline.core.graph import Graph, Op
from pipeline.core.rules import Verdict
from pipeline.core.target import Answer, Target
from pipeline.rewrites.pools import POOL_AS_DEPTHWISE
from pipeline.rewrites.resizes import RESIZE_AS_PRODUCTS
from pipeline.targets.gpu import LANES
from pipeline.targets.gpu import RULES as ACCELERATOR

SOURCE = "@litertjs/core 2.5.3, DATATYPES; its WebGPU accelerator, asked op by op"
TYPES = ("float32", "int32", "uint8")
REFUSED_TYPE = "is not supported."


def types_at_the_ends(op: Op, graph: Graph) -> str | None:
    """LiteRT.js refuses a file with an input or output of another type: `Element type INT8 is not supported.`"""
    for end, places in (("input", graph.inputs), ("output", graph.outputs)):
        for tensor in (graph.tensors[i] for i in places):
            if tensor.dtype not in TYPES:
                return f"the file's {end} is {tensor.dtype}; LiteRT.js takes {', '.join(TYPES)} (convert --io float32)"
    return None


RULES = dataclasses.replace(
    ACCELERATOR,
    # GATHER makes its compilation fail: `Failed to initialize kernel`.
    ops={name: rule for name, rule in ACCELERATOR.ops.items() if name != "GATHER"},
    source=SOURCE,
    everywhere=(types_at_the_ends, *ACCELERATOR.everywhere),
)


def ask(file: Path, graph: Graph) -> Answer:
    """What the WebGPU accelerator takes, op by op, and whether the file runs in WebAssembly."""
    try:
        by = f"{version()} on WebGPU" if missing() is None else ""
        (plain,) = ask_files([file], "wasm")
        if plain.error.startswith("Error: Element type") and plain.error.endswith(REFUSED_TYPE):
            refusal = plain.error.removeprefix("Error: ")
            return Answer(tuple(Verdict(op.index, "refused", refusal, by, by) for op in graph.ops), by)
        webgpu = answer(file, graph, RULES, on_webgpu, by)
    except CompilerError as error:
        return Answer(None, str(error))
    wasm = f"refused: {plain.error}" if plain.error else "runs all of it"
    return dataclasses.replace(webgpu, note=f"{webgpu.note}; WebAssembly: {wasm}")


def on_webgpu(files: Sequence[Path]) -> list[Reply]:
    return [reply_of(response) for response in ask_files(files, "webgpu")]


def reply_of(response: BrowserReply) -> Reply:
    return parse(response.error, response.log)


ROUNDED = "WebGPU and WebAssembly round it differently"
WEB = Target(
    name="web",
    title="browsers, LiteRT.js",
    aliases=("browser", "browsers", "chrome", "javascript", "wasm", "webassembly", "webgpu"),
    weights="float32",
    other_weights=("int8",),
    io=("float32",),
    source=SOURCE,
    rules=RULES,
    ask=ask,
    missing=missing,
    rewrites=(
        dataclasses.replace(POOL_AS_DEPTHWISE, always=ROUNDED),
        dataclasses.replace(RESIZE_AS_PRODUCTS, always=ROUNDED),
    ),
    argmax_lanes=LANES,
)
