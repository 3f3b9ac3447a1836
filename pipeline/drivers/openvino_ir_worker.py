"""OpenVINO reads a .tflite file, compiles it for the CPU, or writes it in its own form; native code, so on its own.

python -P openvino_ir_worker.py check FILE.tflite ...      compiles each; a line of JSON for each: null, or its error
python -P openvino_ir_worker.py write FILE.tflite OUT.xml  writes OUT.xml and OUT.bin; texts to keep in it, by name, are
                                                           JSON on standard input

It needs openvino and numpy and nothing of ours; -P, or the openvino.py beside it would be taken for the package.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from xml.etree import ElementTree

import numpy as np


def network(file: str) -> Any:
    """What OpenVINO reads, with the kernels of depthwise convolutions as its int8 kernels want them.

    It reads such a kernel as int8 [1, h, w, c], times a scale per channel, through two transpositions and reshapes. Of
    that it makes no constant in 8 bits and computes those layers in bfloat16. So the transpositions are done here.
    """
    import openvino as ov

    model = ov.Core().read_model(file)
    for op in model.get_ordered_ops():
        if op.get_type_name() == "GroupConvolution" and (kernel := int8_kernel(op.input(1).get_source_output())):
            op.input(1).replace_source_output(kernel)
    model.validate_nodes_and_infer_types()
    return model


def int8_kernel(output: Any) -> Any:
    """The same kernel as a constant int8 [c, 1, 1, h, w] times its scales; None where it is none of that kind."""
    from openvino import opset13

    node, kinds = output.get_node(), []
    while node.get_type_name() in ("Transpose", "Reshape", "Unsqueeze"):
        kinds.append(node.get_type_name())
        node = node.input(0).get_source_output().get_node()
    if kinds != ["Transpose", "Unsqueeze", "Reshape", "Transpose"] or node.get_type_name() != "Multiply":
        return None
    convert, scales = (node.input(i).get_source_output().get_node() for i in (0, 1))
    constant = convert.input(0).get_source_output().get_node() if convert.get_type_name() == "Convert" else convert
    if {scales.get_type_name(), constant.get_type_name()} != {"Constant"} or constant.data.dtype != np.int8:
        return None
    weights, factors = constant.data, scales.data.astype(np.float32)
    channels = weights.shape[-1]
    if tuple(output.get_shape()[:3]) != (channels, 1, 1):  # a depth multiplier
        return None
    turned = np.ascontiguousarray(weights.transpose(3, 0, 1, 2)).reshape(output.get_shape())
    factor = np.broadcast_to(factors.ravel(), channels).reshape(channels, 1, 1, 1, 1)
    real = opset13.convert(opset13.constant(turned), "f32")
    return opset13.multiply(real, opset13.constant(np.ascontiguousarray(factor))).output(0)


def refusal(file: str) -> str | None:
    """What OpenVINO says of a file that it does not take."""
    import openvino as ov

    try:
        ov.Core().compile_model(network(file), "CPU")
    except (RuntimeError, ValueError) as error:
        return [line.strip() for line in str(error).splitlines() if line.strip()][-1]
    return None


CAMERA_CHANNELS = 3
VECTORS = "cpu:brgconv_avx512"
"""OpenVINO's name for its convolutions in AVX-512, which are what it takes anyway where there is no AMX."""


def write(file: str, to: str, info: dict[str, str]) -> None:
    """AMX multiplies 64 channels at once: AVX-512 takes two thirds of its time over a camera's three."""
    import openvino as ov

    model = network(file)
    for name, text in info.items():
        model.set_rt_info(text, ["segquant", name])
    ov.save_model(model, to, compress_to_fp16=False)
    tree = ElementTree.parse(to)
    for layer in tree.iter("layer"):
        if layer.get("type") == "Convolution" and int(layer.findtext("input/port/dim[2]", "0")) == CAMERA_CHANNELS:
            wish = ElementTree.Element("rt_info")
            ElementTree.SubElement(wish, "attribute", name="primitives_priority", version="0", value=VECTORS)
            layer.insert(list(layer).index(layer.find("input")), wish)  # type: ignore[arg-type]
    tree.write(to, encoding="utf-8", xml_declaration=True)


if __name__ == "__main__":
    if sys.argv[1] == "check":
        for path in sys.argv[2:]:
            print(json.dumps(refusal(path)), flush=True)
    else:
        write(sys.argv[2], sys.argv[3], json.load(sys.stdin))
