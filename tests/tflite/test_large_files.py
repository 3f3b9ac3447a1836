"""Files of many ops, made in earnest or to harm: the time that they take grows with their size, and no faster."""

import os
import time

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from pipeline.core.errors import ArtifactError
from pipeline.core.graph import BORDER, Graph, Op, Tensor
from pipeline.measure.inspect import inspect
from pipeline.measure.profile import stages_of
from pipeline.report.inspection import show_inspection
from pipeline.targets import target
from pipeline.tflite import read as reading
from pipeline.tflite.partitions import partitions, unpacks
from pipeline.tflite.read import packed, read, read_file, unpacked_model, with_recipe
from tests.support.recipes import recipe
from tests.support.single_ops import Case, Data, model

MANY = 5000
SECONDS = 3
"""Of the processor, which one target may take for MANY ops. It is 0.6 s where nothing else runs; a search through all
ops for each of them took 10."""


def chain(names, dtype=9):
    """A file whose ops read each the one before."""
    network, graph = schema.ModelT(), schema.SubGraphT()
    network.version, network.buffers, network.operatorCodes, network.subgraphs = 3, [schema.BufferT()], [], [graph]
    kinds = list(dict.fromkeys(names))
    for kind in kinds:
        code = schema.OperatorCodeT()
        code.version, custom = 1, not hasattr(schema.BuiltinOperator, kind)
        code.builtinCode = schema.BuiltinOperator.CUSTOM if custom else getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.customCode = min(code.builtinCode, 127), kind if custom else None
        network.operatorCodes.append(code)
    place, graph.tensors, graph.operators = {kind: i for i, kind in enumerate(kinds)}, [], []
    for i in range(len(names) + 1):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = f"net/layer{i}/x", [1, 8, 8, 8], dtype, 0
        if dtype:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = (
                np.array([0.1], np.float32),
                np.zeros(1, np.int64),
            )
        graph.tensors.append(tensor)
    for i, name in enumerate(names):
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = place[name], [i], [i + 1]
        graph.operators.append(op)
    graph.inputs, graph.outputs = [0], [len(names)]
    return packed(network, 1 << 20)


CHAINS = {
    "one kind": ["RELU"] * MANY,
    "in turns": ["RELU", "QUANTIZE", "SIN"] * (MANY // 3),
    "changes of type": ["QUANTIZE", "DEQUANTIZE"] * (MANY // 2),
    "custom ops": [f"Theirs{i}" for i in range(MANY)],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    home = tmp_path_factory.mktemp("chains")
    paths = {}
    for name, names in CHAINS.items():
        paths[name] = home / f"{name}.tflite"
        paths[name].write_bytes(chain(names))
    return paths


@pytest.mark.parametrize(
    ("name", "on"),
    [
        ("one kind", "gpu-delegate"),
        ("in turns", "cpu"),
        ("in turns", "edgetpu"),
        ("changes of type", "nnapi"),
        ("custom ops", "cpu"),
    ],
)
def test_thousands_of_ops_take_seconds(name, on, files, capsys):
    began = time.process_time()
    seen = inspect(files[name], target(on), compiler=False)
    show_inspection(seen, "x.tflite", False)
    assert time.process_time() - began < SECONDS
    out = capsys.readouterr().out
    assert seen.coverage.ops == len(CHAINS[name]) and len(out.splitlines()) < 1000


def test_all_of_them_can_be_shown(files, capsys):
    seen = inspect(files["in turns"], target("cpu"), compiler=False)
    began = time.process_time()
    show_inspection(seen, "x.tflite", True)
    assert time.process_time() - began < SECONDS
    assert len([line for line in capsys.readouterr().out.splitlines() if "net/layer" in line]) >= len(
        CHAINS["in turns"]
    )


def test_stages_of_many_ops(files):
    graph = read(files["changes of type"].read_bytes())
    began = time.process_time()
    stages_of(graph, {})
    assert time.process_time() - began < 1


def random_graph(rng, count):
    constants = (2 * count + 2, 2 * count + 3)
    tensors = []
    for i in range(2 * count + 4):
        dtype = "float32" if rng.random() < 0.3 else "int8"
        tensors.append(Tensor(f"t{i}", (1, 4), False, dtype, (0.1,), (0,), 0, i in constants, 0))
    ops, written = [], [0, 1]
    for i in range(count):
        reads = tuple(int(x) for x in rng.choice([*written, *constants], int(rng.integers(1, 4))))
        writes = tuple(2 + 2 * i + j for j in range(int(rng.integers(1, 3))))
        name = str(rng.choice(["A", "B", "QUANTIZE", "DEQUANTIZE"]))
        ops.append(Op(i, name, 1, reads, writes))
        written += writes
    return Graph(tuple(ops), tuple(tensors), (0, 1), (written[-1],), {})


def partitions_by_definition(graph, taken):
    """Round by round over all that is left, as the words of ``partitions`` say."""
    made_by = {i: op.index for op in graph.ops for i in op.outputs}
    needs = [{made_by[i] for i in op.inputs if i in made_by} for op in graph.ops]
    unpacking = {op.index for op in graph.ops if taken[op.index] and unpacks(op, graph)}
    left, ready, pieces = [op.index for op in graph.ops if op.index not in unpacking], set(unpacking), []
    while left:
        kind = taken[next(i for i in left if needs[i] <= ready)]
        piece = []
        for i in left:
            if taken[i] == kind and needs[i] <= ready:
                piece.append(i)
                ready.add(i)
        left = [i for i in left if i not in ready]
        pieces += [piece] if kind else []
    merged, rest = [], set(unpacking)
    for piece in pieces:
        read_here = {i for at in piece for i in needs[at]} & rest
        rest -= read_here
        merged.append(sorted([*piece, *read_here]))
    return [*merged, sorted(rest)] if rest else merged


def at_border_by_definition(graph, op):
    near = [op]
    for other in graph.ops:
        between = (set(other.outputs) & set(op.inputs)) | (set(op.outputs) & set(other.inputs))
        if other.name in BORDER and any("float" in graph.tensors[i].dtype for i in between):
            near.append(other)
    return any({*neighbour.inputs} & {*graph.inputs} or {*neighbour.outputs} & {*graph.outputs} for neighbour in near)


def test_partitions_and_borders_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    several = borders = 0
    for _ in range(300):
        graph = random_graph(rng, int(rng.integers(1, 25)))
        taken = [bool(x) for x in rng.integers(0, 2, len(graph.ops))]
        pieces = partitions(graph, taken)
        assert pieces == partitions_by_definition(graph, taken)
        several += len(pieces) > 1
        for op in graph.ops:
            if op.name in BORDER:
                assert graph.at_border(op) == bool(at_border_by_definition(graph, op))
                borders += graph.at_border(op)
    assert several > 50 and borders > 50


def test_ops_that_wait_for_each_other_are_no_graph():
    tensors = tuple(Tensor(f"t{i}", (1,), False, "int8", (), (), 0, False, 0) for i in range(3))
    graph = Graph((Op(0, "A", 1, (2,), (1,)), Op(1, "A", 1, (1,), (2,))), tensors, (0,), (2,), {})
    with pytest.raises(ArtifactError, match="circle"):
        partitions(graph, [True, True])


def shared(what, entries=20_000, inner=20_000):
    """A file of 160 kB in which one vector or table stands in thousands of places."""
    b = flatbuffers.Builder(1 << 22)
    numbers = b.CreateNumpyVector(np.ones(inner, np.int32))
    name = b.CreateString("t" * (inner if what == "names" else 1))
    schema.TensorStart(b)
    if what == "tensors":
        schema.TensorAddShape(b, numbers)
    schema.TensorAddName(b, name)
    tensor = schema.TensorEnd(b)
    tensors_count = entries if what in ("tensors", "names") else 2
    schema.SubGraphStartTensorsVector(b, tensors_count)
    for _ in range(tensors_count):
        b.PrependUOffsetTRelative(tensor)
    tensors = b.EndVector()
    schema.OperatorStart(b)
    schema.OperatorAddInputs(b, numbers)
    op = schema.OperatorEnd(b)
    ops_count = entries if what in ("ops", "graphs") else 0
    schema.SubGraphStartOperatorsVector(b, ops_count)
    for _ in range(ops_count):
        b.PrependUOffsetTRelative(op)
    ops, ends = b.EndVector(), b.CreateNumpyVector(np.zeros(1, np.int32))
    schema.SubGraphStart(b)
    schema.SubGraphAddTensors(b, tensors)
    schema.SubGraphAddInputs(b, ends)
    schema.SubGraphAddOutputs(b, ends)
    schema.SubGraphAddOperators(b, ops)
    graph = schema.SubGraphEnd(b)
    schema.OperatorCodeStart(b)
    code = schema.OperatorCodeEnd(b)
    schema.BufferStart(b)
    buffer = schema.BufferEnd(b)
    vectors = []
    for start, offset, count in (
        (schema.ModelStartSubgraphsVector, graph, entries if what == "graphs" else 1),
        (schema.ModelStartOperatorCodesVector, code, 1),
        (schema.ModelStartBuffersVector, buffer, 1),
    ):
        start(b, count)
        for _ in range(count):
            b.PrependUOffsetTRelative(offset)
        vectors.append(b.EndVector())
    schema.ModelStart(b)
    schema.ModelAddSubgraphs(b, vectors[0])
    schema.ModelAddOperatorCodes(b, vectors[1])
    schema.ModelAddBuffers(b, vectors[2])
    b.Finish(schema.ModelEnd(b), b"TFL3")
    return bytes(b.Output())


@pytest.mark.parametrize("what", ["ops", "tensors", "names", "graphs"])
def test_one_vector_in_thousands_of_places_fills_no_memory(what):
    """Nor where other graphs than the first hold them: whoever edits the file decodes all of it."""
    began = time.process_time()
    data = shared(what, 3000) if what == "graphs" else shared(what)
    for decode in (read, unpacked_model):
        with pytest.raises(ArtifactError, match="holds (more than 1,000,000 tables|far more values)"):
            decode(data)
    assert time.process_time() - began < SECONDS


def test_a_second_graph_that_is_damaged_is_no_network():
    network = schema.ModelT.InitFromPackedBuf(chain(["RELU"]), 0)
    network.subgraphs = [network.subgraphs[0], schema.SubGraphT()]
    network.subgraphs[1].inputs = [123456789] * 5
    data = bytearray(packed(network, 1000))
    assert read(bytes(data)).subgraphs == 2
    at = data.index((123456789).to_bytes(4, "little") * 5) - 4
    data[at : at + 4] = (2**31 - 1).to_bytes(4, "little")  # how many inputs there are
    for decode in (read, unpacked_model):
        with pytest.raises(ArtifactError, match="broken"):
            decode(bytes(data))


def test_more_ops_than_can_be_worked_on_are_refused(monkeypatch):
    data = chain(["RELU"] * 50)
    assert len(read(data).ops) == 50
    for limit, words in (
        ("MOST_OPS", "50 ops"),
        ("MOST_TENSORS", "51 tensors"),
        ("MOST_LINKS", "100 inputs and outputs"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(reading, limit, 49)
            patch.setattr(reading, "_LAST", {})
            with pytest.raises(ArtifactError, match=f"its first graph has {words}.*49 are the most"):
                read(data)


def test_a_long_name_is_cut_as_reasons_repeat_it():
    network = schema.ModelT.InitFromPackedBuf(chain(["RELU"]), 0)
    network.subgraphs[0].tensors[0].name = "é" * 1_000_000
    assert 2000 < len(read(packed(network, 3_000_000)).tensors[0].name) <= reading.LONGEST_NAME


def test_thousands_of_ops_that_read_one_tensor_take_seconds():
    """Each looks at the others' types, and at the graph's border."""
    network = schema.ModelT.InitFromPackedBuf(chain(["QUANTIZE"] * MANY, dtype=0), 0)
    graph = network.subgraphs[0]
    for op in graph.operators[1:]:
        op.inputs = [1]
    began, parsed = time.process_time(), read(packed(network, 1 << 20))
    near = [parsed.at_border(op) for op in parsed.ops]
    assert near == [True] * MANY and time.process_time() - began < SECONDS


@pytest.mark.parametrize("shape", [[2**31 - 1] * 40, [2**31 - 1] * 254, [2**31 - 1] * 3])
def test_a_tensor_that_no_memory_holds_is_named(shape):
    network = schema.ModelT.InitFromPackedBuf(
        model(Case("r", "RELU", 1, (Data((1,), "float32"),), Data((1,), "float32"))), 0
    )
    network.subgraphs[0].tensors[0].shape = shape
    with pytest.raises(ArtifactError, match="'t0' of .* dimensions has more elements"):
        read(packed(network, 1000))
    network.subgraphs[0].tensors[0].shape = [*shape[:3], 0]  # empty, but a kernel's formula multiplies the others
    with pytest.raises(ArtifactError, match="more elements"):
        read(packed(network, 1000))
    network.subgraphs[0].tensors[0].shape = [1] * 255
    with pytest.raises(ArtifactError, match="has 255 dimensions, and 254 are the most"):
        read(packed(network, 1000))
    network.subgraphs[0].tensors[0].shape = [*shape[:2], 0]
    assert read(packed(network, 1000)).tensors[0].activation_bytes == 0


@pytest.mark.parametrize("text", [b"[1, 2]", b"5", b"null", b"[" * 200_000, b"\xff", b"{"])
def test_a_recipe_that_is_no_object_is_one_sentence(text):
    network = schema.ModelT.InitFromPackedBuf(
        model(Case("r", "RELU", 1, (Data((1,), "float32"),), Data((1,), "float32"))), 0
    )
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data, entry.name, entry.buffer = np.frombuffer(text, np.uint8), "segquant.recipe", len(network.buffers)
    network.buffers.append(buffer)
    network.metadata = [entry]
    with pytest.raises(ArtifactError, match="recipe inside the .tflite file"):
        read(packed(network, 1000)).recipe()


def test_metadata_that_shares_a_buffer_is_held_once():
    network = schema.ModelT.InitFromPackedBuf(
        model(Case("r", "RELU", 1, (Data((1,), "float32"),), Data((1,), "float32"))), 0
    )
    buffer = schema.BufferT()
    buffer.data = np.zeros(1 << 16, np.uint8)
    network.buffers.append(buffer)
    network.metadata = []
    for i in range(2000):
        entry = schema.MetadataT()
        entry.name, entry.buffer = f"m{i}", len(network.buffers) - 1
        network.metadata.append(entry)
    metadata = read(packed(network, 1 << 20)).metadata
    assert len(metadata) == 2000 and len({id(value) for value in metadata.values()}) == 1


def test_what_is_no_file_of_a_networks_size_is_refused_before_it_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.tflite")
    with open(tmp_path / "large.tflite", "wb") as file:
        file.truncate(5 << 30)
    (tmp_path / "zero.tflite").symlink_to("/dev/zero")
    for name, words in (
        ("pipe.tflite", "it is not a file"),
        ("large.tflite", "it has 5120 MiB; allowed are 1024 MiB"),
        ("zero.tflite", "it is not a file"),
        ("none.tflite", "No such file"),
        ("a\0b.tflite", "embedded null"),
    ):
        with pytest.raises(ArtifactError, match=f"cannot be read .{words}"):
            read_file(tmp_path / name)


def test_a_file_without_buffers_can_be_edited_and_one_without_graphs_is_no_network():
    network = schema.ModelT.InitFromPackedBuf(chain(["RELU"]), 0)
    network.buffers = None
    for tensor in network.subgraphs[0].tensors:
        tensor.buffer = 0
    data = packed(network, 1000)
    assert read(with_recipe(data, recipe())).recipe() == recipe()
    network.subgraphs = [network.subgraphs[0]]
    changed = bytearray(packed(network, 1000))
    vector = schema.Model.GetRootAs(changed, 0)._tab
    at = vector.Vector(vector.Offset(8)) - 4  # the length of the vector of graphs: its field is the third
    assert changed[at : at + 4] == (1).to_bytes(4, "little")
    changed[at] = 0
    for decode in (read, unpacked_model):
        with pytest.raises(ArtifactError, match="broken"):
            decode(bytes(changed))
