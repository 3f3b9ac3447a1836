"""Holds one network in one runtime and times it when asked; a process of its own, started by benchmarks/peers.py.

python benchmarks/peer_worker.py '{"runtime": ..., "model": FILE, "threads": N, "cores": [...], ...}'

Speaks as pipeline/drivers/litert_worker.py does: 'infer' and an array → the output; 'time N' → float64 [N]
milliseconds. What is timed begins with the image in the runtime's input tensor and ends with the head's output.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.drivers.litert_worker import receive, send  # noqa: E402

Loaded = tuple[Callable[[np.ndarray], None], Callable[[], object], Callable[[], np.ndarray]]
"""Puts a uint8 [1, h, w, 3] image into the runtime's input; runs, which is what is timed; gives the output."""


def onnxruntime(request: dict[str, Any]) -> Loaded:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = request["threads"], 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if request["spinning"] else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")  # at the end of a run
    session = ort.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])
    (source,), (result,) = session.get_inputs(), session.get_outputs()
    signed = source.type == "tensor(int8)"
    image = np.zeros(source.shape, np.int8 if signed else np.uint8)
    binding = session.io_binding()
    dtype = {"tensor(int64)": np.int64, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8, "tensor(float)": np.float32}
    output = np.zeros(result.shape, dtype[result.type])
    for bind, name, array in ((binding.bind_input, source.name, image), (binding.bind_output, result.name, output)):
        bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def give(pixels: np.ndarray) -> None:
        raw = pixels.transpose(0, 3, 1, 2)
        image[...] = raw.astype(np.int16) - 128 if signed else raw

    return give, lambda: session.run_with_iobinding(binding), lambda: output


def openvino(request: dict[str, Any]) -> Loaded:
    import openvino as ov

    settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": request["threads"]}
    # A process's own affinity is the pinning here; OpenVINO's would choose cores of its own.
    compiled = ov.Core().compile_model(
        request["model"], "CPU", {**settings, "ENABLE_CPU_PINNING": False, **request["set"]}
    )
    infer_request = compiled.create_infer_request()
    image = np.zeros(list(compiled.input().shape), np.uint8)
    infer_request.set_input_tensor(ov.Tensor(image, shared_memory=True))

    def give(pixels: np.ndarray) -> None:
        image[...] = pixels if image.shape[3] == 3 else pixels.transpose(0, 3, 1, 2)

    def infer() -> None:
        infer_request.infer(share_outputs=True)  # or each output is copied for a caller that wants none

    def output() -> np.ndarray:
        return np.asarray(infer_request.get_output_tensor().data)

    if "exact" not in request:
        return give, infer, output
    return give, *with_mask(request, infer, output, {"dtype": np.int8})


def litert(request: dict[str, Any]) -> Loaded:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=request["model"], num_threads=request["threads"])
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def give(pixels: np.ndarray) -> None:
        kind = source["dtype"]
        raw = (
            pixels
            if kind == np.uint8
            else pixels * np.float32(1 / 255)
            if kind == np.float32
            else (pixels.astype(np.int16) - 128).astype(np.int8)
        )
        interpreter.set_tensor(source["index"], raw)

    if "exact" not in request:
        return give, interpreter.invoke, lambda: interpreter.get_tensor(result["index"])
    return give, *with_mask(request, interpreter.invoke, interpreter.tensor(result["index"]), result)


def with_mask(
    request: dict[str, Any], infer: Callable[[], object], output: Callable[[], np.ndarray], result: dict[str, Any]
) -> tuple[Callable[[], object], Callable[[], np.ndarray]]:
    """What runs and what gives the mask of full size of ``output``, made by segquant_mask.c."""
    from pipeline.core.mask import Grid
    from pipeline.heads.native import NativeMask

    exact = request["exact"]
    height, width = exact["size"]
    grid = Grid(height, width, exact["resize"])
    mask = np.zeros(grid.size, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        finish = NativeMask(Path(folder))
    as_int8 = None if result["dtype"] == np.int8 else Int8(result["shape"], exact["scale"], exact["zero_point"])

    def run() -> None:
        infer()
        logits = output()
        finish.exact((as_int8.of(logits) if as_int8 else logits)[0], grid, mask)

    return run, lambda: mask


class Int8:
    """Rounds float logits to the steps of the int8 network's, which the exact mask takes; without new memory."""

    def __init__(self, shape: Sequence[int], scale: float, zero_point: int) -> None:
        self.steps, self.codes = np.empty(shape, np.float32), np.empty(shape, np.int8)
        self.inverse, self.zero_point = np.float32(1 / scale), np.float32(zero_point)

    def of(self, logits: np.ndarray) -> np.ndarray:
        np.multiply(logits, self.inverse, out=self.steps)
        np.add(self.steps, self.zero_point, out=self.steps)
        np.rint(self.steps, out=self.steps)
        np.clip(self.steps, -128, 127, out=self.steps)
        np.copyto(self.codes, self.steps, casting="unsafe")
        return self.codes


RUNTIMES: dict[str, Callable[[dict[str, Any]], Loaded]] = {
    "litert": litert,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
}


def main(request: dict[str, Any]) -> None:
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a runtime prints must not mix with the replies
    os.sched_setaffinity(0, request["cores"])  # before the runtime starts its threads, which inherit it
    give, run, read = RUNTIMES[request["runtime"]](request)
    send(replies, np.zeros(0))
    for line in sys.stdin.buffer:
        verb, _, argument = line.decode().strip().partition(" ")
        if verb == "infer":
            give(receive(sys.stdin.buffer))
            run()
            answer = read()
        else:
            answer = np.empty(int(argument))
            for i in range(len(answer)):
                begin = time.perf_counter()
                run()
                answer[i] = 1000 * (time.perf_counter() - begin)
        send(replies, answer)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
