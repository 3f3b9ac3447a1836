"""What is said of a file does not depend on how it is encoded: equal networks get equal answers."""

import dataclasses
import json

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from pipeline.core.errors import ArtifactError
from pipeline.measure.inspect import inspect
from pipeline.targets import target, targets
from pipeline.tflite.apply_rules import apply_rules
from pipeline.tflite.excerpt import excerpts
from pipeline.tflite.read import packed, read, with_recipe, with_stored_sizes
from tests.support.recipes import recipe
from tests.support.single_ops import Case, Data, axes, cases, conv, mean, model

RULED = sorted(name for name, each in targets().items() if each.rules is not None)
CASES = {case.name: case for case in cases()}


def opened(data):
    return schema.ModelT.InitFromPackedBuf(data, 0)


def edited(case, edit):
    network = opened(model(case))
    edit(network)
    return packed(network, 1000)


def verdicts(data, name):
    graph = read(data)
    return [(v.outcome, v.reason) for v in apply_rules(graph, target(name).rules)]


def open_sizes(*signature):
    def edit(network):
        graph = network.subgraphs[0]
        for i in (*graph.inputs, *graph.outputs):
            graph.tensors[i].shapeSignature = list(signature[: len(graph.tensors[i].shape)])

    return edit


def behind(data):
    """The same file as large ones are: constants lie behind the flatbuffer, at an offset."""
    network, tail = opened(data), b""
    for buffer in network.buffers:
        if buffer.data is not None and len(buffer.data):
            buffer.size, buffer.offset = len(buffer.data), 2  # of any value: the field must be there to have a place
    for _ in range(2):  # the first time shows how long the flatbuffer is
        stored = [
            (b, np.asarray(b.data, np.uint8).tobytes()) for b in network.buffers if b.data is not None and len(b.data)
        ]
        start = len(packed_without(network)) + 16
        tail = b""
        for buffer, content in stored:
            buffer.offset = start + len(tail)
            tail += content
    front = packed_without(network)
    return front + bytes(start - len(front)) + tail


def packed_without(network):
    kept = [buffer.data for buffer in network.buffers]
    for buffer in network.buffers:
        buffer.data = None if buffer.offset else buffer.data
    front = packed(network, 1000)
    for buffer, data in zip(network.buffers, kept, strict=True):
        buffer.data = data
    return front


def nothing(network):
    pass


def old_numbers_only(network):
    for code in network.operatorCodes:
        code.builtinCode = 0


def new_numbers_only(network):
    for code in network.operatorCodes:
        code.deprecatedBuiltinCode = 0


def an_idle_custom_name(network):
    network.operatorCodes[0].customCode = "TheirOp"


def something_in_buffer_0(network):
    network.buffers[0].data = np.ones(64, np.uint8)


def empty_vectors(network):
    for tensor in network.subgraphs[0].tensors:
        if tensor.quantization is None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = np.zeros(0, np.float32), np.zeros(0, np.int64)
        tensor.shapeSignature = np.zeros(0, np.int32)


def signatures_that_fix(network):
    for tensor in network.subgraphs[0].tensors:
        tensor.shapeSignature = tensor.shape


def zero_points_alone(network):
    for tensor in network.subgraphs[0].tensors:
        if tensor.quantization is None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.zeroPoint = np.zeros(1, np.int64)


WAYS = [
    nothing,
    old_numbers_only,
    new_numbers_only,
    an_idle_custom_name,
    something_in_buffer_0,
    empty_vectors,
    signatures_that_fix,
    zero_points_alone,
]
SOME = [
    "conv 3x3",
    "depthwise",
    "transposed x2",
    "mean",
    "pad",
    "bilinear x2",
    "strided slice",
    "concatenate 2",
    "reshape",
    "argmax int32",
    "softmax",
    "conv float",
    "quantize float",
    "requantize",
    "maximum 2x2",
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_same_network_gets_the_same_verdicts(way):
    for name in SOME:
        data = edited(CASES[name], way)
        for target_name in RULED:
            assert verdicts(data, target_name) == verdicts(model(CASES[name]), target_name), (name, target_name)


def test_constants_behind_the_flatbuffer_are_read():
    for name in SOME:
        data = model(CASES[name])
        far = behind(data)
        near, other = read(data), read(far)
        assert near.tensors == other.tensors, name
        if any(t.constant for t in near.tensors):
            assert opened(far).buffers[-1].data is None
        # What is cut out of it, or written again, has them inside.
        (cut,) = excerpts(far, other, [0]).values()
        assert sorted(t.size_bytes for t in read(cut).tensors) == sorted(t.size_bytes for t in near.tensors)
        again = read(with_recipe(far, recipe("web")))
        assert again.tensors == near.tensors and again.recipe() == recipe("web")


def test_a_constant_whose_place_is_beyond_the_file_is_no_network():
    far = bytearray(behind(model(CASES["mean"])))
    with pytest.raises(ArtifactError, match="broken or truncated"):
        read(bytes(far[:-4]))


def test_a_constant_in_a_file_of_its_own_is_a_constant():
    def elsewhere(network):
        kernel = network.subgraphs[0].tensors[1]
        stored, kernel.buffer, kernel.externalBuffer = len(network.buffers[kernel.buffer].data), 0, 7
        group, buffer = schema.ExternalBufferGroupT(), schema.ExternalBufferT()
        group.name, buffer.id, buffer.group, buffer.offset, buffer.length = "weights.bin", 7, 0, 64, stored
        network.externalBufferGroups, network.externalBuffers = [group], [buffer]

    data = edited(CASES["conv 3x3"], elsewhere)
    assert read(data).tensors[1].size_bytes == 8 * 9 * 8
    for name in RULED:
        assert verdicts(data, name) == verdicts(model(CASES["conv 3x3"]), name), name


def test_a_zero_point_that_is_left_out_is_zero():
    def without(network):
        network.subgraphs[0].tensors[-1].quantization.zeroPoint = None

    for name in ("ethos-u55", "ethos-u85"):
        assert verdicts(edited(CASES["maximum of two"], without), name) == verdicts(
            model(CASES["maximum of two"]), name
        )


def test_an_axis_may_be_counted_from_the_end():
    def packs(axis):
        x = Data((1, 8, 8, 4))
        return model(Case("pack", "PACK", 2, (x, x), Data((2, 1, 8, 8, 4)), {"axis": axis, "valuesCount": 2}))

    assert verdicts(packs(-5), "edgetpu") == verdicts(packs(0), "edgetpu")
    same = dataclasses.replace(mean("m", (1, 2)), inputs=(Data((1, 16, 16, 8)), axes(-3, -2)))
    for name in RULED:
        assert verdicts(model(same), name)[0][0] == verdicts(model(mean("m", (1, 2))), name)[0][0], name


@pytest.mark.parametrize("name", RULED)
@pytest.mark.parametrize("case", ["conv 3x3", "conv float", "add", "bilinear x2", "mean", "reshape"])
def test_a_batch_that_is_left_open_is_the_one_that_is_stored(case, name):
    data = edited(CASES[case], open_sizes(-1, 16, 16, 8))
    fixed, free = verdicts(model(CASES[case]), name), verdicts(data, name)
    assert free == fixed


def test_litert_sizes_an_open_batch_as_the_rules_say(tmp_path):
    for case in ("conv 3x3", "conv float", "average 2x2"):
        file = tmp_path / "free.tflite"
        file.write_bytes(edited(CASES[case], open_sizes(-1, 16, 16, 8)))
        seen = inspect(file, target("cpu"))
        assert seen.real is not None and seen.disagreements == ()
        assert "leaves the batch size open" in seen.notes[0] and "[1, 16, 16, 8]" in seen.notes[0]
        file.write_bytes(model(CASES[case]))
        assert inspect(file, target("cpu")).notes == () and inspect(file, target("cpu")).verdicts == seen.verdicts


@pytest.mark.parametrize("name", ["gpu", "gpu-delegate", "nnapi", "edgetpu", "web", "ethos-u55", "ethos-u85"])
def test_an_open_height_is_no_fixed_size(name):
    data = edited(CASES["conv 3x3"], open_sizes(-1, -1, -1, 8))
    ((outcome, reason),) = verdicts(data, name)
    if name != "web":  # which takes no int8 file at all
        assert outcome == "falls back" and "not fixed" in reason
    assert outcome != "accelerated"


def computed_shape():
    """A RELU, a RESHAPE to a shape that is an input, and what follows it."""
    x, shape = Data((1, 4, 4, 2), "float32"), Data((2,), "int32")
    network = opened(model(Case("reshape", "RESHAPE", 1, (x, shape), Data((1, 32), "float32"))))
    graph = network.subgraphs[0]
    for op in ("RELU", "RELU"):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, op)
        code.version = 1
        network.operatorCodes.append(code)
    before, after = schema.TensorT(), schema.TensorT()
    before.name, before.shape, before.type, before.buffer = "before", [1, 4, 4, 2], 0, 0
    after.name, after.shape, after.type, after.buffer = "after", [1, 32], 0, 0
    graph.tensors += [before, after]
    first, last = schema.OperatorT(), schema.OperatorT()
    first.opcodeIndex, first.inputs, first.outputs = 1, [0], [3]
    last.opcodeIndex, last.inputs, last.outputs = 2, [2], [4]
    graph.operators[0].inputs = [3, 1]
    graph.operators, graph.outputs = [first, graph.operators[0], last], [4]
    return packed(network, 1000)


def test_a_size_that_is_computed_is_told_from_one_that_is_open(tmp_path):
    data = computed_shape()
    assert read(data).computed_sizes == {2, 4}
    for name in ("gpu", "gpu-delegate", "nnapi"):  # these take a graph of fixed sizes, or nothing of it
        assert all("size" in reason or "int32" in reason for _, reason in verdicts(data, name)), name
        assert not any(outcome == "accelerated" for outcome, _ in verdicts(data, name))
    file = tmp_path / "computed.tflite"
    file.write_bytes(data)
    seen = inspect(file, target("cpu"))  # XNNPACK sizes its tensors anew at each run
    assert seen.real is not None and seen.disagreements == ()
    assert [v.outcome for v in seen.verdicts] == ["accelerated", "falls back", "accelerated"]


def test_profile_runs_a_file_with_an_open_batch(cli, tmp_path, monkeypatch):
    from pipeline.drivers import host_profile

    monkeypatch.setattr(host_profile, "LARGE", ((16, 64, 64),))
    monkeypatch.setattr(host_profile, "PEAK_RUNS", 3)
    (tmp_path / "free.tflite").write_bytes(edited(conv("c"), open_sizes(-1, 16, 16, 8)))
    result = cli("profile", "free.tflite", "--runs", "4", "--json", "p.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    written = json.loads((tmp_path / "p.json").read_text())
    assert written["file"] == "free.tflite" and "batch size open" in written["notes"][0]
    assert "leaves the batch size open" in " ".join(result.stdout.split())
    assert read(with_stored_sizes((tmp_path / "free.tflite").read_bytes())).tensors == read(model(conv("c"))).tensors


def test_other_signatures_are_said_not_to_be_counted(tmp_path, cli):
    def twice(network):
        network.subgraphs = [network.subgraphs[0], network.subgraphs[0]]

    (tmp_path / "two.tflite").write_bytes(edited(CASES["conv 3x3"], twice))
    result = cli("inspect", "two.tflite", "--target", "cpu", "--json", "o.json", cwd=tmp_path)
    assert result.returncode == 0 and "2 subgraphs and only the first is counted" in " ".join(result.stdout.split())
    (seen,) = json.loads((tmp_path / "o.json").read_text())["inspections"]
    assert seen["coverage"]["ops_accelerated"] == 1
