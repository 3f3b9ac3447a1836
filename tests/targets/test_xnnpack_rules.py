"""The rules of `cpu` against LiteRT itself: what XNNPACK takes, what it leaves, and what ends the loading of a file."""

import json
import subprocess
import sys
from collections import Counter

import pytest

from pipeline.measure.inspect import inspect
from pipeline.targets import target
from pipeline.tflite.apply_rules import apply_rules
from pipeline.tflite.read import read
from tests.conftest import ROOT
from tests.support.single_ops import model
from tests.support.xnnpack_ops import cases

CASES = cases()
OUTCOMES = {"taken": "accelerated", "left": "falls back", "refused": "refused"}


@pytest.fixture(scope="module")
def litert(tmp_path_factory):
    """Case → (outcome, why)."""
    home = tmp_path_factory.mktemp("litert")
    files = []
    for i, case in enumerate(CASES):
        files.append(home / f"{i}.tflite")
        files[-1].write_bytes(model(case))
    command = [sys.executable, str(ROOT / "tests" / "support" / "ask_litert.py"), *map(str, files)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    return {case.name: (OUTCOMES[out], why) for case, (out, why) in zip(CASES, answers, strict=True)}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_rules_say_what_litert_does(case, litert):
    (verdict,) = apply_rules(read(model(case)), target("cpu").rules)
    assert verdict.outcome == litert[case.name][0], (verdict.reason, litert[case.name][1])
    if verdict.outcome == "refused":
        assert "does not run" in verdict.reason and verdict.remedy


def test_the_corpus_has_all_three_answers(litert):
    counts = Counter(outcome for outcome, _ in litert.values())
    assert min(counts[outcome] for outcome in OUTCOMES.values()) >= 30, counts


def test_a_refused_file_is_told_how_to_be_mended(tmp_path, cli):
    case = next(each for each in CASES if each.name == "int8 0.2 0 bilinear")
    (tmp_path / "two.tflite").write_bytes(model(case))
    seen = inspect(tmp_path / "two.tflite", target("cpu"))
    assert seen.real is None and "failed to delegate RESIZE_BILINEAR" in seen.real_note and "INFO" not in seen.real_note
    result = cli("profile", "two.tflite", "--runs", "4", cwd=tmp_path)
    assert result.returncode == 2 and "RESIZE_BILINEAR" in result.stderr and "requantize" in result.stderr, (
        result.stderr
    )
    assert "bench" not in result.stderr
