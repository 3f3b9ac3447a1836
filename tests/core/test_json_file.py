"""JSON from a stranger: what no file of ours is gets one sentence, soon and in little memory, in whichever file."""

import ast
import json
import os
import subprocess
import sys

import pytest

from pipeline.core.errors import RunError
from pipeline.core.json_file import DEEPEST, MOST_BYTES, BadJson, load, parse
from pipeline.core.run import ABOUT, NAMED, create, open_run
from pipeline.core.runs import summary
from pipeline.core.spec import ModelSpec
from pipeline.core.training import Training
from pipeline.gate.standing import of_file
from tests.conftest import ROOT

BAD = {
    "nothing": ("", "it is not JSON"),
    "half": ('{"a": ', "it is not JSON"),
    "more": ("{} {}", "it is not JSON"),
    "nan": ('{"a": NaN}', "the number NaN"),
    "infinity": ("[-Infinity]", "the number -Infinity"),
    "beyond float": ("[1e999]", "too large"),
    "beyond 128 bits": (f"[{10**40}]", "too large"),
    "beyond Python": (f"[{'9' * 10_000}]", "too large"),
    "deep": ("[" * 100_000 + "]" * 100_000, "levels deep"),
    "deep objects": ('{"a":' * 100_000 + "1" + "}" * 100_000, "levels deep"),
    "a level too deep": ("[" * (DEEPEST + 1) + "1" + "]" * (DEEPEST + 1), "levels deep"),
    "twice": ('{"b": 1, "a": 1, "a": 2}', "the key 'a' twice"),
    "latin 1": ("[\udce9]", "not UTF-8"),
    "NUL": ("\0", "it is not JSON"),
}


@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD)
def test_what_is_no_plain_json_is_refused_in_words(text, words):
    data = text.encode("utf-8", "surrogateescape")
    with pytest.raises(BadJson, match=words):
        parse(data)


def test_plain_json_is_what_it_is():
    data = {"a": [1, -2.5, True, None, "é\x00\udcff"], "b": {"c": {}}, "": 2**100}
    assert parse(json.dumps(data).encode()) == parse(json.dumps(data)) == data
    with pytest.raises(BadJson, match="it has 48 MiB; 48 MiB are allowed"):
        parse(b" " * (MOST_BYTES + 1))
    at_the_limit = "[" * DEEPEST + "1" + "]" * DEEPEST
    assert json.dumps(parse(at_the_limit)) == at_the_limit


def test_what_is_no_file_of_that_size_is_refused_before_it_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "link").symlink_to("/dev/zero")
    for name, words in (
        ("pipe", "it is not a file"),
        ("large", "it has 1048576 MiB; allowed are 48 MiB"),
        ("link", "it is not a file"),
        ("", "it is not a file"),
        ("none", "cannot be read: No such file"),
        ("a\0b", "null"),
    ):
        with pytest.raises(BadJson, match=words):
            load(tmp_path / name)


MEASURE = """
from pipeline.core.json_file import parse
from pipeline.drivers.litert_worker import peak_memory_bytes
text = b"[" + b"[]," * (COUNT // 3) + b"1]"
before = peak_memory_bytes()
parse(text)
print((peak_memory_bytes() - before) / len(text))
"""


def test_the_most_that_may_be_read_takes_bounded_memory():
    """The worst text for its length, empty lists; 48 MiB of it take 9 s here. A child: a process keeps what it took."""
    code = MEASURE.replace("COUNT", str(3 << 20))
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert 10 < float(ran.stdout) < 1.5 * 2**30 / MOST_BYTES, ran.stdout


UNFIT = '{"ranges": [], "history": 5}'
NONSENSE = [
    "[]",
    "5",
    "null",
    "{}",
    '"x"',
    "[" * 100_000,
    '{"schema": 1}',
    '{"a": NaN}',
    UNFIT,
]


@pytest.mark.parametrize("text", NONSENSE, ids=lambda text: text[:20])
def test_every_kind_of_file_with_nonsense_in_it_is_one_sentence(text, tmp_path):
    run = create(tmp_path / "run", ModelSpec("fast-scnn", 64, 64, 2), "synthetic", ("a", "b"), (), 0)
    training = Training(run.path / "qat")
    training.begin({})
    (run.path / "artifacts").mkdir()
    (run.path / "measurements").mkdir()
    readers = {
        "qat/settings.json": training.settings,
        "qat/result.json": training.qat_result,
        "qat/ranges.json": training.start,
        "measurements/bench-cpu-1.json": lambda: of_file(run.path / "measurements/bench-cpu-1.json"),
        "run.json": lambda: open_run(run.path),
    }
    for name, read in readers.items():
        before = (run.path / name).read_bytes() if (run.path / name).is_file() else None
        (run.path / name).write_text(text)
        if name == "qat/settings.json" and text.startswith("{") and "NaN" not in text:
            read()  # which settings there are, the training knows
        else:
            with pytest.raises(RunError):
                read()
        if before is not None:
            (run.path / name).write_bytes(before)
    for name in (NAMED, ABOUT, "qat/history.jsonl"):
        (run.path / name).write_text(text)
    assert run.named_target() is None and training.history() == [] and summary(run).measured == ""
    if text in ("{}", '{"schema": 1}', UNFIT):
        assert run.about().author == ""
    else:
        with pytest.raises(RunError, match="about.json is broken"):
            run.about()


def readers_of_json(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.load", "json.loads"):
            yield node.lineno, ast.unparse(node.args[0])


def test_files_are_read_through_one_reader():
    """Elsewhere JSON is what this program has just written, what a process that it started says, or the bundle's."""
    own = ("drivers/", "compilers/", "devices/", "bundle/parts/", "core/keeper_worker.py")
    for file in sorted((ROOT / "pipeline").rglob("*.py")):
        name = file.relative_to(ROOT / "pipeline").as_posix()
        if name == "core/json_file.py" or name.startswith(own):
            continue
        for line, argument in readers_of_json(ast.parse(file.read_text())):
            assert argument.startswith("json.dumps("), f"{name}:{line} reads {argument} without json_file"
