"""Names from files reach neither the terminal's controls nor rich's markup, whatever they hold and however long."""

import dataclasses
import json
import unicodedata

import pytest
from ai_edge_litert import schema_py_generated as schema

from pipeline.cli.group import Main
from pipeline.cli.screen import say, tell
from pipeline.core.errors import SegquantError
from pipeline.core.printable import LONGEST, printable
from pipeline.core.profile import OpTime, Peaks, Profile
from pipeline.core.score import Score
from pipeline.drivers.last_words import NOTHING, how_it_ended, why_it_failed
from pipeline.report.console import console
from pipeline.report.profile import show_profile
from pipeline.report.score import show_score
from pipeline.tflite.read import packed
from tests.support.single_ops import cases, model

EVIL = {
    "closing markup": "[/]",
    "markup": "[red]a[/blue]",
    "link": "[link=file:///etc]x[/link]",
    "emoji": ":smile:",
    "clear": "\x1b[2J",
    "title": "\x1b]0;owned\x07",
    "c1": "\x9b31m",
    "delete": "a\x7fb",
    "bidi": "a\u202egnp.exe",
    "isolate": "\u2066a\u2069",
    "zero width": "a\u200bb\ufeff",
    "line": "a\nerror: b",
    "separator": "a\u2028b",
    "return": "real\rfake",
    "tag": "a\U000e0041b",
    "variation": "a\ufe0fb",
    "filler": "a\u3164b",
    "half": "a\udcffb",
    "backspace": "ab\x08\x08cd",
    "tab": "a\tb",
}


def harmless(text):
    lines = text.replace("\n", "")
    return all(unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in lines)


@pytest.mark.parametrize("text", EVIL.values(), ids=EVIL)
def test_what_is_not_seen_is_written_out(text):
    shown = printable(text)
    assert harmless(shown) and "\n" not in shown
    assert "".join(c for c in shown if c in "[]/:") == "".join(c for c in text if c in "[]/:")  # nothing is eaten
    assert printable(shown) == shown


def test_what_is_seen_stays_as_it_is():
    for text in ("", "conv2d/Relu;conv2d/BiasAdd", "Straße", "道路", "voie piétonne", "a ≤ b … ×", "C:\\x", "é"):
        assert printable(text) == text
    assert printable("a\x1b[0m") == "a\\x1b[0m" and printable("\u202e") == "\\u202e"


def test_long_text_loses_its_middle():
    shown = printable("n" * 5_000_000 + " has a size that is not fixed")
    assert len(shown) <= LONGEST and shown.startswith("nnn") and shown.endswith("has a size that is not fixed")
    assert len(printable("\x00" * 5000, 100)) <= 100


def test_tables_and_titles_take_no_markup(capsys):
    for text in EVIL.values():
        console().print(text)
        show_score(Score(50.0, 60.0, {text: 1.0}, (text,), 3), text)
    assert harmless(capsys.readouterr().out)


def test_the_profile_of_such_a_file(capsys):
    for text in EVIL.values():
        op = OpTime(0, text, text, text, (text,), 1.0, 1.0, 0, 8, 0.5)
        machine = {"device": text, "cpu": text, "cores": 2, "runtime": text, "load_average_1min": 0.0}
        peaks = Peaks(1e6, 1e6, {1 << 20: 100.0})
        show_profile(Profile(text, "", machine, 1, 4, 1.0, 0.0, 1.0, (op,), peaks, (text,)), True)
    assert harmless(capsys.readouterr().out)


def named(text, custom=False):
    network = schema.ModelT.InitFromPackedBuf(model(next(c for c in cases() if c.name == "relu float")), 0)
    network.subgraphs[0].tensors[0].name = network.subgraphs[0].tensors[1].name = text.encode("utf-8", "surrogatepass")
    if custom:
        network.operatorCodes[0].builtinCode = network.operatorCodes[0].deprecatedBuiltinCode = (
            schema.BuiltinOperator.CUSTOM
        )
        network.operatorCodes[0].customCode = text.encode("utf-8", "surrogatepass")
    return packed(network, 1000)


@pytest.mark.parametrize("text", EVIL.values(), ids=EVIL)
def test_inspect_of_such_a_file(text, cli, tmp_path):
    for custom in (False, True):
        (tmp_path / "evil.tflite").write_bytes(named(text, custom))
        result = cli(
            "inspect",
            "evil.tflite",
            "--target",
            "cpu",
            "--target",
            "edgetpu",
            "--no-compiler",
            "--all",
            "--json",
            "o.json",
            cwd=tmp_path,
        )
        assert result.returncode == 0, result.stderr
        assert harmless(result.stdout) and harmless(result.stderr)
        seen = json.loads((tmp_path / "o.json").read_text())["inspections"][0]
        if text.isascii():  # what is written for programs is what the file has
            assert seen["ops"][0][1] == text.split(";")[0]
        (tmp_path / "o.json").unlink()


def test_a_name_of_megabytes_takes_no_pages(cli, tmp_path):
    (tmp_path / "long.tflite").write_bytes(named("n" * 3_000_000))
    result = cli(
        "inspect", "long.tflite", "--target", "cpu", "--target", "edgetpu", "--no-compiler", "--all", cwd=tmp_path
    )
    assert result.returncode == 0 and len(result.stdout) < 20_000


def test_messages_and_errors_are_harmless(cli, tmp_path, capsys):
    for text in EVIL.values():
        say(f"note: {text}")
        tell(text)
        result = cli("inspect", f"no {text.replace('/', '')}.tflite", "--target", "cpu", cwd=tmp_path)
        assert result.returncode == 2 and harmless(result.stderr), result.stderr
        result = cli("inspect", "x.tflite", "--target", text, cwd=tmp_path)
        assert result.returncode == 2 and harmless(result.stderr), result.stderr
    shown = capsys.readouterr()
    assert harmless(shown.out) and harmless(shown.err)
    assert len(shown.err.splitlines()) == len(EVIL)


def test_an_error_that_carries_such_a_name(capsys):
    import click

    @click.command(cls=Main)
    def group():
        pass

    @group.command()
    def fails():
        raise SegquantError("tensor \x1b[2J is broken")

    with pytest.raises(SystemExit):
        group(["fails"])
    assert capsys.readouterr().err == "error: tensor \\x1b[2J is broken\n"


INFO = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (INFO, NOTHING),
        ("", NOTHING),
        (f"{INFO}WARNING: [gpu_registry.cc:160] GPU accelerator could not be loaded\n", NOTHING),
        (
            f"ERROR: Tensor 3 has invalid quantization parameters.\n{INFO}",
            "ERROR: Tensor 3 has invalid quantization parameters",
        ),
        (
            f"{INFO}F0000 00:00:1 x.cc:7] Check failed: a == b (1 vs. 2)\n*** Check failure trace: ***\n  @ 0x5 main",
            "F0000 00:00:1 x.cc:7] Check failed: a == b (1 vs. 2)",
        ),
        (
            f'{INFO}Traceback (most recent call last):\n  File "w.py", line 1, in <module>\n    main()\n    ^^^^^^\n'
            "RuntimeError: failed to delegate PAD node #0\n",
            "RuntimeError: failed to delegate PAD node #0",
        ),
        (
            f"ERROR: conv.cc:411 has_bias was not true.\nERROR: Node number 0 (CONV_2D) failed to prepare.\n{INFO}",
            "ERROR: conv.cc:411 has_bias was not true. ERROR: Node number 0 (CONV_2D) failed to prepare",
        ),
        (
            f"terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n{INFO}",
            "what():  std::bad_alloc",
        ),
        ("something else\n", "something else"),
        (
            "FrontEnd API failed with OpConversionFailure:\nNo translator found for RELU_N1_TO_1 node.\nmore\n",
            "FrontEnd API failed with OpConversionFailure: No translator found for RELU_N1_TO_1 node",
        ),
    ],
)
def test_the_line_that_says_why(output, why):
    assert why_it_failed(output) == why


def test_how_it_ended():
    assert [how_it_ended(code) for code in (1, -6, -11, -200)] == [
        "exit code 1",
        "signal SIGABRT",
        "signal SIGSEGV",
        "signal 200",
    ]


def test_an_abort_is_not_explained_by_information(tmp_path, monkeypatch):
    """A worker that prints LiteRT's first line and aborts."""
    from pipeline.compilers import xnnpack
    from pipeline.tflite.read import read

    script = tmp_path / "worker.py"
    script.write_text(f"import os, sys\nsys.stderr.write({INFO!r})\nsys.stderr.flush()\nos.abort()\n")
    monkeypatch.setattr(xnnpack, "WORKER", script)
    data = named("x")
    (tmp_path / "x.tflite").write_bytes(data)
    answer = xnnpack.ask(tmp_path / "x.tflite", read(data))
    assert answer.verdicts is None and "SIGABRT" in answer.note and "INFO" not in answer.note


def test_nouns_are_not_changed_by_what_is_shown(capsys):
    score = Score(1.0, 1.0, {"\x1b": 1.0}, ("\x07",), 1)
    before = json.dumps(dataclasses.asdict(score))
    show_score(score, "\x1b")
    assert "\\x1b" in capsys.readouterr().out and json.dumps(dataclasses.asdict(score)) == before
