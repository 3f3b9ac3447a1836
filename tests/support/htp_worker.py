"""Runs a QDQ .onnx file on Qualcomm's simulator of the HTP; a process of its own, as that is native code.

python htp_worker.py MODEL.onnx IN.npz OUT.npz    nothing may fall back to the CPU
"""

from __future__ import annotations

import sys

import numpy as np


def main(model: str, inputs: str, outputs: str) -> None:
    import onnxruntime
    import onnxruntime_qnn

    name = onnxruntime_qnn.get_ep_name()
    onnxruntime.register_execution_provider_library(name, onnxruntime_qnn.get_library_path())
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
    options.add_provider_for_devices(devices, {"backend_path": onnxruntime_qnn.get_qnn_htp_path()})
    session = onnxruntime.InferenceSession(model, sess_options=options)
    results = session.run(None, dict(np.load(inputs)))
    np.savez(outputs, **{out.name: result for out, result in zip(session.get_outputs(), results, strict=True)})


if __name__ == "__main__":
    main(*sys.argv[1:])
