"""Profiles a file on this machine's CPU, and measures what the CPU attains at best there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipeline.core.errors import ArtifactError
from pipeline.core.keeper import scratch_folder
from pipeline.core.memory import free_bytes
from pipeline.core.profile import Line, Peaks, RuntimeProfile
from pipeline.core.program import NotEnded, run
from pipeline.drivers.last_words import how_it_ended, why_it_failed
from pipeline.tflite.read import packed

PROFILER_FAILED, ONLY_WHOLE = 3, 4
"""Exit codes of ``profile_worker``."""
WORKER = Path(__file__).with_name("profile_worker.py")
TIMEOUT_SECONDS = 900
PROFILE_BYTES = 1 << 30
"""More than the times of a million inferences of a large network take."""
QUARTILE = 25
"""Times are lower quartiles over the inferences, for each line by itself: other programs only ever add to them."""
LARGE = ((32, 256, 256), (32, 512, 512), (32, 1024, 1024), (64, 256, 512))
"""1×1 convolutions for the peak: rows and columns, channels in, channels out; 67 to 1074 million MACs."""
PEAK_RUNS = 20


def profile(file: Path, threads: int, runs: int) -> RuntimeProfile:
    """Raises ArtifactError where LiteRT cannot run or profile the file."""
    answer = _work(str(file), threads, runs)
    us, total_us = np.array(answer["us"], np.float64), np.array(answer["total_us"], np.float64)
    ms = np.percentile(us, QUARTILE, axis=0) / 1000
    return RuntimeProfile(
        lines=tuple(Line(k, n, d, float(t)) for (k, d, n), t in zip(answer["lines"], ms, strict=True)),
        between_ms=float(np.percentile(total_us - us.sum(1), QUARTILE) / 1000),
        plain_ms=float(np.percentile(answer["plain_ms"], QUARTILE)),
        runs=runs,
    )


def peaks(threads: int) -> Peaks:
    """Takes about ten seconds."""
    best = dict.fromkeys(("int8", "float32"), 0.0)
    with scratch_folder() as folder:
        for dtype in best:
            for side, before, after in LARGE:
                file = folder / "one.tflite"
                file.write_bytes(convolution(side, before, after, dtype))
                us = min(sum(run) for run in _work(str(file), threads, PEAK_RUNS)["us"])
                best[dtype] = max(best[dtype], side * side * before * after / (us / 1000))
    copied = _work("copy", threads, 5)["bytes_per_ms"]
    return Peaks(best["int8"], best["float32"], {int(size): rate for size, rate in copied.items()})


def _work(what: str, threads: int, runs: int) -> dict[str, Any]:
    command = [sys.executable, str(WORKER), what, str(threads), str(runs)]
    try:
        completed = run(command, TIMEOUT_SECONDS, kept_bytes=PROFILE_BYTES, memory_bytes=free_bytes())
    except NotEnded as error:
        raise ArtifactError(f"profiling {what} {error}: ask for fewer --runs.") from None
    if completed.code != 0:
        how, why = how_it_ended(completed.code), why_it_failed(completed.err)
        if completed.code == PROFILER_FAILED:
            raise ArtifactError(f"LiteRT cannot profile {what} ({why}): try `bench`, which needs no profiler.")
        if completed.code == ONLY_WHOLE:
            raise ArtifactError(
                f"LiteRT runs {what} and cannot tell its ops apart: {why}. `bench` times it as a whole."
            )
        raise ArtifactError(
            f"LiteRT cannot profile {what}, as it does not run it ({how}; {why}): `inspect --target cpu` says what it"
            " makes of each op."
        )
    return dict(json.loads(completed.stdout.decode()))


def convolution(side: int, before: int, after: int, dtype: str) -> bytes:
    """A .tflite file: one 1×1 convolution, [1, side, side, before] → [1, side, side, after], with noise for weights."""
    rng = np.random.default_rng(0)
    int8 = dtype == "int8"
    kernel = rng.integers(-127, 128, (after, 1, 1, before)).astype(np.int8)
    bias = np.zeros(after, np.int32)
    model = schema.ModelT()
    model.version, model.description = 3, "one convolution"
    graph = schema.SubGraphT()
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    code.version = 3 if int8 else 1
    model.operatorCodes, model.buffers, graph.tensors = [code], [schema.BufferT()], []
    for name, shape, values, scales in (
        ("image", (1, side, side, before), None, [1 / 127]),
        ("kernel", kernel.shape, kernel, [1 / 127] * after),
        ("bias", bias.shape, bias, [1 / 127**2] * after),
        ("out", (1, side, side, after), None, [before**0.5 / 40]),
    ):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, list(shape), 0
        tensor.type = schema.TensorType.FLOAT32
        if int8:
            tensor.type = schema.TensorType.INT32 if name == "bias" else schema.TensorType.INT8
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.asarray(scales, np.float32)
            tensor.quantization.zeroPoint = np.zeros(len(scales), np.int64)
        if values is not None:
            buffer = schema.BufferT()
            stored = values if int8 else (values / 127).astype(np.float32)
            buffer.data = np.ascontiguousarray(stored).view(np.uint8).ravel()
            model.buffers.append(buffer)
            tensor.buffer = len(model.buffers) - 1
        graph.tensors.append(tensor)
    op = schema.OperatorT()
    op.opcodeIndex, op.inputs, op.outputs = 0, [0, 1, 2], [3]
    op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.Conv2DOptions, schema.Conv2DOptionsT()
    op.builtinOptions.strideH = op.builtinOptions.strideW = 1
    op.builtinOptions.dilationHFactor = op.builtinOptions.dilationWFactor = 1
    op.builtinOptions.padding = schema.Padding.VALID
    graph.operators, graph.inputs, graph.outputs = [op], [0], [3]
    model.subgraphs = [graph]
    return packed(model, kernel.nbytes * 4)
