"""What the targets' rules say of single ops, against the compilers and runtimes that do it.

XNNPACK answers in the core tests; Vela, where it is installed, in `make test-real`.
"""

import json
import subprocess
import sys
from collections import Counter

import pytest

import models
from pipeline.compilers.vela import INSTALL, program
from pipeline.compilers.xnnpack import WORKER, in_pieces
from pipeline.core.file_spec import FileSpec
from pipeline.measure.inspect import inspect
from pipeline.targets import target, targets
from pipeline.tflite.apply_rules import apply_rules
from pipeline.tflite.read import read
from tests.conftest import file_of
from tests.support.single_ops import cases, model

CASES = cases()
KNOWN_DISAGREEMENTS: dict[tuple[str, str], str] = {}
"""(target, case) → why the rule is kept although the compiler says otherwise."""


def by_rules(name, graph):
    return apply_rules(graph, target(name).rules)[0]


@pytest.fixture(scope="module")
def xnnpack(tmp_path_factory):
    """Case → whether LiteRT hands the op to XNNPACK; one process for all."""
    home = tmp_path_factory.mktemp("xnnpack")
    files = []
    for i, case in enumerate(CASES):
        files.append(home / f"{i}.tflite")
        files[-1].write_bytes(model(case))
    result = subprocess.run(
        [sys.executable, str(WORKER), *map(str, files)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("[")]
    return {
        case.name: bool(in_pieces(read(file.read_bytes()), pieces))
        for case, file, pieces in zip(CASES, files, lines, strict=True)
    }


@pytest.mark.parametrize("case", CASES, ids=str)
def test_xnnpack_does_what_its_rules_say(case, xnnpack):
    verdict = by_rules("cpu", read(model(case)))
    assert (verdict.outcome == "accelerated") == xnnpack[case.name], verdict.reason


def test_the_corpus_is_large_and_has_both_answers(xnnpack):
    assert len(CASES) >= 60
    assert min(Counter(xnnpack.values()).values()) >= 15


@pytest.mark.real
@pytest.mark.parametrize("name", ["ethos-u55", "ethos-u65", "ethos-u85"])
def test_vela_does_what_its_rules_say(name, tmp_path):
    if program() is None:
        pytest.skip(f"Vela is not installed: {INSTALL}")
    wrong, answers = [], Counter[str]()
    for case in CASES:
        file = tmp_path / "one.tflite"
        file.write_bytes(model(case))
        graph = read(file.read_bytes())
        real = target(name).ask(file, graph)
        rule = by_rules(name, graph)
        if real.verdicts is None:  # it refuses the whole file: nothing is accelerated
            real_outcome, why = "refused", real.note
        else:
            real_outcome, why = real.verdicts[0].outcome, real.verdicts[0].reason
        answers[real_outcome] += 1
        if (rule.outcome == "accelerated") != (real_outcome == "accelerated") and (
            name,
            case.name,
        ) not in KNOWN_DISAGREEMENTS:
            wrong.append(f"{case.name}: by rule {rule.outcome} ({rule.reason}), by Vela {real_outcome} ({why})")
    assert not wrong, "\n".join(wrong)
    assert answers["accelerated"] >= 40 and answers["falls back"] >= 15


@pytest.fixture(scope="module", params=sorted(models.networks()))
def network_file(request, tmp_path_factory):
    file = tmp_path_factory.mktemp("network") / "net.tflite"
    file.write_bytes(file_of(request.param, FileSpec(io="int8")))
    return file


@pytest.mark.real
@pytest.mark.parametrize("name", ["ethos-u55", "ethos-u65", "ethos-u85"])
def test_vela_compiles_our_networks_as_the_rules_say(name, network_file):
    if program() is None:
        pytest.skip(f"Vela is not installed: {INSTALL}")
    seen = inspect(network_file, target(name))
    assert seen.real is not None, seen.real_note
    assert seen.disagreements == (), [(seen.ops[i], seen.verdicts[i], seen.real[i]) for i in seen.disagreements]
    assert seen.real_coverage.ops_accelerated > 0.8 * seen.real_coverage.ops and seen.estimates["cycles_npu"] > 0
    compiled = target(name).compile(network_file)
    assert read(compiled.path.read_bytes()).recipe() is None and "on the NPU" in compiled.note
    assert any(op.name == "ethos-u" for op in read(compiled.path.read_bytes()).ops)


def test_every_rule_names_its_source_and_every_refusal_says_why():
    for each in targets().values():
        for rules in [*([each.rules] if each.rules else []), *each.levels.values()]:
            assert rules.source and all(rule.source for rule in rules.ops.values()), each.name
            for case in CASES:
                verdict = apply_rules(read(model(case)), rules)[0]
                assert (verdict.reason == "") == (verdict.outcome == "accelerated"), (each.name, case.name)
                assert verdict.source


def verdict_of(name, target_name, level=None):
    case = next(case for case in CASES if case.name == name)
    return apply_rules(read(model(case)), target(target_name).with_level(level).rules)[0]


@pytest.mark.parametrize(
    ("case", "outcome", "words"),
    [
        ("conv grouped", "refused", "version 6"),
        ("transposed relu", "refused", "version 4"),
        ("transposed x2", "accelerated", ""),
        ("bilinear x2 half", "accelerated", ""),
        ("bilinear from 1x1", "falls back", "one pixel"),
        ("bilinear x2", "accelerated", ""),
        ("bilinear x2 align", "accelerated", ""),
        ("softmax", "falls back", "one vector"),
        ("softmax vector", "accelerated", ""),
        ("argmax int32", "falls back", "CPU"),
        ("conv float", "falls back", "float32"),
        ("quantize float", "falls back", "float32"),
        ("quantize uint8", "accelerated", ""),
        ("pad batch", "falls back", "batch"),
        ("pad", "accelerated", ""),
        ("strided slice", "falls back", "strides"),
        ("mean over depth", "accelerated", ""),
        ("hard swish", "falls back", "not an op"),
    ],
)
def test_the_edge_tpu_takes_what_its_table_and_its_users_say(case, outcome, words):
    """coral.ai/docs/edgetpu/models-intro; google-coral/edgetpu issues #631 (grouped), #845 (transposed and ReLU).

    The resizes: the compiled twins of test_edgetpu_twins.py.
    """
    verdict = verdict_of(case, "edgetpu")
    assert verdict.outcome == outcome and words in verdict.reason


@pytest.mark.parametrize(
    ("case", "first_level"),
    [
        ("conv 3x3", 29),
        ("conv float", 27),
        ("transposed x2", 29),
        ("add", 29),
        ("add float", 27),
        ("bilinear x2", 29),
        ("bilinear x2 align", 30),
        ("bilinear x2 half", 30),
        ("nearest x2", 29),
        ("mean", 29),
        ("mean float", 28),
        ("argmax int32", 29),
        ("argmax int64", None),
        ("average 2x2", 29),
        ("average 32x64", None),
        ("average float", 27),
        ("quantize float", 30),
        ("quantize uint8", None),
        ("pad", 29),
        ("conv grouped", None),
        ("concatenate 2", 29),
        ("softmax", 29),
        ("bilinear float", 27),
    ],
)
def test_nnapi_takes_an_op_from_its_feature_level_on(case, first_level):
    """tflite/delegates/nnapi/nnapi_delegate.cc, Validate."""
    taken = [level for level in range(27, 32) if verdict_of(case, "nnapi", level).outcome == "accelerated"]
    assert taken == ([] if first_level is None else list(range(first_level, 32)))


@pytest.mark.parametrize(
    ("case", "taken"),
    [
        ("conv float", True),
        ("conv 3x3", True),
        ("argmax int32", False),
        ("argmax float", False),
        ("mean", True),
        ("softmax float", True),
        ("transposed float", True),
        ("bilinear float", True),
        ("concatenate float", True),
        ("strided slice", True),
        ("average float", True),
    ],
)
def test_androids_gpu_delegate(case, taken):
    """tflite/tools/versioning/gpu_compatibility.cc."""
    assert (verdict_of(case, "gpu-delegate").outcome == "accelerated") == taken
