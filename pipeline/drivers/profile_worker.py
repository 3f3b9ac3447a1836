"""The process that profiles one .tflite file in LiteRT, op by op; self-contained, so that it can run elsewhere.

    python profile_worker.py FILE THREADS RUNS    one JSON object: see ``profile``
    python profile_worker.py copy THREADS RUNS    one JSON object: see ``copy``

Needs Python, NumPy and ai-edge-litert. The runtime's profiler is reached through the C API of the wheel's libLiteRt.so
(litert/c/litert_profiler.h and litert_profiler_event.h in google-ai-edge/LiteRT). Its events are read one by one: the
table that it prints merges ops of two delegated pieces where kernel and place are the same.
"""

from __future__ import annotations

import ctypes as c
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 10
"""Inferences in turn with the profiler and without it."""
CPU = 1  # kLiteRtHwAcceleratorCpu, litert_common.h
WRITE = 1  # kLiteRtTensorBufferLockModeWrite, litert_tensor_buffer_types.h
DEFAULT, OPERATOR, DELEGATED = 1, 2, 8  # LiteRtProfilerEventType
COPIED_BYTES = tuple(1 << n for n in (18, 20, 22, 24, 26))


PROFILER_FAILED, ONLY_WHOLE = 3, 4
"""Exit codes: LiteRT runs the file, and the profiler does not; it does, and the ops are not the same each time."""


def stop(code: int, why: str) -> None:
    print(why, file=sys.stderr, flush=True)
    raise SystemExit(code)


class Layout(c.Structure):
    _fields_ = (("rank", c.c_uint), ("dimensions", c.c_int32 * 8), ("strides", c.c_uint32 * 8))


class TensorType(c.Structure):
    _fields_ = (("element", c.c_int), ("layout", Layout))


class Event(c.Structure):
    """ProfiledEventData; XNNPACK's have no start."""

    _fields_ = (
        ("tag", c.c_char_p),
        ("kind", c.c_int),
        ("start_us", c.c_uint64),
        ("elapsed_us", c.c_uint64),
        ("memory", c.c_size_t * 6),
        ("node", c.c_uint64),
        ("subgraph", c.c_uint64),
        ("source", c.c_int),
    )


class Profiled:
    """A model compiled for the CPU with the profiler on, its inputs filled with noise."""

    def __init__(self, file: str, threads: int) -> None:
        import ai_edge_litert

        self._lib = c.CDLL(str(Path(ai_edge_litert.__file__).with_name("libLiteRt.so")))
        self._kept: list[Any] = []
        environment = self._new("LiteRtCreateEnvironment", 0, None)
        model = self._new("LiteRtCreateModelFromFile", environment, os.fsencode(file))
        options = self._new("LiteRtCreateOptions")
        self._call("LiteRtSetOptionsHardwareAccelerators", options, CPU)
        for who, what in (
            ("runtime_options_string", "enable_profiling = true\n"),
            ("xnnpack", f"num_threads = {threads}\n"),
        ):
            text, nothing = c.create_string_buffer(what.encode()), c.CFUNCTYPE(None, c.c_void_p)(lambda _: None)
            self._kept += [text, nothing]
            opaque = self._new("LiteRtCreateOpaqueOptions", who.encode(), c.cast(text, c.c_void_p), nothing)
            self._call("LiteRtAddOpaqueOptions", options, opaque)
        self._model = self._new("LiteRtCreateCompiledModel", environment, model, options)
        signature = self._new("LiteRtGetModelSignature", model, c.c_size_t(0))
        self._buffers = [self._make(environment, signature, side) for side in ("Input", "Output")]
        self._profiler = self._new("LiteRtCompiledModelGetProfiler", self._model)

    def _call(self, name: str, *arguments: Any) -> None:
        try:
            status = getattr(self._lib, name)(*arguments)
        except AttributeError:
            stop(PROFILER_FAILED, f"this ai-edge-litert has no {name}: install ai-edge-litert 2.3")
        if status:
            stop(PROFILER_FAILED, f"{name} failed with status {status}")

    def _new(self, name: str, *arguments: Any) -> c.c_void_p:
        handle = c.c_void_p()
        self._call(name, *arguments, c.byref(handle))
        return handle

    def _make(self, environment: c.c_void_p, signature: c.c_void_p, side: str) -> Any:
        count = c.c_size_t()
        self._call(f"LiteRtGetNumSignature{side}s", signature, c.byref(count))
        buffers = (c.c_void_p * count.value)()
        for i in range(count.value):
            tensor = self._new(f"LiteRtGetSignature{side}TensorByIndex", signature, c.c_size_t(i))
            kind = TensorType()
            self._call("LiteRtGetRankedTensorType", tensor, c.byref(kind))
            needs = self._new(
                f"LiteRtGetCompiledModel{side}BufferRequirements", self._model, c.c_size_t(0), c.c_size_t(i)
            )
            buffer = self._new("LiteRtCreateManagedTensorBufferFromRequirements", environment, c.byref(kind), needs)
            buffers[i] = buffer.value
            if side == "Input":
                self._fill(buffer, i)
        return buffers

    def _fill(self, buffer: c.c_void_p, index: int) -> None:
        size, at = c.c_size_t(), c.c_void_p()
        self._call("LiteRtGetTensorBufferSize", buffer, c.byref(size))
        self._call("LiteRtLockTensorBuffer", buffer, c.byref(at), WRITE)
        noise = noise_like(self.dtypes[index], size.value)
        c.memmove(at, noise.ctypes.data, noise.nbytes)
        self._call("LiteRtUnlockTensorBuffer", buffer)

    def run(self) -> tuple[int, list[tuple[str, bool, int, int]]]:
        """One inference: microseconds in all, and (kernel, delegated, node, microseconds) in order."""
        self._call("LiteRtStartProfiler", self._profiler)  # empties it, too; LiteRtResetProfiler would also stop it
        inputs, outputs = self._buffers
        self._call(
            "LiteRtRunCompiledModel",
            self._model,
            c.c_size_t(0),
            c.c_size_t(len(inputs)),
            inputs,
            c.c_size_t(len(outputs)),
            outputs,
        )
        count = c.c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, c.byref(count))
        events = (Event * max(1, count.value))()
        self._call("LiteRtGetProfilerEvents", self._profiler, len(events), events)
        # What an IF or a WHILE runs lies in other subgraphs, and within the time of that op.
        main_events = [e for e in events if e.subgraph == 0]
        totals_us = [e.elapsed_us for e in main_events if e.kind == DEFAULT and e.tag == b"Invoke"]
        if len(totals_us) != 1:
            stop(PROFILER_FAILED, "the profiler's events are not those of ai-edge-litert 2.3: install that version")
        return totals_us[0], [
            (e.tag.decode(errors="replace"), e.kind == DELEGATED, e.node, e.elapsed_us)
            for e in main_events
            if e.kind in (OPERATOR, DELEGATED)
        ]

    dtypes: tuple[np.dtype, ...] = ()


def noise_like(dtype: np.dtype, size_bytes: int) -> np.ndarray:
    """Numbers of all sizes that the type is made for: floats in 0 to 1, other types from all their bits."""
    rng = np.random.default_rng(0)
    if dtype.kind == "f":
        return rng.random(size_bytes // dtype.itemsize).astype(dtype)
    return rng.integers(0, 256, size_bytes, np.uint8)


def profile(file: str, threads: int, runs: int) -> dict[str, Any]:
    """'lines': [[kernel, delegated, node], ...] in order; 'us': [run][line] microseconds; 'total_us': [run];
    'plain_ms': as many inferences without the profiler, timed from outside."""
    from ai_edge_litert.interpreter import Interpreter

    plain = Interpreter(model_path=file, num_threads=threads)
    plain.allocate_tensors()
    inputs = plain.get_input_details()
    for tensor in inputs:
        dtype, size = np.dtype(tensor["dtype"]), int(np.prod(tensor["shape"]))
        plain.set_tensor(tensor["index"], noise_like(dtype, size * dtype.itemsize).view(dtype).reshape(tensor["shape"]))
    Profiled.dtypes = tuple(np.dtype(tensor["dtype"]) for tensor in inputs)
    profiled = Profiled(file, threads)
    lines: list[tuple[str, bool, int]] = []
    us: list[list[int]] = []
    total_us: list[int] = []
    plain_ms: list[float] = []
    while len(us) < runs:
        block = min(BLOCK, runs - len(us))
        profiled.run()  # the caches hold the other's
        for _ in range(block):
            inference_us, events = profiled.run()
            kernels = [event[:3] for event in events]
            if lines and kernels != lines:
                stop(ONLY_WHOLE, "two inferences ran different kernels")
            lines = kernels
            total_us.append(inference_us)
            us.append([event[3] for event in events])
        plain.invoke()
        for _ in range(block):
            begin = time.perf_counter()
            plain.invoke()
            plain_ms.append(1000 * (time.perf_counter() - begin))
    return {"lines": lines, "us": us, "total_us": total_us, "plain_ms": plain_ms}


def copy(threads: int, runs: int) -> dict[str, Any]:
    """'bytes_per_ms': {bytes that one copy moves, read and written both counted: the best of ``runs``}; each thread
    copies its own share with NumPy, again and again, so that what fits into a cache stays there."""
    best = {}
    for moved in COPIED_BYTES:
        share = moved // 2 // threads
        pairs = [(np.ones(share, np.uint8), np.zeros(share, np.uint8)) for _ in range(threads)]
        repeats = max(4, (1 << 25) // moved)
        rates = []
        for _ in range(runs):
            gate, times = threading.Barrier(threads), list[float]()
            workers = [threading.Thread(target=_copy, args=(*pair, repeats, gate, times)) for pair in pairs]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            rates.append(repeats * share * threads * 2 / (1000 * (max(times) - min(times))))
        best[moved] = max(rates)
    return {"bytes_per_ms": best}


def _copy(source: np.ndarray, target: np.ndarray, repeats: int, gate: threading.Barrier, times: list[float]) -> None:
    np.copyto(target, source)
    gate.wait()
    times.append(time.perf_counter())
    for _ in range(repeats):
        np.copyto(target, source)
    times.append(time.perf_counter())


def main(what: str, threads: int, runs: int) -> None:
    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the runtime prints must not mix with the reply
    print(json.dumps(copy(threads, runs) if what == "copy" else profile(what, threads, runs)), file=reply, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
