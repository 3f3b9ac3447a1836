"""A .tflite network in ONNX form, channels first: int8 by QDQ, as ONNX Runtime's QNN provider takes it, or float.

Only for the ops of our own networks. The weights and ranges are the file's; nothing is quantized again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipeline.core.graph import Graph, Op
from pipeline.tflite.read import read

KERNEL_AXES = {"CONV_2D": (0, 3, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2), "TRANSPOSE_CONV": (3, 0, 1, 2)}
"""The .tflite kernel's axes in ONNX's order: [out, in, h, w]; depthwise [out, 1, h, w], transposed [in, out, h, w]."""
OUT_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 0, "TRANSPOSE_CONV": 1}
CODES = {"float32": 1, "int8": 3, "int64": 7}  # onnx.TensorProto


End = tuple[str, str, tuple[int, ...]]
"""Name, dtype and shape of an input or an output."""


class Form:
    """The ONNX graph in the making: the whole network, or the ops ``alone``, each of which reads the graph's inputs."""

    def __init__(self, data: bytes, alone: Sequence[int] | None = None) -> None:
        from onnx import helper, numpy_helper

        self.helper, self.array = helper, numpy_helper.from_array
        self.graph: Graph = read(data)
        self.model = schema.ModelT.InitFromPackedBuf(data, 0)
        self.alone = alone
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.ins: list[int] = []
        self.outs: list[int] = []

    def values(self, tensor: int) -> np.ndarray:
        t = self.graph.tensors[tensor]
        data = self.model.buffers[self.model.subgraphs[0].tensors[tensor].buffer].data
        return np.asarray(data, np.uint8).view(t.dtype).reshape(t.shape)

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(self.array(np.asarray(value), name))
        return name

    def node(self, kind: str, reads: list[str], output: str, **options: Any) -> str:
        self.nodes.append(self.helper.make_node(kind, reads, [output], **options))
        return output

    def range_of(self, tensor: int, name: str) -> list[str]:
        t = self.graph.tensors[tensor]
        return [
            self.constant(f"{name}.scale", np.float32(t.scale[0])),
            self.constant(f"{name}.zero", np.int8(t.zero_point[0])),
        ]

    def real(self, tensor: int, op: Op) -> str:
        """The activation as real numbers, on its way into ``op``."""
        source = f"in{tensor}" if self.alone is not None or tensor in self.graph.inputs else f"t{tensor}"
        if source.startswith("in") and tensor not in self.ins:
            self.ins.append(tensor)
        name = f"{source}.for{op.index}"
        return self.node("DequantizeLinear", [source, *self.range_of(tensor, name)], f"{name}.real")

    def kernel(self, op: Op, place: int, bias_place: int, data: int) -> list[str]:
        tensor = op.inputs[place]
        scale = np.asarray(self.graph.tensors[tensor].scale, np.float32)
        axis = {"axis": OUT_AXIS[op.name]} if len(scale) > 1 else {}
        values = self.values(tensor).transpose(KERNEL_AXES[op.name])
        tensors = []
        constants = [(f"kernel{op.index}", np.ascontiguousarray(values), scale, np.zeros(len(scale), np.int8))]
        if len(op.inputs) > bias_place and op.inputs[bias_place] >= 0:
            steps = scale * np.float32(self.graph.tensors[data].scale[0])
            bias = self.values(op.inputs[bias_place])
            constants.append((f"bias{op.index}", bias, steps, np.zeros(len(scale), np.int32)))
        for name, numbers, steps, zero in constants:
            along = axis if name.startswith("kernel") else {"axis": 0} if len(scale) > 1 else {}
            reads = [
                self.constant(name, numbers),
                self.constant(f"{name}.scale", steps if len(scale) > 1 else steps[0]),
                self.constant(f"{name}.zero", zero if len(scale) > 1 else zero[0]),
            ]
            tensors.append(self.node("DequantizeLinear", reads, f"{name}.real", **along))
        return tensors

    def add(self, op: Op) -> None:
        tensors, options = self.graph.tensors, op.options
        data = op.inputs[2] if op.name == "TRANSPOSE_CONV" else op.inputs[0]
        old, new = tensors[data].shape[1:3], tensors[op.outputs[0]].shape[1:3]
        name, real = f"op{op.index}", f"op{op.index}.real"
        if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            shape = tensors[op.inputs[1]].shape[1:3]
            strides, dilations = sizes_of(options, "stride"), sizes_of(options, "dilation", "Factor")
            reach = [(k - 1) * d + 1 for k, d in zip(shape, dilations, strict=True)]
            pads = padding(old, new, reach, strides) if options["padding"] == "SAME" else [0] * 4
            self.node(
                "Conv",
                [self.real(data, op), *self.kernel(op, 1, 2, data)],
                real,
                kernel_shape=shape,
                strides=strides,
                dilations=dilations,
                pads=pads,
                group=tensors[data].shape[3] if op.name != "CONV_2D" else 1,
            )
        elif op.name == "TRANSPOSE_CONV":
            shape, strides = tensors[op.inputs[1]].shape[1:3], sizes_of(options, "stride")
            self.node(
                "ConvTranspose",
                [self.real(data, op), *self.kernel(op, 1, 3, data)],
                real,
                kernel_shape=shape,
                strides=strides,
                pads=padding(new, old, shape, strides),
            )
        elif op.name == "ADD":
            self.node("Add", [self.real(i, op) for i in op.inputs], real)
        elif op.name == "CONCATENATION":
            self.node("Concat", [self.real(i, op) for i in op.inputs], real, axis=1)
        elif op.name in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
            shape = (options["filterHeight"], options["filterWidth"])
            strides = sizes_of(options, "stride")
            pads = padding(old, new, shape, strides) if options["padding"] == "SAME" else [0] * 4
            kind = "AveragePool" if op.name == "AVERAGE_POOL_2D" else "MaxPool"
            self.node(kind, [self.real(data, op)], real, kernel_shape=shape, strides=strides, pads=pads)
        elif op.name == "RESIZE_BILINEAR":
            self.resize(self.real(data, op), (tensors[data].shape[3], *new), options, real)
        elif op.name == "STRIDED_SLICE":
            ends = self.constant(f"{name}.ends", np.asarray(new, np.int64))
            starts = self.constant(f"{name}.starts", np.zeros(2, np.int64))
            self.node(
                "Slice", [self.real(data, op), starts, ends, self.constant(f"{name}.axes", np.asarray([2, 3]))], real
            )
        else:
            raise NotImplementedError(op.name)
        self.give(op, real)

    def resize(self, source: str, shape: Sequence[int], options: Any, output: str) -> str:
        """``shape``: channels, height, width."""
        mode = (
            "align_corners"
            if options["alignCorners"]
            else "half_pixel"
            if options["halfPixelCenters"]
            else ("asymmetric")
        )
        size = self.constant(f"{output}.size", np.asarray([1, *shape], np.int64))
        return self.node("Resize", [source, "", "", size], output, mode="linear", coordinate_transformation_mode=mode)

    def give(self, op: Op, real: str) -> None:
        """The result as int8 again; a fused ReLU is mostly done by the range, which begins at 0."""
        tensor = op.outputs[0]
        t = self.graph.tensors[tensor]
        fused = op.options.get("fusedActivationFunction", "NONE")
        assert fused in ("NONE", "RELU"), op
        if fused == "RELU" and t.zero_point[0] > -128:
            before = self.range_of(tensor, f"{real}.before")  # the provider takes a Relu between two ranges only
            quantized = self.node("QuantizeLinear", [real, *before], f"{real}.before")
            real = self.node("DequantizeLinear", [quantized, *before], f"{real}.again")
            real = self.node("Relu", [real], f"{real}.relu")
        self.node("QuantizeLinear", [real, *self.range_of(tensor, f"t{tensor}")], f"t{tensor}")
        if self.alone is not None or tensor in self.graph.outputs:
            self.outs.append(tensor)

    def dumps(self) -> bytes:
        for op in self.graph.ops:
            if self.alone is None or op.index in self.alone:
                self.add(op)
        return self.serialize(self.ends("in", self.ins), self.ends("t", self.outs))

    def ends(self, kind: str, tensors: Sequence[int]) -> list[End]:
        return [(f"{kind}{i}", "int8", first_channels(self.graph.tensors[i].shape)) for i in tensors]

    def serialize(self, ins: list[End], outs: list[End]) -> bytes:
        inputs, outputs = (
            [self.helper.make_tensor_value_info(n, CODES[dtype], s) for n, dtype, s in ends] for ends in (ins, outs)
        )
        graph = self.helper.make_graph(self.nodes, "network", inputs, outputs, self.constants)
        model = self.helper.make_model(graph, opset_imports=[self.helper.make_opsetid("", 21)], ir_version=10)
        return bytes(model.SerializeToString())


class FloatForm(Form):
    """A float .tflite network that ends in a resize to the image's size, with another end.

    ``head``: 'stride8' leaves the resize out; 'logits' keeps it; 'mask' adds the argmax over classes.
    The input 'image' is float32 [1, 3, h, w] in [0, 1]; the output 'logits' or 'mask'.
    """

    def __init__(self, data: bytes, head: str) -> None:
        super().__init__(data)
        self.head = head

    def real(self, tensor: int, op: Op) -> str:
        return "image" if tensor in self.graph.inputs else f"t{tensor}"

    def kernel(self, op: Op, place: int, bias_place: int, data: int) -> list[str]:
        values = self.values(op.inputs[place]).transpose(KERNEL_AXES[op.name])
        tensors = [self.constant(f"kernel{op.index}", np.ascontiguousarray(values))]
        if len(op.inputs) > bias_place and op.inputs[bias_place] >= 0:
            tensors.append(self.constant(f"bias{op.index}", self.values(op.inputs[bias_place])))
        return tensors

    def give(self, op: Op, real: str) -> None:
        fused = op.options.get("fusedActivationFunction", "NONE")
        assert fused in ("NONE", "RELU"), op
        self.node("Relu" if fused == "RELU" else "Identity", [real], f"t{op.outputs[0]}")

    def dumps(self) -> bytes:
        *body, last = self.graph.ops
        assert last.name == "RESIZE_BILINEAR", last
        for op in body:
            self.add(op)
        old, full = (self.graph.tensors[i].shape for i in (last.inputs[0], last.outputs[0]))
        name = f"t{last.inputs[0]}"
        if self.head == "stride8":
            out = (self.node("Identity", [name], "logits"), "float32", first_channels(old))
        else:
            resized = self.resize(name, first_channels(full)[1:], last.options, "logits")
            out = (resized, "float32", first_channels(full))
        if self.head == "mask":
            out = (self.node("ArgMax", ["logits"], "mask", axis=1, keepdims=0), "int64", full[:3])
        image = self.graph.input_tensor.shape
        return self.serialize([("image", "float32", first_channels(image))], [out])


def first_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], shape[3], shape[1], shape[2])


def sizes_of(options: Any, what: str, more: str = "") -> list[int]:
    return [options[f"{what}{x}{more}"] for x in "HW"]


def padding(old: Any, new: Any, reach: Any, strides: Any) -> list[int]:
    """TFLite's SAME: half of it before, rounded down; in ONNX's order: top, left, bottom, right."""
    total = [max(0, (n - 1) * s + k - o) for o, n, k, s in zip(old, new, reach, strides, strict=True)]
    return [*(t // 2 for t in total), *(t - t // 2 for t in total)]
