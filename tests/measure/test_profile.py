"""Where the time goes: the runtime's tables are read, each kernel is told its op, and everything adds up."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from pipeline.core.errors import ArtifactError
from pipeline.core.profile import Line, Peaks, RuntimeProfile
from pipeline.drivers import host_profile
from pipeline.drivers.xnnpack_lines import ops_of_lines
from pipeline.measure.profile import stages_of, times_of_ops
from pipeline.tflite.edit import GraphEdit
from pipeline.tflite.read import read
from tests.conftest import ROOT

PEAKS = Peaks(1e6, 1e5, {1000: 500.0, 100_000: 100.0})


def chain(*names, fused=0):
    """A graph of these ops one after the other: 1×1 convolutions, pools and sums of 8x8x16."""
    edit = GraphEdit(host_profile.convolution(8, 16, 16, "int8"))
    conv = edit.op(0)
    ops, x = [], 0
    for i, name in enumerate(names):
        y = 3 if i == len(names) - 1 else edit.like(0, f"net/part{i // 2}_{i}/op", (1, 8, 8, 16))
        if name == "CONV_2D":
            op = edit.new_op(
                name,
                3,
                [x, 1, 2],
                [y],
                "Conv2DOptions",
                strideH=1,
                strideW=1,
                dilationHFactor=1,
                dilationWFactor=1,
                padding=1,
                fusedActivationFunction=fused,
            )
        elif name == "ADD":
            op = edit.new_op(name, 2, [x, x], [y], "AddOptions", fusedActivationFunction=fused)
        elif name == "CONCATENATION":
            op = edit.new_op(name, 2, [x], [y], "ConcatenationOptions", axis=3)
        else:
            op = edit.new_op(
                name, 2, [x], [y], "Pool2DOptions", filterHeight=1, filterWidth=1, strideH=1, strideW=1, padding=1
            )
        ops.append(op)
        x = y
    edit.tensor(3).quantization = edit.tensor(0).quantization
    edit.replace(0, ops)
    assert conv is not None
    return edit.to_bytes()


def ops_of(kernels, data):
    """The ops of these kernels; a capital name is LiteRT's own, with its place."""
    lines, place = [], 0
    for kernel in kernels:
        own, _, node = kernel.partition(":")
        place = 0 if node else place
        lines.append(Line(own, int(node or place), not node, 1.0))
        place += not node
    return ops_of_lines(read(data), lines)


def test_kernels_are_laid_along_the_ops_of_their_piece():
    data = chain("CONV_2D", "ADD", "AVERAGE_POOL_2D", "CONV_2D", "ADD", fused=1)
    kernels = [
        "Fully Connected GEMM",
        "Add (ND)",
        "Clamp (NC)",
        "AVERAGE_POOL_2D:2",
        "Fully Connected GEMM",
        "Add (ND)",
    ]
    assert ops_of(kernels, data) == [0, 1, 1, 2, 3, 4]
    many = chain("CONV_2D", "CONCATENATION", "ADD")
    assert ops_of(["Convolution", "Copy (NC, X8)", "Copy (NC, X8)", "Add (ND)"], many) == [0, 1, 1, 2]
    # An op that has no kernel leaves the others where they are.
    assert ops_of(["Convolution", "Add (ND)"], many) == [0, 2]


def test_what_could_be_of_two_ops_is_told_of_none():
    assert ops_of(["Convolution", "Add (ND)"], chain("CONV_2D", "ADD", "ADD")) == [0, None]
    assert ops_of(["Convolution", "Convolution", "Add (ND)"], chain("CONV_2D", "ADD")) == [None, None, 1]
    assert ops_of(["Convolution", "Warp", "Add (ND)"], chain("CONV_2D", "ADD")) == [0, None, 1]
    # A place that the file has not, and two pieces where the graph has one: nothing can be said.
    assert ops_of(["Convolution", "CONV_2D:7", "Add (ND)"], chain("CONV_2D", "ADD")) == [None] * 3
    twice = [Line("Convolution", 0, True, 1.0), Line("Add (ND)", 0, True, 1.0)]
    assert ops_of_lines(read(chain("CONV_2D", "ADD")), twice) == [None] * 2


def test_times_add_up_whatever_could_be_told():
    graph = read(chain("CONV_2D", "ADD", "ADD"))
    lines = (Line("Convolution", 0, True, 2.0), Line("Add (ND)", 1, True, 0.5))
    rows = times_of_ops(graph, RuntimeProfile(lines, 0.25, 2.6, 4), PEAKS)
    assert [(row.index, row.measured_ms) for row in rows] == [(0, 2.0), (1, 0.0), (2, 0.0), (None, 0.5)]
    assert rows[0].macs == 8 * 8 * 16 * 16 and rows[0].moved_bytes == 2 * 8 * 8 * 16 + 16 * 16 + 16 * 4
    assert rows[0].attainable_ms == pytest.approx(rows[0].moved_bytes / 100) and rows[1].attainable_ms == 0
    assert sum(row.measured_share for row in rows) == pytest.approx(2.5 / 2.75)
    assert stages_of(graph, {}) == ["part0", "part0", "part0"]  # the last has no layer's name
    assert stages_of(graph, {"part0": "the first"}) == ["the first"] * 3


def test_what_changes_types_for_the_camera_is_a_stage_of_its_own():
    edit = GraphEdit(host_profile.convolution(8, 16, 16, "int8"))
    values, codes = edit.float_like(0, "net/fake_quantize/values"), edit.like(0, "net/fake_quantize/x", (1, 8, 8, 16))
    edit.tensor(3).name, conv = "net/head_ds1/Conv2D;net/head_ds1/BiasAdd", edit.op(0)
    conv.inputs = [codes, 1, 2]
    steps = [edit.new_op("DEQUANTIZE", 3, [0], [values]), edit.new_op("QUANTIZE", 2, [values], [codes]), conv]
    edit.replace(0, steps)
    assert stages_of(read(edit.to_bytes()), {"head": "classifier"}) == ["input", "input", "classifier"]


def test_the_peaks_bound_an_op_by_what_it_needs_longer():
    assert PEAKS.attainable_ms(2_000_000, 100, int8=True) == 2.0
    assert PEAKS.attainable_ms(2_000_000, 100, int8=False) == 20.0
    assert PEAKS.attainable_ms(0, 1000, int8=True) == 2.0
    assert PEAKS.attainable_ms(0, 1001, int8=True) == pytest.approx(10.01)
    assert PEAKS.attainable_ms(0, 10**6, int8=True) == 10**4


TWO_PIECES = ("CONV_2D", "ADD", "AVERAGE_POOL_2D", "CONV_2D", "ADD")
OWN_TABLE = """
import ctypes, sys
sys.path.insert(0, sys.argv[1])
import profile_worker
import numpy as np
profile_worker.Profiled.dtypes = (np.dtype("int8"),)
one = profile_worker.Profiled(sys.argv[2], 1)
for _ in range(3):
    one.run()
text = ctypes.c_char_p()
one._call("LiteRtGetProfileSummary", one._profiler, one._model, ctypes.byref(text))
print(text.value.decode())
"""


def kinds_of(table):
    """The first column of libLiteRt.so's own table (litert/runtime/profiler_summarizer.cc), in order of execution."""
    header, *rows = re.search(r"=+ Run Order =+[ \t]*\n((?:.*\S.*\n)+)", table)[1].splitlines()
    numbers = header.count("[") - 2  # between the node's type and its name
    return [re.match(r"\s*(.+?)" + r"\s+[-\d.e+naif]+%?" * numbers + r"(?:\s|$)", row)[1] for row in rows]


def test_a_file_is_profiled_for_real_and_the_runtimes_own_table_agrees(tmp_path):
    file = tmp_path / "with a space.tflite"
    file.write_bytes(chain(*TWO_PIECES))
    timed = host_profile.profile(file, 1, 12)
    assert ops_of_lines(read(file.read_bytes()), timed.lines) == [0, 1, 2, 3, 4]
    assert timed.runs == 12 and timed.between_ms >= 0
    assert timed.plain_ms / 50 < timed.total_ms < timed.plain_ms * 50  # ms both, on a busy machine
    script = [sys.executable, "-c", OWN_TABLE, str(ROOT / "pipeline" / "drivers"), str(file)]
    result = subprocess.run(script, capture_output=True, text=True, check=True)
    # The runtime's table makes one row of the two pieces' kernels of the same name and place.
    kinds = kinds_of(result.stdout)
    assert [kind.removeprefix("Delegate/") for kind in kinds] == list(dict.fromkeys(x.kernel for x in timed.lines))
    assert kinds[-1] == "AVERAGE_POOL_2D"


def test_a_file_that_cannot_run_is_one_sentence(tmp_path):
    edit = GraphEdit(host_profile.convolution(8, 16, 16, "int8"))
    edit.tensor(1).shape = [16, 3, 3, 7]
    file = tmp_path / "wrong.tflite"
    file.write_bytes(edit.to_bytes())
    with pytest.raises(ArtifactError, match="LiteRT cannot profile .*wrong.tflite"):
        host_profile.profile(file, 1, 4)


def with_a_loop():
    """A convolution, three rounds of a WHILE around another, and a product."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 4))])
    def network(x):
        kernel = tf.constant(0.1, shape=(3, 3, 4, 4))

        def body(i, x):
            return i + 1, tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME"))

        return tf.while_loop(lambda i, _: i < 3, body, (tf.constant(0), tf.nn.conv2d(x, kernel, 1, "SAME")))[1] * 2.0

    return tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()]).convert()


def test_control_flow_is_one_op_and_what_it_runs_is_its_time(tmp_path):
    file = tmp_path / "loop.tflite"
    file.write_bytes(with_a_loop())
    graph = read(file.read_bytes())
    assert [op.name for op in graph.ops] == ["CONV_2D", "WHILE", "MUL"] and graph.subgraphs > 1
    timed = host_profile.profile(file, 1, 8)
    assert [line.kernel for line in timed.lines if not line.delegated] == ["WHILE"]
    assert ops_of_lines(graph, timed.lines) == [0, 1, 2]
    while_ms = next(line.ms for line in timed.lines if line.kernel == "WHILE")
    assert while_ms > max(line.ms for line in timed.lines if line.kernel != "WHILE")
    assert timed.plain_ms / 50 < timed.total_ms < timed.plain_ms * 50


def test_a_file_that_does_not_load_is_not_sent_to_bench(tmp_path, cli):
    edit = GraphEdit(host_profile.convolution(8, 16, 16, "int8"))
    edit.tensor(1).shape = [16, 3, 3, 7]
    (tmp_path / "wrong.tflite").write_bytes(edit.to_bytes())
    result = cli("profile", "wrong.tflite", "--runs", "4", cwd=tmp_path)
    assert result.returncode == 2 and "required_bytes" in result.stderr and "bench" not in result.stderr, result.stderr


def test_a_size_that_only_the_run_knows_is_named(tmp_path, cli):
    from tests.tflite.test_encodings import computed_shape

    (tmp_path / "computed.tflite").write_bytes(computed_shape())
    result = cli("profile", "computed.tflite", "--runs", "4", cwd=tmp_path)
    assert result.returncode == 2 and "t2 gets its size only when the network runs" in result.stderr, result.stderr


def test_thousands_of_lines_of_one_piece_are_told_of_none_and_at_once():
    graph = read(chain(*["ADD"] * 2100))
    assert ops_of_lines(graph, [Line("Add (ND)", i, True, 0.1) for i in range(2100)]) == [None] * 2100


def test_profile_shows_and_writes_what_adds_up(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(host_profile, "LARGE", ((16, 64, 64),))
    monkeypatch.setattr(host_profile, "PEAK_RUNS", 3)
    (tmp_path / "net.tflite").write_bytes(chain(*TWO_PIECES))
    result = cli("profile", "net.tflite", "--runs", "8", "--all", "--json", "p.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    p = json.loads((tmp_path / "p.json").read_text())
    assert sum(op["measured_ms"] for op in p["ops"]) + p["between_ms"] == pytest.approx(p["total_ms"])
    assert [op["index"] for op in p["ops"]] == [0, 1, 2, 3, 4] and p["peaks"]["int8_macs_per_ms"] > 0
    assert np.all(np.array(list(p["peaks"]["bytes_per_ms"].values())) > 0) and p["threads"] == 1
    for words in ("0 CONV_2D", "2 AVERAGE_POOL_2D", "between ops", "part0", "GMAC/s in int8", "ai-edge-litert"):
        assert words in result.stdout, result.stdout
    result = cli("profile", "none.tflite", cwd=tmp_path)
    assert result.returncode == 2 and "cannot be read" in result.stderr
    (tmp_path / "broken.tflite").write_bytes(b"nothing")
    result = cli("profile", "broken.tflite", cwd=tmp_path)
    assert result.returncode == 2 and "not a .tflite file" in result.stderr
