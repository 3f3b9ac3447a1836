"""What a target makes of whole files: partitions, counts, the change that helps most, and files made by others."""

import dataclasses
import json
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import ArtifactError, BadSpec
from pipeline.core.file_spec import FileSpec
from pipeline.core.graph import Graph, Op, Tensor
from pipeline.core.program import run
from pipeline.core.rules import Rule, Rules, Verdict
from pipeline.core.target import Answer
from pipeline.measure.inspect import best_change, coverage, inspect
from pipeline.targets import target, targets
from pipeline.tflite.apply_rules import apply_rules
from pipeline.tflite.macs import macs
from pipeline.tflite.partitions import after_partitioning, partitions
from pipeline.tflite.read import read
from tests.core.test_program import gone
from tests.support.shipped import shipped, shipped_into
from tests.support.single_ops import SAME, Case, Data, axes, cases, conv, model, transposed


def chain(links, shape=(1, 4, 4, 2)):
    """A graph drawn by hand: each link is (op name, indices of the ops that it reads; none: the input)."""

    def tensor(name):
        return Tensor(name, shape, False, "int8", (0.1,), (0,), 0, False, 0)

    tensors = [tensor("image"), *(tensor(f"t{i}") for i in range(len(links)))]
    ops = [Op(i, name, 1, tuple(1 + r for r in reads) or (0,), (i + 1,)) for i, (name, reads) in enumerate(links)]
    return Graph(tuple(ops), tuple(tensors), (0,), (len(links),), {})


STRAIGHT = chain([("A", ()), ("B", (0,)), ("A", (1,)), ("A", (2,)), ("B", (3,)), ("A", (4,))])
TAKES_A = Rules({"A": Rule(("int8",), "here")}, "here")
BRANCHES = chain([("A", ()), ("B", (0,)), ("A", (0,)), ("A", (2,)), ("A", (1, 3))])
"""Two branches from op 0: over B, and over two As, which join in the last A."""


def test_partitions_are_as_few_as_the_order_of_the_data_allows():
    taken = [op.name == "A" for op in STRAIGHT.ops]
    assert partitions(STRAIGHT, taken) == [[0], [2, 3], [5]]
    assert partitions(BRANCHES, [op.name == "A" for op in BRANCHES.ops]) == [[0, 2, 3], [4]]
    assert partitions(BRANCHES, [True] * 5) == [[0, 1, 2, 3, 4]] and partitions(BRANCHES, [False] * 5) == []


@pytest.mark.parametrize(("kind", "kept"), [("all", {0, 2, 3, 5}), ("largest", {2, 3}), ("first", {0})])
def test_a_target_keeps_the_pieces_that_it_takes(kind, kept):
    rules = dataclasses.replace(TAKES_A, partitions=kind)
    verdicts = after_partitioning(STRAIGHT, apply_rules(STRAIGHT, rules), rules)
    assert {v.op for v in verdicts if v.outcome == "accelerated"} == kept
    left = [v for v in verdicts if v.outcome != "accelerated" and STRAIGHT.ops[v.op].name == "A"]
    assert all(kind in v.reason for v in left) and len(left) == 4 - len(kept)


def test_what_crosses_a_partition_is_counted_once():
    verdicts = [
        Verdict(i, "accelerated" if op.name == "A" else "falls back", "", "") for i, op in enumerate(BRANCHES.ops)
    ]
    covered = coverage(BRANCHES, verdicts, "rule")
    # Op 0's result goes to B; B's and the branch's results go to the last A, which is another piece. 32 bytes each.
    assert (covered.partitions, covered.crossing_bytes, covered.ops_accelerated) == (2, 3 * 32, 4)


def test_the_change_that_helps_most_is_the_one_that_frees_what_lies_behind():
    rules = dataclasses.replace(TAKES_A, partitions="first")
    change = best_change(STRAIGHT, apply_rules(STRAIGHT, rules), rules)
    assert (change.op_name, change.ops, change.ops_gained) == ("B", (1, 4), 5)
    full = Rules({**TAKES_A.ops, "B": Rule(("int8",), "x")}, "x")
    assert best_change(STRAIGHT, apply_rules(STRAIGHT, full), full) is None


def test_multiply_accumulates_are_those_of_the_definition():
    def counted(case):
        graph = read(model(case))
        return macs(graph.ops[0], graph)

    assert counted(conv("c", size=(6, 5), channels=(3, 4), kernel=3)) == 6 * 5 * 4 * 3 * 9
    assert counted(conv("s", size=(7, 7), channels=(3, 4), kernel=3, stride=2)) == 4 * 4 * 4 * 3 * 9
    assert counted(conv("d", size=(6, 5), op="DEPTHWISE_CONV_2D", channels=(4, 8), kernel=3)) == 6 * 5 * 8 * 9
    assert counted(conv("g", size=(6, 5), channels=(4, 8), kernel=3, groups=2)) == 6 * 5 * 8 * 2 * 9
    assert counted(transposed("t", stride=2, kernel=4)) == 8 * 8 * 8 * 8 * 16
    weights = Data((10, 32), "int8", np.ones((10, 32)), np.full(10, 0.1))
    dense = Case("f", "FULLY_CONNECTED", 4, (Data((1, 32)), weights), Data((1, 10)))
    assert counted(dense) == 320
    assert counted(next(case for case in cases() if case.name == "add")) == 0


def write(tmp_path, data, name="x.tflite"):
    file = tmp_path / name
    file.write_bytes(data)
    return file


def test_by_hand_and_by_litert_the_same_coverage(tmp_path):
    seen = inspect(write(tmp_path, model(conv("c"))), target("cpu"))
    assert seen.real_coverage == seen.coverage.__class__(**{**vars(seen.coverage), "by": seen.real[0].by})
    assert seen.coverage.ops_accelerated == 1 and not seen.disagreements and seen.change is None
    assert seen.parameter_bytes == 8 * 9 * 8 + 8 * 4 and seen.largest_activation_bytes == 16 * 16 * 8


def test_a_float_file_is_told_to_become_int8_and_its_weights_are_no_change_of_range(tmp_path):
    seen = inspect(write(tmp_path, model(conv("f", "float32"))), target("edgetpu"))
    assert "float32" in seen.verdicts[0].reason and "int8 file" in seen.verdicts[0].remedy
    weights = Data((4, 4), "float16", np.ones((4, 4)))
    kept_small = Case("half", "DEQUANTIZE", 1, (weights,), Data((4, 4), "float32"))
    assert inspect(write(tmp_path, model(kept_small)), target("cpu")).requantizations == 0


def test_parameters_beyond_the_cache_stream(tmp_path):
    case = conv("large", size=(4, 4), channels=(1024, 1024), kernel=3, padding=SAME)
    seen = inspect(write(tmp_path, model(case)), target("edgetpu"))
    assert seen.parameter_bytes == 9 * 1024 * 1024 + 4 * 1024
    stored = (9 * 1024 + 4 + 8) * 1024  # a bias and a scale beside each channel's kernel, as the compiler lays them out
    assert seen.streamed_bytes == stored - target("edgetpu").rules.cache_bytes > 0
    assert inspect(write(tmp_path, model(conv("c"))), target("edgetpu")).streamed_bytes == 0


SIX = Case(
    "six dimensions",
    "RESHAPE",
    1,
    (Data((1, 4, 4, 8)), axes(1, 2, 2, 2, 2, 8)),
    Data((1, 2, 2, 2, 2, 8)),
    {"newShape": [1, 2, 2, 2, 2, 8]},
)


def test_files_made_by_others(cli, tmp_path):
    write(tmp_path, model(SIX), "six.tflite")
    write(tmp_path, custom(), "custom.tflite")
    result = cli("inspect", "six.tflite", "--target", "gpu", "--target", "cpu", cwd=tmp_path)
    assert result.returncode == 0 and "6 dimensions" in result.stdout, result.stderr
    result = cli("inspect", "custom.tflite", "--target", "cpu", "--json", "out.json", cwd=tmp_path)
    assert result.returncode == 0 and "a custom op" in result.stdout, result.stderr
    (seen,) = json.loads((tmp_path / "out.json").read_text())["inspections"]
    assert seen["real"] is None and "LiteRT" in seen["real_note"]  # an unknown op cannot be loaded: it says so
    assert seen["verdicts"][0]["outcome"] == "falls back"
    write(tmp_path, custom("edgetpu-custom-op"), "net_edgetpu.tflite")
    result = cli("inspect", "net_edgetpu.tflite", "--target", "edgetpu", cwd=tmp_path)
    assert result.returncode == 2 and "compiled already" in result.stderr


def test_a_run_is_inspected_by_its_newest_file(cli, tmp_path):
    run, artifact = shipped(tmp_path)
    other = shipped_into(run, "edgetpu", FileSpec(io="int8"))
    (tmp_path / "runs").mkdir()
    run.path.rename(tmp_path / "runs" / "mine")
    for name in ("runs/mine", "mine", f"runs/mine/{artifact.path.relative_to(run.path)}"):
        result = cli("inspect", name, "--no-compiler", cwd=tmp_path)
        assert result.returncode == 0 and f"{artifact.path.name} on cpu" in result.stdout, result.stderr
    words = ("--target", "edgetpu", "--target", "cpu", "--no-compiler", "--json", "out.json")
    result = cli("inspect", "mine", *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    inspected = [
        (each["file"], each["target"]) for each in json.loads((tmp_path / "out.json").read_text())["inspections"]
    ]
    where = Path("runs/mine/artifacts")
    names = (("edgetpu", other.path.name), ("cpu", artifact.path.name))
    assert inspected == [(str(where / target / name), target) for target, name in names]
    result = cli("inspect", "main", cwd=tmp_path)
    assert result.returncode == 2 and "name a .tflite file, or a run" in result.stderr
    result = cli("inspect", "mine", "--target", "web", cwd=tmp_path)
    assert result.returncode == 2 and "no artifact for target web yet" in result.stderr
    write(tmp_path, model(conv("c")), "theirs.tflite")
    result = cli("inspect", "theirs.tflite", cwd=tmp_path)
    assert result.returncode == 2 and "name one with --target" in result.stderr


def test_a_reason_that_many_ops_share_is_given_once_with_their_number(cli, tmp_path):
    _, artifact = shipped(tmp_path, "cpu", FileSpec(io="float32", weights="float32"))
    command = ("inspect", str(artifact.path), "--target", "edgetpu", "--no-compiler")
    words = " ".join(cli(*command, cwd=tmp_path).stdout.split())
    assert words.count("works on float32") == 3, words  # two sources, and what would help most
    assert sum(int(number) for number in re.findall(r"│ (\d+) ops │", words)) == len(
        read(artifact.path.read_bytes()).ops
    )
    every = cli(*command, "--all", cwd=tmp_path).stdout
    assert "as op 0" in every and " ".join(every.split()).count("works on float32") == 3


MARKS = sorted({mark for chip in targets().values() for mark in chip.compiled_ops})


def test_each_target_that_compiles_a_tflite_file_knows_its_mark():
    assert {"edgetpu-custom-op", "DISPATCH_OP", "ethos-u"} <= set(MARKS)
    for each in targets().values():
        assert bool(each.compiled_ops) == (each.compile is not None and each.compiled_suffix.endswith(".tflite")), (
            each.name
        )


@pytest.mark.parametrize("mark", MARKS)
def test_a_compiled_file_is_compiled_already_on_every_target(mark, cli, tmp_path):
    write(tmp_path, custom(mark), "made.tflite")
    for name in ("cpu", "edgetpu", "ethos-u55", "ethos-u85", "gpu", "qualcomm"):
        with pytest.raises(ArtifactError, match=f"compiled already: it holds {mark}, .*Name the file that it was"):
            inspect(tmp_path / "made.tflite", target(name), compiler=False)
    result = cli("profile", "made.tflite", "--runs", "4", cwd=tmp_path)
    assert result.returncode == 2 and "compiled already" in result.stderr and "bench" not in result.stderr


def test_an_op_of_that_name_which_is_no_custom_op_is_no_mark(tmp_path):
    def named(network, schema):
        network.operatorCodes[0].customCode = "ethos-u"

    seen = inspect(write(tmp_path, edited(named, "relu float")), target("cpu"), compiler=False)
    assert seen.ops[0][0] == "RELU" and seen.coverage.ops_accelerated == 1


def edited(edit, case="relu"):
    """A single op, changed by ``edit`` on the schema's own objects."""
    from ai_edge_litert import schema_py_generated as schema

    from pipeline.tflite.read import packed

    network = schema.ModelT.InitFromPackedBuf(model(next(c for c in cases() if c.name == case)), 0)
    edit(network, schema)
    return packed(network, 1000)


def loops(network, schema):
    """The graph as the body of a WHILE, which another graph holds."""
    import copy

    body, code, op = network.subgraphs[0], schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.WHILE
    code.version = 1
    op.opcodeIndex, op.inputs, op.outputs = 1, [0], [1]
    op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.WhileOptions, schema.WhileOptionsT()
    op.builtinOptions.condSubgraphIndex, op.builtinOptions.bodySubgraphIndex = 2, 1
    outer = copy.copy(body)
    outer.operators = [op]
    network.operatorCodes.append(code)
    network.subgraphs = [outer, body, copy.copy(body)]


def any_size(network, schema):
    for tensor in (network.subgraphs[0].tensors[0], network.subgraphs[0].tensors[-1]):
        tensor.shapeSignature = [-1, -1, -1, 8]


def four_bits(network, schema):
    kernel = network.subgraphs[0].tensors[1]
    kernel.type = schema.TensorType.INT4
    network.buffers[kernel.buffer].data = network.buffers[kernel.buffer].data[::2]


def nameless(network, schema):
    """As FlatBuffers' own writers may: no empty buffer, no names."""
    network.buffers = []
    for tensor in network.subgraphs[0].tensors:
        tensor.name = None


@pytest.mark.parametrize(
    ("edit", "case", "note"),
    [
        (loops, "relu", "has 3 subgraphs and only the first is counted"),
        (any_size, "conv 3x3", "size that is not"),
        (four_bits, "conv 3x3", "by rule"),
        (nameless, "relu", "by rule"),
    ],
)
def test_odd_files_get_an_answer_from_every_target(edit, case, note, tmp_path, cli):
    write(tmp_path, edited(edit, case), "odd.tflite")
    names = [name for name, each in targets().items() if each.rules is not None]
    asked = [word for name in names for word in ("--target", name)]
    result = cli("inspect", "odd.tflite", *asked, "--no-compiler", cwd=tmp_path)
    assert result.returncode == 0 and note in " ".join(result.stdout.split()), result.stdout + result.stderr
    assert all(f"odd.tflite on {name}" in result.stdout for name in names)
    # What LiteRT says of it, if anything, is an answer too; it never ends the command.
    seen = inspect(tmp_path / "odd.tflite", target("cpu"))
    assert "LiteRT" in seen.real_note and (seen.real is None or len(seen.real) == len(seen.ops))


def custom(name="TheirOp"):
    from ai_edge_litert import schema_py_generated as schema

    from pipeline.tflite.read import packed

    network = schema.ModelT.InitFromPackedBuf(model(next(c for c in cases() if c.name == "relu")), 0)
    network.operatorCodes[0].builtinCode = network.operatorCodes[0].deprecatedBuiltinCode = (
        schema.BuiltinOperator.CUSTOM
    )
    network.operatorCodes[0].customCode = name
    return packed(network, 1000)


def test_what_is_no_file_gets_one_sentence(cli, tmp_path):
    content = model(conv("c"))
    write(tmp_path, content[: len(content) // 2], "half.tflite")
    write(tmp_path, b"", "empty.tflite")
    for name in ("half.tflite", "empty.tflite", "nowhere.tflite"):
        result = cli("inspect", name, "--target", "cpu", cwd=tmp_path)
        assert result.returncode == 2 and name in result.stderr and "Traceback" not in result.stderr, result.stderr
    result = cli("inspect", "half.tflite", "--target", "npu", cwd=tmp_path)
    assert result.returncode == 2 and "unknown target" in result.stderr
    write(tmp_path, content, "whole.tflite")
    result = cli("inspect", "whole.tflite", "--target", "cpu", "--target", "nnapi", "--level", "28", cwd=tmp_path)
    assert result.returncode == 0 and "int8 needs feature level 29 (Android 10)" in " ".join(result.stdout.split())
    result = cli("inspect", "whole.tflite", "--target", "cpu", "--level", "29", cwd=tmp_path)
    assert result.returncode == 2 and "no feature level" in result.stderr
    with pytest.raises(BadSpec, match=r"27, 28, 29, 30, 31"):
        target("nnapi").with_level(26)


def test_a_damaged_file_never_ends_without_an_answer(tmp_path):
    content = np.frombuffer(model(conv("c", channels=(2, 2))), np.uint8)
    rng = np.random.default_rng(0)
    answers = {"read": 0, "refused": 0}
    for _ in range(400):
        damaged = content.copy()
        for place in rng.integers(8, len(content), rng.integers(1, 6)):
            damaged[place] = rng.integers(256)
        try:
            inspect(write(tmp_path, damaged.tobytes()), target("edgetpu"))
            answers["read"] += 1
        except ArtifactError:
            answers["refused"] += 1
    assert min(answers.values()) > 20, answers


def test_a_compiler_that_takes_too_long_is_ended_and_the_rules_answer(tmp_path):
    file, endless = tmp_path / "conv.tflite", f"sleep 86396.{os.getpid():07}"
    file.write_bytes(model(conv("conv 3x3")))

    def slow(path, graph):
        run(["sh", "-c", f"{endless} & wait"], 100)
        raise AssertionError("its processes were ended")

    began = time.monotonic()
    seen = inspect(file, dataclasses.replace(target("edgetpu"), ask=slow), wait_seconds=0.5)
    assert time.monotonic() - began < 30 and seen.real is None and "no answer within 0.5 s" in seen.real_note
    assert seen.coverage.ops_accelerated == seen.coverage.ops > 0
    assert gone(endless)
    quick = dataclasses.replace(target("edgetpu"), ask=lambda path, graph: Answer(None, "asked"))
    assert inspect(file, quick, wait_seconds=30).real_note.startswith("asked")
    with pytest.raises(BadSpec, match="told"):
        inspect(file, dataclasses.replace(quick, ask=lambda path, graph: refuse()), wait_seconds=30)


def refuse():
    raise BadSpec("told")
