"""The LiteRT 8-bit specification's rules: a good file keeps them all, and each broken rule is named with its op."""

import dataclasses
from typing import Any

import pytest

import models
from pipeline.core.errors import ContractViolation
from pipeline.core.file_spec import FileSpec
from pipeline.core.graph import Graph
from pipeline.quantize.fold import INPUT_RANGE
from pipeline.targets import target
from pipeline.tflite.read import WEIGHTED, read
from pipeline.tflite.verify import specification, verify
from tests.conftest import file_of, ranges_of


@pytest.fixture(scope="module")
def good() -> Graph:
    return read(file_of("fast-scnn", FileSpec("scores", io="int8")))


def broken(graph: Graph, op_name: str, place: int, output: bool = False, **change: Any) -> Graph:
    """The graph with one tensor of its first ``op_name`` changed."""
    op = next(op for op in graph.ops if op.name == op_name)
    index = (op.outputs if output else op.inputs)[place]
    tensors = list(graph.tensors)
    tensors[index] = dataclasses.replace(tensors[index], **change)
    return dataclasses.replace(graph, tensors=tuple(tensors))


def test_our_files_keep_every_rule(good):
    assert list(specification(good)) == []


CASES: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "kernel zero point": (("CONV_2D", 1), {"zero_point": (0, 3)}, "CONV_2D.*zero point is not 0"),
    "kernel -128": (("CONV_2D", 1), {"lowest": -128}, "CONV_2D.*value -128"),
    "kernel axis": (("DEPTHWISE_CONV_2D", 1), {"axis": 0}, "DEPTHWISE_CONV_2D.*axis 0"),
    "kernel type": (("CONV_2D", 1), {"dtype": "int4"}, "CONV_2D.*int8 by int4"),
    "bias type": (("CONV_2D", 2), {"dtype": "int64"}, "CONV_2D.*bias of int64"),
    "bias scale": (("CONV_2D", 2), {"scale": (0.5,)}, "CONV_2D.*bias whose scale"),
    "data scale": (("CONV_2D", 0), {"scale": (0.1, 0.2)}, "CONV_2D.*data with 2 scales"),
    "pool": (("AVERAGE_POOL_2D", 0), {"scale": (0.123,)}, "AVERAGE_POOL_2D.*same range that it reads"),
    "concatenation": (("CONCATENATION", 1), {"zero_point": (5,)}, "CONCATENATION.*same range that it reads"),
    "softmax": (("SOFTMAX", 0, True), {"scale": (0.01,)}, "SOFTMAX.*must write scale 0.00390625"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_broken_rule_is_named(good, case):
    place, change, words = CASES[case]
    with pytest.raises(ContractViolation, match=words):
        verify(broken(good, *place, **change), target("cpu"), [INPUT_RANGE, *ranges_of("fast-scnn").values()])


@pytest.mark.parametrize("name", sorted(models.networks()))
def test_per_tensor_kernels_have_one_scale_and_per_channel_ones_many(name):
    ranges = ranges_of(name)
    pinned = [INPUT_RANGE, *ranges.values()]
    graphs = {
        per_tensor: read(file_of(name, FileSpec(io="int8", per_tensor=per_tensor))) for per_tensor in (False, True)
    }
    for per_tensor, graph in graphs.items():
        verify(graph, target("cpu"), pinned, per_tensor)
        assert not any(op.name in ("QUANTIZE", "DEQUANTIZE") for op in graph.ops)
        kernels = [graph.tensors[op.inputs[1]] for op in graph.ops if op.name in WEIGHTED]
        assert all((len(k.scale) == 1) == per_tensor for k in kernels)
        with pytest.raises(ContractViolation, match="kernel scales, not"):
            verify(graph, target("cpu"), pinned, not per_tensor)
