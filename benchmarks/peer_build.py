"""Quantizes our float network with another runtime's own tools; run by benchmarks/peers.py in .venv-peers.

python benchmarks/peer_build.py FLOAT.tflite CALIBRATION.npy FOLDER

FLOAT.tflite gives full-size logits; CALIBRATION.npy holds uint8 [n, h, w, 3] images. Writes into FOLDER, for each head
of ``onnx_form.FloatForm`` and each way worth a try, <runtime>-<head>-<way>.onnx or .xml, and versions.json. Their
input is the image as it comes, 8 bits, so that no runtime pays for a float image; ONNX Runtime's logits stay in 8 bits.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.onnx_form import FloatForm  # noqa: E402

HEADS = ("mask", "logits", "stride8")
PACKAGES = ("onnx", "onnxruntime", "openvino", "nncf")


def reals(images: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """float32 [1, 3, h, w] in [0, 1], as our own calibration sees them."""
    for image in images:
        yield {"image": np.ascontiguousarray(image.transpose(2, 0, 1)[None]).astype(np.float32) / np.float32(255)}


class Reader:
    """ONNX Runtime's CalibrationDataReader: the next input, or None after the last."""

    def __init__(self, images: np.ndarray) -> None:
        self.rest = reals(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.rest, None)


def whole_numbers_at_the_ends(model: Any, code: int, zero: int) -> None:
    """Leaves out the quantization of the image, which has 8 bits, and the dequantization of the logits."""
    from onnx import numpy_helper

    graph = model.graph
    constants = {c.name: c for c in graph.initializer}
    (first,) = (n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "image")
    scale, point = (constants[name] for name in first.input[1:3])
    assert abs(numpy_helper.to_array(scale) * 255 - 1) < 0.02, "calibration images that do not fill 0 to 255"
    scale.CopyFrom(numpy_helper.from_array(np.asarray(1 / 255, np.float32), scale.name))
    point.CopyFrom(numpy_helper.from_array(np.asarray(zero, numpy_helper.to_array(point).dtype), point.name))
    for node in graph.node:
        node.input[:] = ["image" if name == first.output[0] else name for name in node.input]
    graph.node.remove(first)
    graph.input[0].type.tensor_type.elem_type = code
    (last,) = (n for n in graph.node if graph.output[0].name in n.output)
    if last.op_type == "DequantizeLinear":
        graph.node.remove(last)
        graph.output[0].name = last.input[0]
        graph.output[0].type.tensor_type.elem_type = code


def for_onnxruntime(form: Path, head: str, images: np.ndarray, folder: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = folder / "prepared.onnx"
    quant_pre_process(str(form), str(prepared), skip_symbolic_shape=True)
    for way, kind, code, zero in (
        ("u8s8", QuantType.QUInt8, onnx.TensorProto.UINT8, 0),
        ("s8s8", QuantType.QInt8, onnx.TensorProto.INT8, -128),
    ):
        path = folder / f"onnxruntime-{head}-{way}.onnx"
        quantize_static(
            str(prepared),
            str(path),
            Reader(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=kind,
            weight_type=QuantType.QInt8,
        )
        model = onnx.load(str(path))
        whole_numbers_at_the_ends(model, code, zero)
        onnx.save(model, str(path))
    prepared.unlink()


def for_openvino(form: Path, head: str, images: np.ndarray, folder: Path) -> None:
    import nncf
    import openvino as ov
    from openvino.preprocess import PrePostProcessor

    for preset in (nncf.QuantizationPreset.PERFORMANCE, nncf.QuantizationPreset.MIXED):
        quantized = nncf.quantize(
            ov.convert_model(str(form)),
            nncf.Dataset([x["image"] for x in reals(images)]),
            preset=preset,
            subset_size=len(images),
            target_device=nncf.TargetDevice.CPU,
        )
        for layout in ("NCHW", "NHWC"):
            steps = PrePostProcessor(quantized.clone())
            steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout(layout))
            steps.input().model().set_layout(ov.Layout("NCHW"))
            steps.input().preprocess().convert_element_type(ov.Type.f32).scale(255.0)
            ov.save_model(steps.build(), str(folder / f"openvino-{head}-{preset.value}-{layout.lower()}.xml"))


def main(network: str, calibration: str, target: str) -> None:
    folder, data, images = Path(target), Path(network).read_bytes(), np.load(calibration)
    folder.mkdir(parents=True, exist_ok=True)
    for head in HEADS:
        form = folder / f"float-{head}.onnx"
        form.write_bytes(FloatForm(data, head).dumps())
        for_onnxruntime(form, head, images, folder)
        for_openvino(form, head, images, folder)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    (folder / "versions.json").write_text(json.dumps(versions) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
