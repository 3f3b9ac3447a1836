"""Single-op .tflite models, written straight from the schema: op × type × attribute."""

from __future__ import annotations

import dataclasses
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


@dataclasses.dataclass(frozen=True)
class Data:
    """A tensor: an activation, or a constant where it has values."""

    shape: tuple[int, ...]
    dtype: str = "int8"
    values: Any = None
    scale: Any = 0.1
    zero_point: int = 0
    axis: int = 0


@dataclasses.dataclass(frozen=True)
class Case:
    """One model: op with its version, its tensors and its options under the schema's names."""

    name: str
    op: str
    version: int
    inputs: tuple[Data, ...]
    output: Data
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    more_outputs: tuple[Data, ...] = ()

    def __str__(self) -> str:
        return self.name


TABLES = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "CONCATENATION": "ConcatenationOptions",
    "MEAN": "ReducerOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "SOFTMAX": "SoftmaxOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "RESHAPE": "ReshapeOptions",
    "PAD": "PadOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "ARG_MAX": "ArgMaxOptions",
    "QUANTIZE": "QuantizeOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "TRANSPOSE": "TransposeOptions",
    "HARD_SWISH": "HardSwishOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "SUM": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "DIV": "DivOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "SPACE_TO_DEPTH": "SpaceToDepthOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "PACK": "PackOptions",
    "GATHER": "GatherOptions",
    "SQUEEZE": "SqueezeOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "CAST": "CastOptions",
    "SLICE": "SliceOptions",
    "EXPAND_DIMS": "ExpandDimsOptions",
    "ARG_MIN": "ArgMinOptions",
    "MIRROR_PAD": "MirrorPadOptions",
    "CUMSUM": "CumsumOptions",
    "GELU": "GeluOptions",
    "SPLIT": "SplitOptions",
    "SPLIT_V": "SplitVOptions",
    "UNPACK": "UnpackOptions",
    "ONE_HOT": "OneHotOptions",
}
TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "int8": 9}


def model(case: Case) -> bytes:
    network = schema.ModelT()
    network.version, network.description = 3, "single op"
    network.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.name, graph.tensors = "main", []
    for i, data in enumerate((*case.inputs, case.output, *case.more_outputs)):
        graph.tensors.append(_tensor(f"t{i}", data, network.buffers))
    code = schema.OperatorCodeT()
    builtin = getattr(schema.BuiltinOperator, case.op)
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), case.version
    network.operatorCodes = [code]
    op, made_at = schema.OperatorT(), list(range(len(case.inputs), len(graph.tensors)))
    op.opcodeIndex, op.inputs, op.outputs = 0, list(range(len(case.inputs))), made_at
    if case.op in TABLES:
        op.builtinOptionsType = getattr(schema.BuiltinOptions, TABLES[case.op])
        op.builtinOptions = getattr(schema, f"{TABLES[case.op]}T")()
        for key, value in case.options.items():
            assert hasattr(op.builtinOptions, key), key
            setattr(op.builtinOptions, key, value)
    graph.operators = [op]
    graph.inputs = [i for i, data in enumerate(case.inputs) if data.values is None]
    graph.outputs = made_at
    network.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(network.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(name: str, data: Data, buffers: list[Any]) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(data.shape), TYPES[data.dtype], 0
    if data.values is not None:
        buffer = schema.BufferT()
        buffer.data = np.ascontiguousarray(data.values, data.dtype).view(np.uint8).ravel()
        tensor.buffer = len(buffers)
        buffers.append(buffer)
    index = data.dtype in ("int32", "int64") and np.ndim(data.scale) == 0  # a bias has a list of scales
    if data.dtype.startswith("float") or index or data.dtype in ("int64", "bool"):
        return tensor
    q = schema.QuantizationParametersT()
    q.scale = np.atleast_1d(np.asarray(data.scale, np.float32))
    q.zeroPoint = np.full(len(q.scale), data.zero_point, np.int64)
    q.quantizedDimension = data.axis
    tensor.quantization = q
    return tensor


SAME, VALID = 0, 1
RELU, RELU6, TANH = 1, 3, 4


def axes(*numbers: int) -> Data:
    return Data((len(numbers),), "int32", np.asarray(numbers, np.int32))


def conv(
    name: str,
    dtype: str = "int8",
    *,
    size: tuple[int, int] = (16, 16),
    channels: tuple[int, int] = (8, 8),
    kernel: int = 3,
    stride: int = 1,
    dilation: int = 1,
    fused: int = 0,
    padding: int = SAME,
    op: str = "CONV_2D",
    groups: int = 1,
    version: int = 3,
    per_tensor: bool = False,
) -> Case:
    rng = np.random.default_rng(0)
    read, filters = channels
    deep = op == "DEPTHWISE_CONV_2D"
    shape = (1, kernel, kernel, filters) if deep else (filters, kernel, kernel, read // groups)
    reach = (kernel - 1) * dilation + 1
    new = tuple(-(-n // stride) if padding == SAME else -(-(n - reach + 1) // stride) for n in size)
    floats = dtype.startswith("float")
    scales = 0.01 if per_tensor else np.full(filters, 0.01)
    weights = Data(
        shape,
        dtype,
        rng.normal(size=shape) if floats else rng.integers(-127, 128, shape),
        scales,
        axis=3 if deep and not per_tensor else 0,
    )
    bias = Data((filters,), "float32" if floats else "int32", np.zeros(filters), np.full(np.size(scales), 0.001))
    options = {
        "padding": padding,
        "strideW": stride,
        "strideH": stride,
        "fusedActivationFunction": fused,
        "dilationWFactor": dilation,
        "dilationHFactor": dilation,
    }
    if deep:
        options["depthMultiplier"] = filters // read
    return Case(
        name,
        op,
        1 if floats else version,
        (Data((1, *size, read), dtype), weights, bias),
        Data((1, *new, filters), dtype),
        options,
    )


def pool(
    name: str,
    op: str,
    window: tuple[int, int],
    stride: tuple[int, int],
    padding: int = VALID,
    size: tuple[int, int] = (16, 16),
    dtype: str = "int8",
) -> Case:
    new = tuple(
        -(-n // s) if padding == SAME else (n - w) // s + 1 for n, w, s in zip(size, window, stride, strict=True)
    )
    options = {
        "padding": padding,
        "filterHeight": window[0],
        "filterWidth": window[1],
        "strideH": stride[0],
        "strideW": stride[1],
    }
    return Case(
        name, op, 1 if dtype == "float32" else 2, (Data((1, *size, 8), dtype),), Data((1, *new, 8), dtype), options
    )


def resize(
    name: str,
    old: tuple[int, int],
    new: tuple[int, int],
    *,
    align: bool = False,
    half: bool = False,
    op: str = "RESIZE_BILINEAR",
    dtype: str = "int8",
) -> Case:
    version = 3 if half else (1 if dtype == "float32" else 2)
    return Case(
        name,
        op,
        version,
        (Data((1, *old, 8), dtype), axes(*new)),
        Data((1, *new, 8), dtype),
        {"alignCorners": align, "halfPixelCenters": half},
    )


def transposed(
    name: str, stride: int = 2, kernel: int = 4, padding: int = SAME, fused: int = 0, dtype: str = "int8"
) -> Case:
    rng = np.random.default_rng(0)
    new = 8 * stride if padding == SAME else 8 * stride + max(0, kernel - stride)
    floats = dtype == "float32"
    shape = (8, kernel, kernel, 8)
    weights = Data(shape, dtype, rng.normal(size=shape) if floats else rng.integers(-127, 128, shape), np.full(8, 0.01))
    version = 4 if fused else (1 if floats else 2)
    return Case(
        name,
        "TRANSPOSE_CONV",
        version,
        (axes(1, new, new, 8), weights, Data((1, 8, 8, 8), dtype)),
        Data((1, new, new, 8), dtype),
        {"padding": padding, "strideW": stride, "strideH": stride, "fusedActivationFunction": fused},
    )


def plain(
    name: str,
    op: str,
    dtype: str = "int8",
    version: int = 2,
    shape: tuple[int, ...] = (1, 16, 16, 8),
    inputs: int = 1,
    output: Data | None = None,
    more: tuple[Data, ...] = (),
    **options: Any,
) -> Case:
    return Case(
        name,
        op,
        1 if dtype == "float32" and version == 2 else version,
        (*(Data(shape, dtype) for _ in range(inputs)), *more),
        output or Data(shape, dtype),
        options,
    )


def softmax(name: str, shape: tuple[int, ...], dtype: str = "int8") -> Case:
    return plain(
        name, "SOFTMAX", dtype, shape=shape, output=Data(shape, dtype, scale=1 / 256, zero_point=-128), beta=1.0
    )


def padded(name: str, pads: tuple[tuple[int, int], ...], dtype: str = "int8") -> Case:
    shape = (1, 16, 16, 8)
    new = tuple(n + a + b for n, (a, b) in zip(shape, pads, strict=True))
    return plain(name, "PAD", dtype, output=Data(new, dtype), more=(Data((4, 2), "int32", np.asarray(pads, np.int32)),))


def mean(name: str, over: tuple[int, ...], keep: bool = True, dtype: str = "int8", size: int = 16) -> Case:
    shape = (1, size, size, 8)
    new = tuple(1 if i in over else n for i, n in enumerate(shape) if keep or i not in over)
    return plain(name, "MEAN", dtype, shape=shape, output=Data(new, dtype), more=(axes(*over),), keepDims=keep)


def concatenated(name: str, count: int, dtype: str = "int8", shape: tuple[int, ...] = (1, 8, 8, 8)) -> Case:
    return plain(
        name,
        "CONCATENATION",
        dtype,
        shape=shape,
        inputs=count,
        output=Data((*shape[:-1], shape[-1] * count), dtype),
        axis=len(shape) - 1,
    )


def argmax(name: str, index_dtype: str, channels: int = 8, axis: int = 3, dtype: str = "int8") -> Case:
    shape = (1, 16, 16, channels)
    new = tuple(n for i, n in enumerate(shape) if i != axis)
    return plain(
        name,
        "ARG_MAX",
        dtype,
        shape=shape,
        output=Data(new, index_dtype),
        more=(axes(axis),),
        outputType=TYPES[index_dtype],
    )


def cases() -> list[Case]:
    all_cases = [
        conv("conv 1x1", kernel=1),
        conv("conv 3x3"),
        conv("conv 3x3 stride 2", stride=2),
        conv("conv 3x3 stride 3", stride=3),
        conv("conv 3x3 stride 4", stride=4),
        conv("conv 3x3 stride 4 valid", stride=4, padding=VALID),
        conv("conv 3x3 dilated 2", dilation=2),
        conv("conv 3x3 dilated 4", dilation=4, size=(32, 32)),
        conv("conv relu", fused=RELU),
        conv("conv relu6", fused=RELU6),
        conv("conv per tensor", per_tensor=True),
        conv("conv float", "float32"),
        conv("conv grouped", groups=2, version=6),
        conv("conv 7x7 valid", kernel=7, padding=VALID),
        conv("depthwise", op="DEPTHWISE_CONV_2D"),
        conv("depthwise stride 2", op="DEPTHWISE_CONV_2D", stride=2),
        conv("depthwise stride 4", op="DEPTHWISE_CONV_2D", stride=4),
        conv("depthwise dilated 4", op="DEPTHWISE_CONV_2D", dilation=4, size=(32, 32)),
        conv("depthwise float", "float32", op="DEPTHWISE_CONV_2D"),
        conv("depthwise multiplier 2", op="DEPTHWISE_CONV_2D", channels=(8, 16)),
        transposed("transposed x2"),
        transposed("transposed x2 valid", padding=VALID),
        transposed("transposed x8", stride=8, kernel=16),
        transposed("transposed relu", fused=RELU),
        transposed("transposed float", dtype="float32"),
        transposed("transposed x1", stride=1, kernel=3),
        pool("average 2x2", "AVERAGE_POOL_2D", (2, 2), (2, 2)),
        pool("average 9x9 same", "AVERAGE_POOL_2D", (9, 9), (1, 1), SAME),
        pool("average 8x8 same", "AVERAGE_POOL_2D", (8, 8), (1, 1), SAME),
        pool("average whole", "AVERAGE_POOL_2D", (16, 16), (16, 16)),
        pool("average 32x64", "AVERAGE_POOL_2D", (32, 64), (32, 64), size=(32, 64)),
        pool("average float", "AVERAGE_POOL_2D", (2, 2), (2, 2), dtype="float32"),
        pool("average stride 4 valid", "AVERAGE_POOL_2D", (4, 4), (4, 4)),
        pool("maximum 2x2", "MAX_POOL_2D", (2, 2), (2, 2)),
        pool("maximum 3x3 same", "MAX_POOL_2D", (3, 3), (2, 2), SAME),
        pool("maximum float", "MAX_POOL_2D", (2, 2), (2, 2), dtype="float32"),
        resize("bilinear x2", (8, 8), (16, 16)),
        resize("bilinear x3", (8, 8), (24, 24)),
        resize("bilinear x4", (8, 8), (32, 32)),
        resize("bilinear x8", (8, 8), (64, 64)),
        resize("bilinear x16", (8, 8), (128, 128)),
        resize("bilinear x2 align", (8, 8), (15, 15), align=True),
        resize("bilinear to 16 align", (8, 8), (16, 16), align=True),
        resize("bilinear x2 half", (8, 8), (16, 16), half=True),
        resize("bilinear x4 half", (8, 8), (32, 32), half=True),
        resize("bilinear x2 by x4", (8, 8), (16, 32)),
        resize("bilinear from 1x1", (1, 1), (7, 9), align=True),
        resize("bilinear to itself", (8, 8), (8, 8)),
        resize("bilinear down", (16, 16), (8, 8)),
        resize("bilinear float", (8, 8), (16, 16), dtype="float32"),
        resize("nearest x2", (8, 8), (16, 16), op="RESIZE_NEAREST_NEIGHBOR"),
        resize("nearest x3", (8, 8), (24, 24), op="RESIZE_NEAREST_NEIGHBOR"),
        plain("add", "ADD", inputs=2),
        plain("add relu", "ADD", inputs=2, fusedActivationFunction=RELU),
        plain("add float", "ADD", "float32", inputs=2),
        plain("multiply", "MUL", inputs=2),
        plain("subtract", "SUB", inputs=2),
        concatenated("concatenate 2", 2),
        concatenated("concatenate 5", 5),
        concatenated("concatenate 6", 6),
        concatenated("concatenate float", 2, "float32"),
        mean("mean", (1, 2)),
        mean("mean without dims", (1, 2), False),
        mean("mean float", (1, 2), dtype="float32"),
        mean("mean over rows", (1,)),
        mean("mean over depth", (3,)),
        softmax("softmax", (1, 16, 16, 8)),
        softmax("softmax large", (1, 300, 300, 8)),
        softmax("softmax vector", (1, 10)),
        plain("softmax float", "SOFTMAX", "float32", beta=1.0),
        plain("logistic", "LOGISTIC", output=Data((1, 16, 16, 8), scale=1 / 256, zero_point=-128)),
        plain("tanh", "TANH", output=Data((1, 16, 16, 8), scale=1 / 128)),
        plain("relu", "RELU"),
        plain("relu6", "RELU6"),
        plain("relu float", "RELU", "float32"),
        plain("relu6 float", "RELU6", "float32"),
        plain("maximum of two", "MAXIMUM", inputs=2),
        plain("maximum of two ranges", "MAXIMUM", inputs=2, output=Data((1, 16, 16, 8), scale=0.2)),
        padded("pad", ((0, 0), (1, 1), (2, 2), (0, 0))),
        padded("pad depth", ((0, 0), (0, 0), (0, 0), (0, 4))),
        padded("pad batch", ((1, 0), (0, 0), (0, 0), (0, 0))),
        padded("pad float", ((0, 0), (1, 1), (2, 2), (0, 0)), "float32"),
        plain("reshape", "RESHAPE", version=1, output=Data((1, 256, 8)), more=(axes(1, 256, 8),), newShape=[1, 256, 8]),
        plain("transpose", "TRANSPOSE", output=Data((1, 8, 16, 16)), more=(axes(0, 3, 1, 2),)),
        plain(
            "strided slice",
            "STRIDED_SLICE",
            output=Data((1, 8, 8, 8)),
            more=(axes(0, 0, 0, 0), axes(1, 16, 16, 8), axes(1, 2, 2, 1)),
        ),
        plain(
            "slice by strides of 1",
            "STRIDED_SLICE",
            output=Data((1, 12, 14, 8)),
            more=(axes(0, 0, 0, 0), axes(1, 12, 14, 8), axes(1, 1, 1, 1)),
        ),
        argmax("argmax int32", "int32"),
        argmax("argmax int64", "int64"),
        argmax("argmax of 200", "int32", 200),
        argmax("argmax of rows", "int32", axis=1),
        argmax("argmax float", "int32", dtype="float32"),
        plain("quantize float", "QUANTIZE", "float32", 1, output=Data((1, 16, 16, 8), "int8")),
        plain("quantize uint8", "QUANTIZE", "uint8", 1, output=Data((1, 16, 16, 8), "int8", zero_point=-128)),
        plain("requantize", "QUANTIZE", output=Data((1, 16, 16, 8), scale=0.2)),
        plain("dequantize", "DEQUANTIZE", output=Data((1, 16, 16, 8), "float32")),
        *(plain(f"{op} float", op.upper(), "float32", 1) for op in ("sqrt", "abs", "exp", "gelu")),
        plain("divide float", "DIV", "float32", 1, inputs=2),
        plain("maximum of floats", "MAXIMUM", "float32", inputs=2),
        plain("add scale 255", "ADD", output=Data((1, 16, 16, 8), scale=0.1 / 255), inputs=2),
        plain("add scale 256", "ADD", output=Data((1, 16, 16, 8), scale=0.1 / 256.5), inputs=2),
        plain("add scale 1/1100", "ADD", output=Data((1, 16, 16, 8), scale=110), inputs=2),
        plain("subtract scale 300", "SUB", output=Data((1, 16, 16, 8), scale=0.1 / 300), inputs=2),
        plain("multiply scale 200", "MUL", output=Data((1, 16, 16, 8), scale=0.01 / 200), inputs=2),
        plain("multiply scale 300", "MUL", output=Data((1, 16, 16, 8), scale=0.01 / 300), inputs=2),
        plain("requantize by 127", "QUANTIZE", output=Data((1, 16, 16, 8), scale=0.1 / 127)),
        plain("requantize by 129", "QUANTIZE", output=Data((1, 16, 16, 8), scale=0.1 / 129)),
        plain("requantize by 1/300", "QUANTIZE", output=Data((1, 16, 16, 8), scale=30)),
        plain("sum", "SUM", output=Data((1, 1, 1, 8)), more=(axes(1, 2),), keepDims=True),
        plain("largest", "REDUCE_MAX", output=Data((1, 1, 1, 8)), more=(axes(1, 2),), keepDims=True),
        plain("depth to space", "DEPTH_TO_SPACE", output=Data((1, 32, 32, 2)), blockSize=2),
        plain("space to depth", "SPACE_TO_DEPTH", output=Data((1, 8, 8, 32)), blockSize=2),
        plain("hard swish", "HARD_SWISH", version=1),
        plain("leaky relu", "LEAKY_RELU", alpha=0.1),
    ]
    assert len({case.name for case in all_cases}) == len(all_cases)
    return all_cases


def small_file(folder: Any, shape: tuple[int, ...] = (1, 9, 8, 3), version: int = 1) -> Any:
    """The path of a float RELU in ``folder``, under a name that no shell may see unquoted."""
    data = Data(shape, "float32")
    path = folder / "a $(touch pwned) 'name'; b.tflite"
    path.write_bytes(model(Case("relu", "RELU", version, (data,), data)))
    return path
