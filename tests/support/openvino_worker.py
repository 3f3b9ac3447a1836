"""Runs a file that was compiled for OpenVINO's CPU; a process of its own, as that is native code.

python openvino_worker.py COMPILED.tflite IN.npy OUT.npy    the file must run there as a whole
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def main(compiled: str, input_file: str, output_file: str) -> None:
    import ai_edge_litert
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.environment import Environment
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import IntelOpenVinoOptions, Options

    vendor = Path(ai_edge_litert.__file__).parent / "vendors" / "intel_openvino"
    environment = Environment.create(
        dispatch_library_path=str(vendor / "dispatch"), compiler_plugin_path=str(vendor / "compiler")
    )
    options = Options(
        hardware_accelerators=HardwareAccelerator.NPU | HardwareAccelerator.CPU,  # OpenVINO counts as an NPU
        intel_openvino_options=IntelOpenVinoOptions(graph_backend=IntelOpenVinoOptions.GRAPH_BACKEND.CPU),
    )
    model = CompiledModel.from_file(compiled, environment=environment, options=options)
    assert model.is_fully_accelerated()
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    details = next(iter(model.get_output_tensor_details(next(iter(model.get_signature_list()))).values()))
    inputs[0].write(np.load(input_file))
    model.run_by_index(0, inputs, outputs)
    shape, dtype = tuple(details["shape"]), np.dtype(details["dtype"])
    np.save(output_file, np.asarray(outputs[0].read(int(np.prod(shape)), dtype)).reshape(shape))


if __name__ == "__main__":
    main(*sys.argv[1:])
