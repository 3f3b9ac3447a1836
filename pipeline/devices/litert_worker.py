"""The process that runs one .tflite file in LiteRT: a file that ends the runtime ends this process, not the caller.

Usage: python litert_worker.py MODEL THREADS. It reads requests from standard input and answers on standard output:
first one JSON line with the facts; then per line 'infer' (followed by an array) → the output array, 'time N' →
float64 [N] milliseconds, 'memory' → int64 [1] peak resident bytes. End of input ends it. An array is its .npy form
after 8 bytes of length.
"""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import sys
import time
from typing import IO

import numpy as np


def send(stream: IO[bytes], array: np.ndarray) -> None:
    packed = io.BytesIO()
    np.save(packed, np.ascontiguousarray(array), allow_pickle=False)
    stream.write(struct.pack("<q", packed.tell()))
    stream.write(packed.getbuffer())
    stream.flush()


def receive(stream: IO[bytes]) -> np.ndarray:
    """Raises EOFError when the other side has ended."""
    length = stream.read(8)
    data = stream.read(struct.unpack("<q", length)[0]) if len(length) == 8 else b""
    if not data:
        raise EOFError
    return np.load(io.BytesIO(data), allow_pickle=False)


def peak_memory_bytes() -> int:
    """Peak resident memory of this process. Linux' ru_maxrss would start from that of the process that forked it."""
    try:
        with open("/proc/self/status") as status:
            return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(model: str, threads: int) -> None:
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the runtime prints must not mix with the replies
    requests = sys.stdin.buffer
    from ai_edge_litert.interpreter import Interpreter

    started = time.perf_counter()
    interpreter = Interpreter(model_path=model, num_threads=threads)
    interpreter.allocate_tensors()
    init_ms = 1000 * (time.perf_counter() - started)
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    facts = {
        "input_dtype": np.dtype(source["dtype"]).name, "output_dtype": np.dtype(result["dtype"]).name,
        "output_scale": float(result["quantization"][0]), "output_zero_point": int(result["quantization"][1]),
        "init_ms": init_ms,
    }  # fmt: skip
    replies.write(json.dumps(facts).encode() + b"\n")
    replies.flush()
    for line in requests:
        verb, _, argument = line.decode().strip().partition(" ")
        if verb == "infer":
            interpreter.set_tensor(source["index"], receive(requests))
            interpreter.invoke()
            answer = interpreter.get_tensor(result["index"])
        elif verb == "time":
            answer = np.empty(int(argument))
            for i in range(len(answer)):
                begin = time.perf_counter()
                interpreter.invoke()
                answer[i] = 1000 * (time.perf_counter() - begin)
        else:
            answer = np.array([peak_memory_bytes()])
        send(replies, answer)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
