"""How the workers of a training are named: by --workers and --rank, or by TF_CONFIG."""

import json

import pytest

from pipeline.core.errors import BadSpec
from pipeline.core.workers import Workers

TWO = "10.0.0.1:2222,worker-1.train:2222"


def config(kind="worker", index=0, **cluster):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


def test_workers_are_those_of_the_options_or_of_tf_config():
    workers = Workers.of(TWO, 1, {})
    assert workers == Workers(("10.0.0.1:2222", "worker-1.train:2222"), 1) and not workers.leads
    assert Workers.of(None, None, {"TF_CONFIG": workers.config(1)}) == workers
    assert Workers.of(None, None, {}) is None
    assert Workers.of(None, None, config(worker=["a:1"])) is None  # as an operator sets it for a job of one
    assert Workers.of(None, None, config(index=1, chief=["c:1"], worker=["a:1", "b:1"])).rank == 2
    assert Workers.of(None, None, config("chief", chief=["c:1"], worker=["a:1", "b:1"])).leads
    here = Workers.of("local:3", None, {})
    assert here.leads and here.starts_others and here.count == 3
    assert Workers.of("local:3", None, {"TF_CONFIG": here.config(2)}).rank == 2  # one that the chief started
    assert [workers.part(batch) for batch in (2, 8)] == [1, 4]


@pytest.mark.parametrize(
    ("text", "rank", "environment", "says"),
    [
        (TWO, None, {}, "--workers needs --rank"),
        (TWO, 2, {}, "2 workers have ranks 0 to 1"),
        ("a:1", 0, {}, "one worker alone"),
        ("a:1,a:1", 0, {}, "two have the same address"),
        ("a:1,b", 0, {}, "'b' is no address"),
        ("a:1,b:70000", 0, {}, "'b:70000' is no address"),
        ("local:1", None, {}, "give 2 or more"),
        ("local:2", 0, {}, "leave --rank out"),
        (None, 0, {}, "none are named"),
        (TWO, 0, config(worker=["a:1", "b:1"]), "both describe the workers"),
        (None, 1, config(worker=["a:1", "b:1"]), "--rank 1 and TF_CONFIG both say"),
        (None, None, config(index=-1, chief=["c:1"], worker=["a:1", "b:1"]), "makes this process worker -1"),
        (None, None, config("chief", 1, chief=["c:1"], worker=["a:1", "b:1"]), "chief 1, but names 1 of that type"),
        (None, None, config(index=2, worker=["a:1", "b:1"]), "worker 2, but names 2"),
        (None, None, config(index=0.5, worker=["a:1", "b:1"]), "task.index is float"),
        (None, None, config(index=True, worker=["a:1", "b:1"]), "task.index is bool"),
        (None, None, {"TF_CONFIG": "["}, "TF_CONFIG cannot be read"),
        (None, None, {"TF_CONFIG": '{"cluster": {"worker": 3}}'}, "TF_CONFIG cannot be read"),
        (None, None, config(worker=["a:1"], ps=["b:1"]), "tasks of type ps"),
        (None, None, config("evaluator", worker=["a:1", "b:1"]), "makes this process a evaluator"),
    ],
)
def test_workers_that_cannot_be_are_refused(text, rank, environment, says):
    with pytest.raises(BadSpec, match=says):
        Workers.of(text, rank, environment)


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(BadSpec, match="--batch 9 cannot be divided among 2 workers"):
        Workers(("a:1", "b:1"), 0).part(9)
