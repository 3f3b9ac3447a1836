"""LiteRT's GPU accelerator: what is read from its words, and in `make test-real` the accelerator itself."""

import ctypes
import os
from pathlib import Path

import numpy as np
import pytest

import models
from pipeline.compilers import gpu_accelerator
from pipeline.compilers.gpu_accelerator import compile_files, environments, infer, missing, parse
from pipeline.core.graph import Graph, Op, Tensor
from pipeline.measure.inspect import inspect
from pipeline.targets import target
from pipeline.tflite.apply_rules import apply_rules
from pipeline.tflite.excerpt import excerpts
from pipeline.tflite.partitions import kept, partitions
from pipeline.tflite.read import packed, read
from tests.support.gpu_ops import gpu_cases, image, of
from tests.support.single_ops import cases, conv, model

REFUSED = """INFO: [compiled_model.cc:829] Flatbuffer model initialized directly from incoming litert model.
I0000 00:00:1795355362.004673 1 environment.cc:532] Selected adapter: SwiftShader Device (Subzero), arch=swiftshader
ERROR: Following operations are not supported by GPU delegate:
ARG_MAX: Tensor type(INT64) is not supported. t2
DEQUANTIZE:\x20
3 operations will run on the GPU, and the remaining 7 operations will run on the CPU.
"""


def test_what_the_accelerator_says_is_read():
    reply = parse("ERROR: [./x.h:1961]\n└ Some ops are not accelerated.", REFUSED)
    assert reply.refusals == (("ARG_MAX", "Tensor type(INT64) is not supported. t2"), ("DEQUANTIZE", ""))
    assert reply.taken == 3 and reply.adapter == "SwiftShader Device (Subzero)" and not reply.wrong
    nothing = REFUSED.replace("3 operations", "No operations")
    assert parse("refused", nothing).taken == 0 and parse("", "").taken is None
    assert parse("x", "Failed to initialize WebGPU environment: INTERNAL: No adapters found").no_device
    line = "gpu_model_builder.cc:3901] Shape mismatch in GpuModelBuilder::UpdateOutputTensors(output of "
    assert parse("", f"W0000 {line}convolution1x1(conv_generic)). Requested").wrong
    assert not parse("", f"W0000 {line}conv_transposed4x4). Requested").wrong


WORKER_THAT_DIES = """
import os, sys
for file in sys.argv[2:]:
    os.write(2, f"@@ {file}\\n".encode())
    if "bad" in file:
        os.write(2, b"ERROR: the driver is gone\\n")
        os.abort()
    print('{"error": ""}', flush=True)
"""


def test_a_file_that_ends_the_process_is_an_answer_and_the_others_are_asked_all_the_same(tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER_THAT_DIES)
    monkeypatch.setattr(gpu_accelerator, "WORKER", worker)
    monkeypatch.setattr(gpu_accelerator, "environments", lambda: [dict(os.environ)])
    replies = compile_files([Path("a"), Path("bad"), Path("bad2"), Path("c")])
    assert [r.error for r in replies] == ["", *["the driver is gone (its process ended with signal SIGABRT)"] * 2, ""]


def test_swiftshader_is_taken_where_nothing_else_is_configured(tmp_path, monkeypatch):
    (swiftshader := tmp_path / "swiftshader.json").write_text("{}")
    monkeypatch.setattr(gpu_accelerator, "SWIFTSHADER", swiftshader)
    monkeypatch.setattr(gpu_accelerator, "DRIVERS", (str(tmp_path / "icd.d"),))
    for name in gpu_accelerator.CHOICES:
        monkeypatch.delenv(name, raising=False)
    (only,) = environments()
    assert only["VK_ICD_FILENAMES"] == str(swiftshader)
    (tmp_path / "icd.d").mkdir()
    (tmp_path / "icd.d/card.json").write_text("{}")
    first, second = environments()
    assert "VK_ICD_FILENAMES" not in first and second["VK_ICD_FILENAMES"] == str(swiftshader)
    monkeypatch.setenv("VK_ICD_FILENAMES", "mine.json")
    assert [e["VK_ICD_FILENAMES"] for e in environments()] == ["mine.json"]


def test_without_vulkan_it_says_what_to_install(tmp_path, monkeypatch):
    def absent(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert "apt-get install" in missing() and "libvulkan1" in missing()
    monkeypatch.setattr(
        gpu_accelerator, "compile_files", lambda files: [parse("failed", "INTERNAL: No adapters found")] * len(files)
    )
    (file := tmp_path / "x.tflite").write_bytes(model(conv("c")))
    answer = gpu_accelerator.ask_with(target("gpu").rules)(file, read(file.read_bytes()))
    assert answer.verdicts is None and "apt-get install" in answer.note


def verdict(name):
    case = next(case for case in (*cases(), *gpu_cases()) if case.name == name)
    return apply_rules(read(model(case)), target("gpu").rules)[0]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("1x1 stride 2", "computed wrongly"),
        ("float pad batch", "computed wrongly"),
        ("relu of 5", "5 dimensions"),
        ("argmax int64", "int32 only"),
        ("cut and shrink", "shrinkAxisMask"),
        ("cut backwards", "backwards"),
        ("float bias computed", "computed"),
        ("transposed relu", "version 4"),
        ("float16 weights", "not constant"),
        ("scatter nd", "not an op"),
        ("float softmax beta", "beta 2"),
        ("gather computed", "3 dimensions"),
        ("argmax of 5", "no multiple of 4"),
        ("reverse 5 channels", "no multiple of 4"),
    ],
)
def test_the_rules_say_why(case, words):
    assert verdict(case).outcome == "falls back" and words in verdict(case).reason


def chain(names):
    """Ops of one input and one output in a row, each on the one before."""
    import copy

    from ai_edge_litert import schema_py_generated as schema

    network = schema.ModelT.InitFromPackedBuf(model(of("RELU", image())), 0)
    graph = network.subgraphs[0]
    graph.tensors = [copy.copy(graph.tensors[0]) for _ in range(len(names) + 1)]
    network.operatorCodes, graph.operators = [], []
    for i, name in enumerate(names):
        graph.tensors[i + 1].name = f"t{i + 1}"
        code, op = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        code.version, op.opcodeIndex, op.inputs, op.outputs = 1, i, [i], [i + 1]
        network.operatorCodes.append(code)
        graph.operators.append(op)
    graph.inputs, graph.outputs = [0], [len(names)]
    return packed(network, 1000)


LINKS = ["RELU", "EXP", "LOG_SOFTMAX", "RELU", "LOG_SOFTMAX", "RELU6", "ABS", "NEG", "LOG_SOFTMAX", "NEG"]


def test_unpacking_weights_cuts_no_graph():
    """Float16 weights are unpacked before all other ops: each such op lies in the piece of what reads it."""

    def tensor(name, constant):
        return Tensor(name, (4,), False, "float16" if constant else "float32", (), (), 0, constant, 8 * constant)

    # Three weights, unpacked by ops 0 to 2; ops 3 to 6 in a row, of which 3, 5 and 6 read one each.
    tensors = [*(tensor(f"w{i}", True) for i in range(3)), *(tensor(f"t{i}", False) for i in range(8))]
    unpack = [Op(i, "DEQUANTIZE", 1, (i,), (3 + i,)) for i in range(3)]
    row = [
        Op(3, "CONV_2D", 1, (10, 3), (6,)),
        Op(4, "LOG_SOFTMAX", 1, (6,), (7,)),
        Op(5, "CONV_2D", 1, (7, 4), (8,)),
        Op(6, "CONV_2D", 1, (8, 5), (9,)),
    ]
    graph = Graph((*unpack, *row), tuple(tensors), (10,), (9,), {})
    assert partitions(graph, [True] * 7) == [[0, 1, 2, 3, 4, 5, 6]]
    taken = [i != 4 for i in range(7)]
    assert partitions(graph, taken) == [[0, 3], [1, 2, 5, 6]]
    assert kept(graph, partitions(graph, taken), target("gpu").rules) == [[1, 2, 5, 6]]
    # What unpacks for an op that is not taken is a piece of its own, and never the largest one.
    assert partitions(graph, [True, True, True, False, False, False, True]) == [[2, 6], [0, 1]]
    assert kept(graph, [[2, 6], [0, 1]], target("gpu").rules) == [[2, 6]]


@pytest.mark.real
def test_an_excerpt_computes_what_the_op_computes_in_the_whole(small_files, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    file = small_files["fast-scnn", "logits"]
    graph = read(file.read_bytes())
    interpreter = Interpreter(str(file), experimental_preserve_all_tensors=True, num_threads=1)
    interpreter.allocate_tensors()
    x = np.random.default_rng(0).random(graph.tensors[graph.inputs[0]].shape, np.float32)
    interpreter.set_tensor(graph.inputs[0], x)
    interpreter.invoke()
    chosen = [op.index for op in graph.ops if op.name in ("CONV_2D", "ADD", "RESIZE_BILINEAR", "CONCATENATION")][::5]
    for index, data in excerpts(file.read_bytes(), graph, chosen).items():
        op = graph.ops[index]
        (part := tmp_path / f"{index}.tflite").write_bytes(data)
        alone = Interpreter(str(part), num_threads=1)
        alone.allocate_tensors()
        names = {graph.tensors[i].name: i for i in op.inputs if i >= 0}
        for detail in alone.get_input_details():
            alone.set_tensor(detail["index"], interpreter.get_tensor(names[detail["name"]]))
        alone.invoke()
        output = alone.get_tensor(alone.get_output_details()[0]["index"])
        np.testing.assert_allclose(output, interpreter.get_tensor(op.outputs[0]), atol=1e-5)
    assert len(chosen) > 8


def balanced(name):
    """A random network whose classes are all likely: the mean of each one's logits is taken off its bias."""
    from tests.conftest import noise_images, scrambled

    network = scrambled(name)
    network.trainable = False
    logits = network.predict(noise_images(network), verbose=0)
    layer = next(x for x in reversed(network.layers) if getattr(x, "use_bias", False))  # layers are in order of depth
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel, bias - logits.mean((0, 1, 2)).reshape(bias.shape)])
    return network


@pytest.fixture(scope="session")
def small_files(tmp_path_factory):
    """(network, output) → a float16 file of a small random network; made when asked for."""
    from pipeline.quantize.to_tflite import to_tflite

    home, networks = tmp_path_factory.mktemp("gpu"), {}

    class Files(dict):
        def __missing__(self, key):
            name, output = key
            if name not in networks:
                networks[name] = balanced(name)
            self[key] = home / f"{name}-{output}.tflite"
            self[key].write_bytes(to_tflite(networks[name], None, target("gpu").file_spec(output)))
            return self[key]

    return Files()


@pytest.fixture(scope="session")
def accelerator():
    if missing() is not None:
        pytest.skip(f"no Vulkan here: {missing()}")


KNOWN_DISAGREEMENTS = {
    "1x1 stride 2": "taken, and computed wrongly: see test_what_the_rules_call_wrong_is_wrong",
    "1x1 stride 3": "likewise",
    "1x1 stride 2 per tensor": "likewise",
    "pad batch": "taken, and computed wrongly: the new batch holds the image again, not zeros",
    "float pad batch": "likewise",
    "argmax of 5": "likewise",
    "argmax of 11 bytes": "likewise",
    "reverse 5 channels": "likewise",
    "one hot": "taken, and 18 % of its values differ from the CPU's",
    "int16 add": "taken, though nothing else of 16 bits is, and its result cannot be read back",
}
"""Case → why the rule is kept although the accelerator says otherwise."""


@pytest.mark.real
def test_the_accelerator_does_what_its_rules_say(accelerator, tmp_path):
    corpus = [*cases(), *gpu_cases()]
    files = []
    for i, case in enumerate(corpus):
        files.append(tmp_path / f"{i}.tflite")
        files[-1].write_bytes(model(case))
    wrong, answers = {}, {True: 0, False: 0}
    for case, file, reply in zip(corpus, files, compile_files(files), strict=True):
        assert not reply.no_device
        rule, real = apply_rules(read(file.read_bytes()), target("gpu").rules)[0], not reply.error
        answers[real] += 1
        if (rule.outcome == "accelerated") != real:
            wrong[case.name] = f"by rule {rule.outcome} ({rule.reason}), by the accelerator {reply}"
    unknown = {k: v for k, v in wrong.items() if k not in KNOWN_DISAGREEMENTS}
    assert not unknown, unknown
    assert wrong.keys() == KNOWN_DISAGREEMENTS.keys(), "no longer a disagreement: take it off the list"
    assert answers[True] >= 200 and answers[False] >= 45


@pytest.mark.real
def test_one_piece_is_kept_and_each_op_is_told_why(accelerator, tmp_path):
    (file := tmp_path / "chain.tflite").write_bytes(chain(LINKS))
    seen = inspect(file, target("gpu"))
    assert [v.op for v in seen.real if v.outcome == "accelerated"] == [5, 6, 7] and not seen.disagreements
    assert seen.real[2].reason == "Operation is not supported" and "largest" in seen.real[0].reason


def on_cpu(file, x):
    from ai_edge_litert.interpreter import Interpreter

    cpu = Interpreter(str(file), num_threads=1)
    cpu.allocate_tensors()
    cpu.set_tensor(cpu.get_input_details()[0]["index"], x)
    cpu.invoke()
    return cpu.get_tensor(cpu.get_output_details()[0]["index"])


@pytest.mark.real
def test_what_the_rules_call_wrong_is_wrong(accelerator, tmp_path):
    x = np.random.default_rng(0).integers(-128, 128, (1, 16, 16, 8)).astype(np.int8)
    for stride, right in ((1, True), (2, False)):
        (file := tmp_path / f"{stride}.tflite").write_bytes(model(conv("c", kernel=1, stride=stride)))
        (output,) = infer(file, [x])
        apart = np.abs(output.astype(int) - on_cpu(file, x))
        assert (apart.max() <= 1) == right
        seen = inspect(file, target("gpu"))
        assert (seen.real_coverage.ops_accelerated == 1) == right and not seen.disagreements


@pytest.mark.real
@pytest.mark.parametrize(("channels", "right"), [(8, True), (5, False), (11, False)])
def test_argmax_of_negative_numbers_finds_a_class_that_is_not_there(accelerator, tmp_path, channels, right):
    from tests.support.single_ops import argmax

    x = -1 - np.random.default_rng(0).random((1, 16, 16, channels), np.float32)
    (file := tmp_path / "x.tflite").write_bytes(model(argmax("x", "int32", channels, dtype="float32")))
    (classes,) = infer(file, [x])
    assert np.array_equal(classes, x.argmax(-1)) == right and (right or (classes == channels).all())
    assert (apply_rules(read(file.read_bytes()), target("gpu").rules)[0].outcome == "accelerated") == right


@pytest.mark.real
@pytest.mark.parametrize("name", sorted(models.networks()))
@pytest.mark.parametrize("output", ["logits", "mask"])
def test_our_networks_run_on_the_gpu_whole_and_give_the_cpus_classes(accelerator, name, output, small_files):
    file = small_files[name, output]
    seen = inspect(file, target("gpu"))
    assert seen.real_coverage.ops_accelerated == seen.real_coverage.ops and not seen.disagreements, seen.real_note
    height, width = read(file.read_bytes()).tensors[read(file.read_bytes()).inputs[0]].shape[1:3]
    coarse = np.random.default_rng(3).random((1, height // 8 + 1, width // 8 + 1, 3))
    x = coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width].astype(np.float32)
    (values,), expected = infer(file, [x]), on_cpu(file, x)
    if output == "logits":
        values, expected = values.argmax(-1), expected.argmax(-1)
    if output == "mask":  # without repeated classes the accelerator takes zeros behind the last one for logits
        assert values.min() >= 0 and values.max() < 5
    shares = np.bincount(expected.ravel(), minlength=5) / expected.size
    assert shares.max() < 0.8 and (shares > 0.02).sum() >= 3, shares  # else agreement means nothing
    assert (values == expected).mean() >= 0.999
