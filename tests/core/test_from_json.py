"""Nouns from their JSON: what was written comes back, what does not fit is named."""

import dataclasses
import json

import pytest

from pipeline.core.agreement import Agreement, LayerAgreement
from pipeline.core.from_json import from_json
from pipeline.core.inspection import Coverage, Inspection
from pipeline.core.measurement import Ratio
from pipeline.core.profile import OpTime, Peaks, Profile
from pipeline.core.rules import Verdict


def agreement():
    layers = (LayerAgreement("first", "0 CONV_2D", 10, 99.0, 100.0, 1, (0, 1, 2, 3), 0.5),)
    return Agreement("x.tflite", 2, "reference", 99.5, 99.0, 98.0, 97.0, 60, 5, "first", layers, (("last", "why"),))


def inspection():
    coverage = Coverage(2, 1, 10, 5, 1, 8, "rule")
    verdicts = (Verdict(0, "accelerated", "", "a manual"), Verdict(1, "refused", "why", "a manual", remedy="so"))
    ops = (("ADD", "a"), ("MUL", "b"))
    return Inspection("cpu", ops, verdicts, coverage, verdicts, coverage, "", 1, None, 2, "a", 0, {"cycles": 3}, None)


def profile():
    ops = (OpTime(None, "", "", "", ("Conv",), 1.5, 0.5, 2, 4, 0.5),)
    return Profile("x", "0" * 64, {"cores": 2}, 1, 9, 3.0, 0.5, 2.5, ops, Peaks(1.0, 2.0, {1024: 3.0}), ("note",))


@pytest.mark.parametrize("noun", [agreement(), inspection(), profile()], ids=lambda noun: type(noun).__name__)
def test_what_was_written_comes_back(noun):
    data = json.loads(json.dumps(noun.to_json()))
    read = Agreement.from_json(data) if isinstance(noun, Agreement) else from_json(type(noun), data)
    assert read == noun


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ratio": "2"}, "Ratio.ratio is str, not float"),
        ({"ratio": True}, "Ratio.ratio is bool, not float"),
        ({"ratio": None}, "Ratio.ratio is NoneType, not float"),
        ({"low": [1]}, "Ratio.low is list, not float"),
    ],
)
def test_what_does_not_fit_is_named(change, words):
    with pytest.raises(TypeError, match=words):
        from_json(Ratio, {**dataclasses.asdict(Ratio(2.0, None, None, 99.0)), **change})


def test_what_a_noun_needs_and_has_not_and_what_it_does_not_know():
    fields = dataclasses.asdict(Ratio(2.0, None, None, 99.0))
    assert from_json(Ratio, {**fields, "ratio": 2, "later": "x"}) == Ratio(2.0, None, None, 99.0)
    with pytest.raises(KeyError, match="ratio"):
        from_json(Ratio, {name: value for name, value in fields.items() if name != "ratio"})
    with pytest.raises(TypeError, match="Ratio is list"):
        from_json(Ratio, [])
    with pytest.raises(TypeError, match=r"Verdict.outcome is 'lost', not one of accelerated"):
        from_json(Verdict, {"op": 0, "outcome": "lost", "reason": "", "source": ""})
    with pytest.raises(TypeError, match=r"LayerAgreement.worst_at has 1 entries, not 4"):
        from_json(LayerAgreement, {**dataclasses.asdict(agreement().layers[0]), "worst_at": [1]})
