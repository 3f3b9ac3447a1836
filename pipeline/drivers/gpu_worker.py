"""Compiles .tflite files for LiteRT's GPU accelerator; a process of its own, as a file or a driver can end it.

python gpu_worker.py compile FILE ...   before each file a line `@@ FILE` on standard error, where LiteRT says which ops
                                        it refuses; after it a line of JSON on standard output, how it ended
python gpu_worker.py infer FILE IN.npz OUT.npz   runs the file once, all of it on the GPU
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np


def compiled(file: str) -> object:
    """Raises RuntimeError where an op is left to the CPU: that is not among the accelerators asked for."""
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import Options

    return CompiledModel.from_file(file, options=Options(hardware_accelerators=HardwareAccelerator.GPU))


def compile_each(files: list[str], replies: int) -> None:
    for file in files:
        os.write(2, f"@@ {file}\n".encode())
        try:
            error = "" if compiled(file).is_fully_accelerated() else "not fully accelerated"  # type: ignore[attr-defined]
        except RuntimeError as refusal:
            error = str(refusal) or "refused"
        os.write(replies, f"{json.dumps({'file': file, 'error': error})}\n".encode())


def infer(file: str, input_file: str, output_file: str) -> None:
    """Inputs arr_0, arr_1, ... in the file's order, outputs likewise."""
    from ai_edge_litert.interpreter import Interpreter

    outputs = Interpreter(file).get_output_details()
    model = compiled(file)
    sources, results = model.create_input_buffers(0), model.create_output_buffers(0)  # type: ignore[attr-defined]
    with np.load(input_file, allow_pickle=False) as arrays:
        for buffer, name in zip(sources, arrays.files, strict=True):
            buffer.write(np.ascontiguousarray(arrays[name]))
    model.run_by_index(0, sources, results)  # type: ignore[attr-defined]
    arrays_out = [
        np.asarray(buffer.read(int(np.prod(out["shape"])), out["dtype"])).reshape(out["shape"])
        for buffer, out in zip(results, outputs, strict=True)
    ]
    np.savez(output_file, *arrays_out)


if __name__ == "__main__":
    # LiteRT prints to standard output as well; the replies go where nothing else does.
    replies = os.dup(1)
    os.dup2(2, 1)
    if sys.argv[1] == "compile":
        compile_each(sys.argv[2:], replies)
    else:
        infer(*sys.argv[2:5])
