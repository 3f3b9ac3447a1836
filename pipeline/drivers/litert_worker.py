"""Runs one .tflite file in LiteRT in a process of its own: a file that crashes the runtime does not end the caller.

It needs only Python, NumPy and ai-edge-litert, so that it runs on any machine it is copied to.

python litert_worker.py describe              prints one JSON line: the machine
python litert_worker.py state                 prints one JSON line: load, temperature and clock, which change
python litert_worker.py run MODEL SETTINGS    SETTINGS is JSON: {"threads": 1} and, optionally, "pinned": true,
                                              "accelerator": "gpu", "delegate": path of its library,
                                              "options": {options of the delegate},
                                              "mask": {"height": 360, "width": 480, "resize": "align_corners"}

`run` reads requests from standard input and answers on standard output. First it sends one JSON line with the facts.
Then it answers each line: 'infer' (followed by an array) with the output array, 'time N' with float64 [N] milliseconds,
'memory' with int64 [1], the peak resident bytes. It ends with its input. An array is sent as 8 bytes of length
(little-endian), then its .npy form. With "mask", which needs this package and a C compiler, a timed inference includes
making the mask of that size; 'infer' still answers with the output.
"""

from __future__ import annotations

import contextlib
import glob
import io
import json
import math
import os
import platform
import resource
import struct
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)
CPUS = "/sys/devices/system/cpu"
MOST_ARRAY_BYTES = 4 << 30


def send(stream: IO[bytes], array: np.ndarray) -> None:
    """Writes the array as ``receive`` reads it."""
    packed = io.BytesIO()
    np.save(packed, np.ascontiguousarray(array), allow_pickle=False)
    stream.write(struct.pack("<q", packed.tell()))
    stream.write(packed.getbuffer())
    stream.flush()


def receive(stream: IO[bytes], most_bytes: int = MOST_ARRAY_BYTES) -> np.ndarray:
    """Reads one array of at most so many bytes as it is sent.

    Raises EOFError when the other side has closed the stream, ValueError for what is no such array.
    """
    length = stream.read(8)
    if len(length) < 8:
        raise EOFError
    size = struct.unpack("<q", length)[0]
    if not 0 < size <= most_bytes:
        raise ValueError(f"an array of {size} bytes")
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    packed = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(packed) != (1, 0):
            raise ValueError("another version")
        shape, _, dtype = np.lib.format.read_array_header_1_0(packed)
    except Exception as error:  # NumPy reads the header as Python: SyntaxError, TokenError, RecursionError, ...
        raise ValueError(f"no array: {error}") from None
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != size - packed.tell():  # or it would be allocated
        raise ValueError(f"{dtype} {shape} in {size} bytes")
    packed.seek(0)
    return np.load(packed, allow_pickle=False)


def peak_memory_bytes() -> int:
    """Peak resident memory of this process. On Linux, ru_maxrss would include that of the process that forked it."""
    try:
        with open("/proc/self/status") as status:
            return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _text(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return None


def _number(path: str) -> int | None:
    text = _text(path)
    return int(text) if text and text.lstrip("-").isdigit() else None


def cores() -> list[int]:
    """The cores that this process may use, the fastest first."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return sorted(allowed, key=lambda core: (-(_number(f"{CPUS}/cpu{core}/cpufreq/cpuinfo_max_freq") or 0), -core))


def describe() -> dict[str, Any]:
    """The machine: CPU, its features for int8, cores, governor, memory, system, runtime; None where unknown."""
    cpu: dict[str, str] = {}
    for line in (_text("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        cpu.setdefault(key.strip(), value.strip())
    flags = (cpu.get("flags") or cpu.get("Features") or "").split()
    memory = next((x for x in (_text("/proc/meminfo") or "").splitlines() if x.startswith("MemTotal")), None)
    try:
        import importlib.metadata

        runtime = f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}"
    except ImportError:
        runtime = None
    board = (_text("/sys/firmware/devicetree/base/model") or "").strip("\0")
    return {
        "cpu": cpu.get("model name") or board or platform.processor() or platform.machine(),
        "cpu_features": [f for f in FEATURES if f in flags],
        "cores": len(cores()),
        "governor": _text(f"{CPUS}/cpu{cores()[0]}/cpufreq/scaling_governor"),
        "memory_bytes": 1024 * int(memory.split()[1]) if memory else None,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "runtime": runtime,
        **state(),
    }


def state() -> dict[str, Any]:
    """Load, temperature of the hottest zone, and clock of the fastest core, which a single pinned thread runs on."""
    zones = [_number(zone) for zone in glob.glob("/sys/class/thermal/thermal_zone*/temp")]
    frequency = _number(f"{CPUS}/cpu{cores()[0]}/cpufreq/scaling_cur_freq")
    return {
        "load_average_1min": os.getloadavg()[0],
        "temperature_celsius": max((zone / 1000 for zone in zones if zone is not None), default=None),
        "frequency_mhz": frequency / 1000 if frequency else None,
    }


class Cpu:
    """LiteRT's interpreter with XNNPACK, or with another delegate."""

    def __init__(self, model: str, settings: dict[str, Any]) -> None:
        from ai_edge_litert.interpreter import Interpreter, load_delegate

        library = settings.get("delegate")
        delegates = [load_delegate(library, settings.get("options"))] if library else None
        self.interpreter = Interpreter(
            model_path=model, num_threads=settings["threads"], experimental_delegates=delegates
        )
        self.interpreter.allocate_tensors()
        self.source, self.result = self.interpreter.get_input_details()[0], self.interpreter.get_output_details()[0]
        self.runs_on = os.path.basename(library) if library else "XNNPACK"

    def set(self, image: np.ndarray) -> None:
        self.interpreter.set_tensor(self.source["index"], image)

    def invoke(self) -> None:
        self.interpreter.invoke()

    def get(self) -> np.ndarray:
        return self.interpreter.get_tensor(self.result["index"])

    def output(self) -> np.ndarray:
        """The output in LiteRT's own memory, not copied: valid until the next inference."""
        return self.interpreter.tensor(self.result["index"])()


class Gpu:
    """LiteRT's GPU accelerator. ``invoke`` reads the output back, because a run returns before its work is finished."""

    def __init__(self, model: str, settings: dict[str, Any]) -> None:
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator
        from ai_edge_litert.interpreter import Interpreter
        from ai_edge_litert.options import Options

        shapes = Interpreter(model)  # not allocated: only its tensors' types and shapes are read
        self.source, self.result = shapes.get_input_details()[0], shapes.get_output_details()[0]
        # GPU alone, not "GPU or CPU": this raises an error where an op would be left to the CPU.
        self.model = CompiledModel.from_file(model, options=Options(hardware_accelerators=HardwareAccelerator.GPU))
        self.inputs, self.outputs = self.model.create_input_buffers(0), self.model.create_output_buffers(0)
        self.runs_on = "LiteRT's GPU accelerator, every op"

    def set(self, image: np.ndarray) -> None:
        self.inputs[0].write(np.ascontiguousarray(image))

    def invoke(self) -> None:
        self.model.run_by_index(0, self.inputs, self.outputs)
        self.get()

    def get(self) -> np.ndarray:
        read = self.outputs[0].read(int(np.prod(self.result["shape"])), self.result["dtype"])
        return np.asarray(read).reshape(self.result["shape"])


def mask_maker(loaded: Any, pixels: dict[str, Any]) -> Any:
    """A function without arguments that makes the mask of the newest output, which it does not copy."""
    import tempfile

    from pipeline.core.mask import Grid
    from pipeline.heads.native import NativeMask

    with tempfile.TemporaryDirectory() as folder:
        native = NativeMask(Path(folder))
    grid = Grid(**pixels)
    mask = np.empty(grid.size, np.uint8)
    make = native.exact if len(loaded.result["shape"]) == 4 else native.nearest
    return lambda: make(loaded.output()[0], grid, mask)


def _milliseconds(invoke: Any) -> float:
    begin = time.perf_counter()
    invoke()
    return 1000 * (time.perf_counter() - begin)


def replies() -> IO[bytes]:
    """Standard output for the replies. What a runtime prints goes to standard error from now on, not among them."""
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return stdout


def bind(settings: dict[str, Any]) -> None:
    """With "pinned", binds this process to as many cores as it has threads; call it before a runtime starts them."""
    if settings.get("pinned") and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cores()[: settings["threads"]])


def run(model: str, settings: dict[str, Any]) -> None:
    out = replies()
    bind(settings)
    import ai_edge_litert.interpreter  # noqa: F401, so that importing is not part of init_ms

    serve(out, Gpu if settings.get("accelerator") == "gpu" else Cpu, model, settings)


def serve(out: IO[bytes], load: Any, model: str, settings: dict[str, Any]) -> None:
    """Loads the file with ``load``, Cpu, Gpu or a class like them, and answers requests until the input ends."""
    started = time.perf_counter()
    loaded = load(model, settings)
    init_ms = 1000 * (time.perf_counter() - started)
    loaded.set(np.zeros(loaded.source["shape"], loaded.source["dtype"]))
    facts = {
        "input_dtype": np.dtype(loaded.source["dtype"]).name,
        "output_dtype": np.dtype(loaded.result["dtype"]).name,
        "output_scale": float(loaded.result["quantization"][0]),
        "output_zero_point": int(loaded.result["quantization"][1]),
        "init_ms": init_ms,
        "first_ms": _milliseconds(loaded.invoke),
        "runs_on": loaded.runs_on,
    }
    out.write(json.dumps(facts).encode() + b"\n")
    out.flush()
    finish = mask_maker(loaded, settings["mask"]) if "mask" in settings else None

    def infer_with_mask() -> None:
        loaded.invoke()
        if finish:
            finish()

    requests = sys.stdin.buffer
    for line in requests:
        verb, _, argument = line.decode().strip().partition(" ")
        if verb == "infer":
            loaded.set(receive(requests))
            loaded.invoke()
            answer = loaded.get()
        elif verb == "time":
            answer = np.array([_milliseconds(infer_with_mask) for _ in range(int(argument))])
        else:
            answer = np.array([peak_memory_bytes()])
        send(out, answer)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run(sys.argv[2], json.loads(sys.argv[3]))
    else:
        print(json.dumps(describe() if sys.argv[1] == "describe" else state()), flush=True)
