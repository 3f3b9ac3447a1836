"""What stays beside the accelerators: the list in results/coverage.json, which must not grow."""

import json
from collections import Counter

import pytest

from benchmarks.coverage import CASES, key_of, measured, table
from pipeline.targets import targets
from tests.conftest import ROOT

RESULTS = ROOT / "results" / "coverage.json"
FORGIVEN = ("QUANTIZE", "ARG_MAX", "AVERAGE_POOL_2D")
"""A camera's bytes, a mask's last step, and what XNNPACK does slower than LiteRT's own kernel: on the CPU by choice."""


def left(row):
    return Counter(op["op"] for op in row["left"])


@pytest.mark.real
@pytest.mark.parametrize("output", ["logits", "mask"])
@pytest.mark.parametrize("name", ["fast-scnn", "fastfcn8", "fcn8"])
def test_what_is_left_does_not_grow(name, output):
    """By the rules, which the other tests of this kind hold to the compilers; an eighth of the channels."""
    (alpha,) = [alpha for network, size, alpha in CASES if (network, size) == (name, "360x480")]
    known = json.loads(RESULTS.read_text())["rows"][key_of(name, "360x480", output, alpha)]
    now = dict(measured(name, "360x480", output, 0.125, ask=False))
    assert set(known) <= set(now)
    grown = {target: left(now[target]) - left(known[target]) for target in known}
    assert {target: dict(more) for target, more in grown.items() if more} == {}
    pieces = {t: (now[t]["coverage"]["partitions"], known[t]["coverage"]["partitions"]) for t in known}
    assert {t: p for t, p in pieces.items() if p[0] > p[1]} == {}


def test_the_list_is_short_and_every_op_in_it_has_a_reason():
    rows = json.loads(RESULTS.read_text())["rows"]
    assert set(rows) == {key_of(*case[:2], output, case[2]) for case in CASES for output in ("logits", "mask")}
    ruled = {name for name, each in targets().items() if each.rules is not None}
    for key, row in rows.items():
        assert set(row) <= ruled, f"{key}: a target that is gone, run benchmarks/coverage.py"
        for target, cell in row.items():
            beside = [x for x in cell["left"] if x["op"] not in FORGIVEN]
            assert len(beside) <= 1 and all(x["why"] for x in cell["left"]), (key, target)
            assert cell["coverage"]["macs_accelerated"] == cell["coverage"]["macs"]
            assert cell["rules_say_the_same"] in (None, True), (key, target)
    lines = table(rows).splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == sorted({target for row in rows.values() for target in row})
    assert {line.count(" | ") for line in lines if line[:2] == "| "} == {len(rows)}
