"""MediaTek, Google Tensor and Samsung: the rules against LiteRT's own plugins, an empty library in place of each SDK.

The plugins are the shipped ones; which ops they hand on to the SDK does not depend on the SDK. What it makes of them is
not known here.
"""

import dataclasses
import os
import re
import shutil
import subprocess
from collections import Counter

import pytest

from pipeline.compilers.litert_aot import NOT_HANDED_ON, folder_of, tool, unfit
from pipeline.targets import target
from pipeline.tflite.apply_rules import apply_rules
from pipeline.tflite.read import read
from tests.conftest import ROOT
from tests.support.npu_ops import more_cases
from tests.support.single_ops import RELU, Data, cases, model, plain, pool, transposed

AVERAGE = pool("average", "AVERAGE_POOL_2D", (2, 2), (2, 2))
CASES = [
    *cases(),
    *more_cases(),
    dataclasses.replace(AVERAGE, name="average relu", options={**AVERAGE.options, "fusedActivationFunction": RELU}),
    plain("shape", "SHAPE", output=Data((4,), "int32"), version=1),
    plain("rank", "RANK", output=Data((), "int32")),
]
PLUGINS = {"mediatek": "MediaTek", "google-tensor": "Google", "samsung": "Samsung"}
NAMES = ("libneuron_adapter.so", "liblitert_plugin_compiler.so", "libgraph_wrapper.so", "libgraphgen_api.so")


@pytest.fixture(scope="module")
def sdk(tmp_path_factory):
    if unfit() is not None:
        pytest.skip(f"LiteRT's plugins need {unfit()}")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: sudo apt-get install gcc libc6-dev")
    home = tmp_path_factory.mktemp("sdk")
    source = ROOT / "tests" / "support" / "stand_in_sdk.c"
    subprocess.run([compiler, "-w", "-shared", "-fPIC", "-o", home / NAMES[0], source], check=True)
    for name in NAMES[1:]:
        shutil.copy(home / NAMES[0], home / name)
    return home


def output_of(name, file, sdk, preload=True):
    folder = folder_of("ai_edge_litert") / "vendors" / name.replace("-", "_") / "compiler"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(sdk)}
    if preload and name == "samsung":
        environment["LD_PRELOAD"] = str(sdk / NAMES[2])
    soc = next(iter(target(name).socs))
    result = subprocess.run(
        [
            tool(),
            f"--cmd={'apply' if name == 'samsung' else 'partition'}",
            f"--model={file}",
            f"--o={sdk}/out.tflite",
            "--err=--",
            f"--soc_manufacturer={PLUGINS[name]}",
            f"--libs={folder}",
            f"--soc_model={soc.lower() if name == 'mediatek' else soc}",
        ],
        env=environment,
        cwd=sdk,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
    )
    return result.stdout + result.stderr


def takes(name, file, sdk):
    """Whether the plugin hands all of the file on to the SDK; None where it says neither yes nor no."""
    text = output_of(name, file, sdk)
    counts = re.search(r"selected (\d+) ops, from a total of (\d+) ops", text)
    if counts is None:
        return None
    if name == "samsung":  # which selects every op, and then builds the graph or does not
        return "the graph was built" in text
    return counts[1] == counts[2]


@pytest.mark.real
@pytest.mark.parametrize("name", PLUGINS)
def test_the_plugin_does_what_its_rules_say(name, sdk, tmp_path):
    wrong, answers = [], Counter[bool | None]()
    for case in CASES:
        file = tmp_path / "one.tflite"
        file.write_bytes(model(case))
        (verdict,) = apply_rules(read(file.read_bytes()), target(name).rules)
        real = takes(name, file, sdk)
        answers[real] += 1
        if (verdict.outcome == "accelerated") != real and NOT_HANDED_ON not in verdict.reason:
            wrong.append(f"{case.name}: by rule {verdict.outcome} ({verdict.reason}), by the plugin {real}")
    assert not wrong, "\n".join(wrong)
    assert answers[None] == 0 and answers[True] > 60 and answers[False] > 0


@pytest.mark.real
def test_samsungs_plugin_cannot_be_loaded_as_it_is_shipped(sdk, tmp_path):
    """When this fails a release has mended it: take the sentence out of samsung.py and the symbol out of the SDK."""
    file = tmp_path / "one.tflite"
    file.write_bytes(model(CASES[0]))
    assert "undefined symbol: _ZN11flatbuffers13ClassicLocale9instance_E" in output_of(
        "samsung", file, sdk, preload=False
    )


@pytest.mark.parametrize("name", PLUGINS)
def test_what_nobody_could_ask_is_said(name, tmp_path, cli, monkeypatch):
    file = tmp_path / "one.tflite"
    file.write_bytes(model(CASES[0]))
    result = cli("inspect", str(file), "--target", name, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    words = " ".join(result.stdout.split())
    assert "by rules alone" in words and "may refuse more ops" in words
    assert target(name).missing() is not None


def two_ops(*names):
    """One op after the other, of the first one's shape and type."""
    from pipeline.tflite.edit import GraphEdit

    edit = GraphEdit(model(plain(names[0], names[0])))
    op = edit.op(0)
    between = edit.like(op.inputs[0], "between", edit.tensor(op.inputs[0]).shape)
    edit.replace(0, [edit.new_op(names[0], 2, op.inputs, [between]), edit.new_op(names[1], 1, [between], op.outputs)])
    return edit.to_bytes()


def refused(name, case):
    (verdict,) = apply_rules(read(model(case)), target(name).rules)
    return verdict.reason


def test_an_option_that_the_plugin_drops_is_no_acceleration():
    """Read in the plugins' sources: no answer of theirs shows it."""
    relu = next(case for case in CASES if case.name == "average relu")
    assert NOT_HANDED_ON in refused("samsung", relu) and not refused("mediatek", relu)
    assert NOT_HANDED_ON in refused("mediatek", transposed("relu", fused=RELU))
    assert not refused("samsung", transposed("relu", fused=RELU)) and not refused("mediatek", transposed("plain"))


def test_a_target_that_takes_a_graph_as_a_whole_takes_nothing_of_one_with_a_single_op_that_it_lacks():
    from pipeline.tflite.partitions import after_partitioning

    rules = target("samsung").rules
    graph = read(two_ops("RELU", "ROUND"))
    alone = apply_rules(graph, rules)
    assert [v.outcome for v in alone] == ["accelerated", "falls back"]
    verdicts = after_partitioning(graph, alone, rules)
    assert [v.outcome for v in verdicts] == ["falls back"] * 2 and "as a whole" in verdicts[0].reason
    graph = read(two_ops("RELU", "RELU6"))
    assert all(v.outcome == "accelerated" for v in after_partitioning(graph, apply_rules(graph, rules), rules))
