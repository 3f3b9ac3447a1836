"""The arithmetic of Qualcomm's HTP, on Qualcomm's simulator: our int8 networks in ONNX form, layer by layer and whole.

The simulator is in onnxruntime-qnn (x86-64). A file compiled by LiteRT runs on a phone only.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.onnx_form import Form
from pipeline.targets.qualcomm import INSTALL
from pipeline.tflite.read import read
from tests.compilers.test_litert_aot import same_classes, smooth_image
from tests.support.int8_networks import int8_network

LAYERS_AT_ONCE = 8
OUT_OF_MEMORY = "QNN_COMMON_ERROR_MEM_ALLOC"
"""What the simulator says of some layers outside their network; the whole network, with them, is well."""


@pytest.fixture(
    scope="module", params=[("fast-scnn", (161, 193)), ("fcn8", (64, 128)), ("fastfcn8", (64, 128))], ids=str
)
def network(request):
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxruntime_qnn")):
        pytest.skip(f"Qualcomm's simulator is not installed: {INSTALL}")
    return int8_network(*request.param, "logits")


def interpreted(data, image, reference):
    """LiteRT with every activation: its reference kernels, or the way users run it."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
    interpreter = Interpreter(
        model_content=data,
        experimental_op_resolver_type=kind,
        experimental_preserve_all_tensors=reference,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return interpreter


def on_the_htp(form, interpreter, folder):
    """Output tensor → what the simulator makes of it."""
    (folder / "x.onnx").write_bytes(form.dumps())
    inputs = {f"in{i}": np.ascontiguousarray(interpreter.get_tensor(i).transpose(0, 3, 1, 2)) for i in form.ins}
    np.savez(folder / "in.npz", allow_pickle=False, **inputs)
    worker = Path(__file__).parents[1] / "support" / "htp_worker.py"
    result = subprocess.run(
        [sys.executable, str(worker), *(str(folder / name) for name in ("x.onnx", "in.npz", "out.npz"))],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert result.returncode == 0, [line for line in result.stderr.splitlines() if "rror" in line][-3:]
    return {int(name[1:]): output.transpose(0, 2, 3, 1) for name, output in np.load(folder / "out.npz").items()}


def layer_by_layer(network, ops, interpreter, folder):
    """Output tensor → what the simulator makes of it from LiteRT's activations."""
    try:
        return on_the_htp(Form(network, [op.index for op in ops]), interpreter, folder)
    except AssertionError as error:
        if OUT_OF_MEMORY not in str(error):
            raise
        if len(ops) == 1:
            return {}
    half = len(ops) // 2
    return {
        **layer_by_layer(network, ops[:half], interpreter, folder),
        **layer_by_layer(network, ops[half:], interpreter, folder),
    }


def resized(data, op, graph):
    """Bilinear with align_corners, from the definition, in float64: the corners of both grids meet."""
    new = graph.tensors[op.outputs[0]].shape[1:3]
    out = data[0].astype(np.float64)
    for axis, size in enumerate(new):
        last = out.shape[axis] - 1
        place = np.arange(size) * (last / (size - 1) if size > 1 else 0)
        low = np.minimum(place.astype(int), max(0, last - 1))
        part = (place - low).reshape([-1 if i == axis else 1 for i in range(3)])
        out = out.take(low, axis) * (1 - part) + out.take(np.minimum(low + 1, last), axis) * part
    return out[None]


@pytest.mark.real
def test_each_layer_by_itself_differs_by_two_steps_at_most(network, tmp_path):
    """From LiteRT's activations. A resize is held against the definition: LiteRT's reference kernel rounds its factor
    to 1/1024 of a pixel, which adds up to the far border (7 steps on a trained network; the HTP stays below 1)."""
    graph = read(network)
    image = smooth_image(graph.tensors[graph.inputs[0]].shape)
    interpreter = interpreted(network, image, reference=True)
    equal, layers = [], 0
    for first in range(0, len(graph.ops), LAYERS_AT_ONCE):
        ops = graph.ops[first : first + LAYERS_AT_ONCE]
        outputs = layer_by_layer(network, ops, interpreter, tmp_path)
        for op in (op for op in ops if op.outputs[0] in outputs):
            expected = interpreter.get_tensor(op.outputs[0]).astype(np.float64)
            most = 2.0
            if op.name == "RESIZE_BILINEAR":
                assert op.options["alignCorners"]
                expected, most = resized(interpreter.get_tensor(op.inputs[0]), op, graph), 1.0
            off = np.abs(outputs[op.outputs[0]] - expected)
            assert off.max() <= most, (op, off.max(), off.mean())
            equal.append(float((off < 0.75).mean()))
            layers += 1
    assert layers >= 0.9 * len(graph.ops) and np.mean(equal) > 0.95  # fastfcn8: 42 of 46


@pytest.mark.real
def test_the_whole_network_gives_the_same_classes(network, tmp_path):
    graph = read(network)
    image = smooth_image(graph.tensors[graph.inputs[0]].shape)
    interpreter = interpreted(network, image, reference=False)
    form = Form(network)
    output = on_the_htp(form, interpreter, tmp_path)[graph.outputs[0]]
    expected = interpreter.get_tensor(graph.outputs[0])
    off = np.abs(output.astype(int) - expected)
    assert len(np.unique(expected)) > 50 and off.max() <= 5 and off.mean() <= 1, (off.max(), off.mean())
    assert same_classes(output, expected) >= 0.95
