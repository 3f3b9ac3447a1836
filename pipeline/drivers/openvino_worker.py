"""As ``litert_worker``, with OpenVINO in LiteRT's place: python openvino_worker.py MODEL SETTINGS

MODEL is OpenVINO's own .xml with its .bin, or a .tflite file as OpenVINO reads it. SETTINGS: "threads", "pinned" and
"mask" of ``litert_worker``.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from pipeline.drivers.litert_worker import bind, replies, serve


class OpenVino:
    """A network on OpenVINO's CPU plugin, one inference at a time."""

    def __init__(self, model: str, settings: dict[str, Any]) -> None:
        import openvino as ov

        core = ov.Core()
        network = core.read_model(model)
        compiled = core.compile_model(
            network,
            "CPU",
            # The process is bound to its cores already; OpenVINO would choose others.
            {
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": "1",
                "INFERENCE_NUM_THREADS": settings["threads"],
                "ENABLE_CPU_PINNING": False,
            },
        )
        self.request = compiled.create_infer_request()
        self.image = np.zeros(list(compiled.input().shape), compiled.input().element_type.to_dtype())
        self.request.set_input_tensor(ov.Tensor(self.image, shared_memory=True))
        self.source = {"shape": self.image.shape, "dtype": self.image.dtype}
        quantization = [
            network.get_rt_info(["segquant", name]).value if network.has_rt_info(["segquant", name]) else "0"
            for name in ("output_scale", "output_zero_point")
        ]
        self.result = {
            "shape": list(compiled.output().shape),
            "dtype": compiled.output().element_type.to_dtype(),
            "quantization": (float(quantization[0]), int(quantization[1])),
        }
        floats = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()  # it chooses by the CPU
        self.runs_on = f"its CPU plugin, what is not int8 in {floats}"

    def set(self, image: np.ndarray) -> None:
        self.image[...] = image

    def invoke(self) -> None:
        self.request.infer(share_outputs=True)  # or each output is copied for a caller that wants none

    def output(self) -> np.ndarray:
        return np.asarray(self.request.get_output_tensor().data)

    def get(self) -> np.ndarray:
        return self.output().copy()


if __name__ == "__main__":
    options = json.loads(sys.argv[2])
    out = replies()
    bind(options)
    import openvino  # noqa: F401, so that importing is not part of init_ms

    serve(out, OpenVino, sys.argv[1], options)
