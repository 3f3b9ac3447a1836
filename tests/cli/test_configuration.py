"""--config and `run`: what a file says is what would be typed, and what it must not say is refused in a sentence."""

import json

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from pipeline.cli import COMMANDS, main
from pipeline.cli.configuration import defaults, read
from tests.conftest import ROOT
from tests.support.shipped import shipped

EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.yaml"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return shipped(tmp_path_factory.mktemp("configured"))[0]


def write(folder, text):
    (folder / "c.yaml").write_text(text)


def test_a_file_says_what_would_be_typed_and_what_is_typed_goes_first(cli, run, tmp_path):
    write(tmp_path, f"run: {run.path}\nevaluate:\n  images: 2\n  json: e.json\n")
    assert cli("evaluate", "--config", "c.yaml", cwd=tmp_path).returncode == 0
    assert json.loads((tmp_path / "e.json").read_text())["images"] == 2
    assert cli("evaluate", "--config", "c.yaml", "--images", "3", cwd=tmp_path).returncode == 0
    assert json.loads((tmp_path / "e.json").read_text())["images"] == 3
    kept = YAML(typ="safe").load((run.path / "configuration" / "evaluate.yaml").read_text())
    assert kept["evaluate"]["images"] == 3 and kept["evaluate"]["split"] == "val"  # defaults, too
    # What was kept can be given again.
    again = cli("evaluate", "--config", str(run.path / "configuration" / "evaluate.yaml"), cwd=tmp_path)
    assert again.returncode == 0, again.stderr


def test_run_goes_through_the_sections_in_the_order_of_the_path(cli, run, tmp_path):
    write(
        tmp_path,
        f"run: {run.path}\npredict:\n  - {{source: a.png, write: mask}}\n  - {{source: a.png, write: side}}\n"
        "evaluate: {images: 1, json: e.json}\n",
    )
    from PIL import Image

    Image.new("RGB", (40, 30), (9, 99, 200)).save(tmp_path / "a.png")
    result = cli("run", "--config", "c.yaml", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    steps = [line for line in result.stderr.splitlines() if line.startswith("[")]
    assert steps == ["[1/3] evaluate", "[2/3] predict", "[3/3] predict"]
    written = {p.parent.name for p in (run.path / "predictions").rglob("a.*")}
    assert written == {"mask", "side"} and (tmp_path / "e.json").is_file()
    alone = cli("predict", "--config", "c.yaml", cwd=tmp_path)
    assert alone.returncode == 2 and "2 sections 'predict'" in alone.stderr


def test_run_finds_a_wrong_value_in_any_section_before_it_begins(cli, run, tmp_path):
    write(tmp_path, f"run: {run.path}\nevaluate: {{json: e.json}}\nbench: {{threads: 1, max-drop: 1000}}\n")
    result = cli("run", "--config", "c.yaml", cwd=tmp_path)
    assert result.returncode == 2 and "max-drop" in result.stderr and not (tmp_path / "e.json").exists()
    write(tmp_path, f"run: {run.path}\nevaluate: {{images: 1}}\npredict: {{source: nowhere.png}}\n")
    result = cli("run", "--config", "c.yaml", cwd=tmp_path)
    assert result.returncode == 2 and "nowhere.png does not exist" in result.stderr


LEVELS = "".join(f", {{x: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]}}" for n in range(1, 10))
BILLIONS = f"convert: [{{target: cpu}}]\nevaluate:\n  split: {{a: [&l0 [1]{LEVELS}], b: *l9}}"
"""Lists of ten aliases, nine deep: written out, they have a billion values."""
MERGED = "evaluate:\n  a: &m0 {x: 1, y: 2}\n" + "".join(
    f"  b{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}]}}\n" for n in range(1, 10)
)
"""Mappings that take over ten times the keys of the one before, nine deep."""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("runs: x", "did you mean 'run'"),
        ("evaluate: {image: 3}", "did you mean 'images'"),
        ("train: {lr: 3}", "did you mean 'learning-rate'"),
        (
            "steps: 3",
            "'steps' cannot stand above the sections: put it into the section of a command that has this option (",
        ),
        ("evaluate: {images: 3.5}", "takes a whole number"),
        ("evaluate: {images: true}", "takes a whole number"),
        ("evaluate: {images: [3]}", "one value, not a list"),
        ("evaluate: {images: 0}", "0 is not in the range"),
        ("evaluate: {split: tset}", "'tset' is not one of"),
        ("bench: {heads: 1}", "true or false"),
        ("bench: {max-drop: .nan}", "nan is not a finite number"),
        ("evaluate: 3", "must hold options"),
        ("evaluate: {images: 1, images: 2}", "line 1: found duplicate key"),
        ("{", "It must be YAML"),
        ("- a", "holds no mapping"),
        ("1: 2", "holds no mapping"),
        ("", "holds no mapping"),
        ("evaluate: &a [*a]", "must hold options"),
        (BILLIONS, "split is (mapping): it takes text"),
        ("evaluate: &a {images: *a}", "takes a whole number"),
        ("evaluate: !!python/object/apply:os.system [true]", "It must be YAML"),
        ("\x00", "It must be YAML"),
        ("[" * 5000, "nested too deeply. It must be YAML"),
        ("evaluate: {a: 1}\n? - a", "line 2: a key is no word"),
        ("? {a: 1}\n: 2", "line 1: a key is no word"),
        ("evaluate: !!omap [[a]: 1]", "not what its tag says"),
        ('evaluate: {images: !!float ""}', "not what its tag says"),
        ("evaluate: {images: !!bool 9}", "not what its tag says"),
        (MERGED, "more than 100000 keys"),
        (f"evaluate: {{images: 0x{'f' * 5000}}}", "line 1: a number of 5002 characters"),
        (f"%YAML 1.1\n---\nseed: {':'.join(['1'] * 4000)}.5", "line 3: a number of 8001 characters"),
    ],
)
def test_what_a_file_must_not_say_is_refused_in_a_sentence(cli, run, tmp_path, text, words):
    write(tmp_path, text)
    command = "bench" if text.startswith("bench") else "evaluate"
    result = cli(command, "--config", "c.yaml", "--run", str(run.path), cwd=tmp_path)
    assert result.returncode == 2 and words in " ".join(result.stderr.split()), result.stderr
    assert "Traceback" not in result.stderr


def taken(folder, text):
    """Section → parameter → value, as click gets them."""
    write(folder, text)
    with main.make_context("segquant", ["list"]) as ctx:
        configuration = read(folder / "c.yaml", list(COMMANDS), lambda name: main.get_command(ctx, name))
        return {name: defaults(configuration, name, main.get_command(ctx, name)) for name in configuration.sections}


@pytest.mark.parametrize(
    ("section", "parameter", "value"),
    [
        ("convert: {target: cpu, model-version: 1.10}", "model_version", "1.10"),
        ("convert: {target: cpu, model-version: 2026-11-26}", "model_version", "2026-11-26"),
        ("convert: {target: cpu, author: 007}", "author", "007"),
        ("train: {hold-out: 0016E5}", "hold_out", ["0016E5"]),  # a drive of CamVid, and a number to YAML
        ("train: {hold-out: [0016E5, a]}", "hold_out", ["0016E5", "a"]),
        ("train: {steps: 0o17}", "steps", "15"),
        ("train: {learning-rate: 1e-3}", "learning_rate", "0.001"),
    ],
)
def test_text_is_what_stands_in_the_file_though_yaml_reads_a_number(tmp_path, section, parameter, value):
    (values,) = taken(tmp_path, section).values()
    assert values[parameter] == value


def test_the_network_above_the_sections_is_not_the_file_that_predict_takes(tmp_path):
    given = taken(tmp_path, "run: runs/a\nmodel: unet\nqat: {}\npredict: {source: a.png}\n")
    assert given["qat"] == {"run_path": "runs/a", "network": "unet"}
    assert given["predict"] == {"run_path": "runs/a", "source": "a.png"}


def test_a_folder_or_nothing_is_no_configuration(cli, tmp_path):
    for name, words in ((".", "is a folder"), ("none.yaml", "does not exist")):
        result = cli("run", "--config", name, cwd=tmp_path)
        assert result.returncode == 2 and words in result.stderr
    assert "give it with --config" in cli("run", cwd=tmp_path).stderr


@pytest.mark.parametrize(("section", "key"), [("inspect: {}", "file"), ("convert: [{target: cpu}, {}]", "target")])
def test_what_a_section_lacks_is_named_as_the_file_would_name_it(tmp_path, section, key):
    write(tmp_path, section)
    result = CliRunner().invoke(main, ["run", "--config", str(tmp_path / "c.yaml")])
    assert result.exit_code == 2 and f"the section {section.partition(':')[0]!r} lacks {key!r}" in result.stderr


def test_runs_that_stand_beside_each_other_or_as_a_file_keep_the_call_too(tmp_path):
    runs = [shipped(tmp_path / name)[0].path for name in "ab"]
    write(
        tmp_path,
        f"inspect: {{file: {runs[0]}, no-compiler: true}}\nreport: {{run: {list(map(str, runs))}, format: md}}",
    )
    for command in ("inspect", "report"):
        out = ["--out", str(tmp_path / "r.md")] if command == "report" else []
        result = CliRunner().invoke(main, [command, "--config", str(tmp_path / "c.yaml"), *out])
        assert result.exit_code == 0, result.output
    kept = [sorted(file.name for file in (run / "configuration").iterdir()) for run in runs]
    assert kept == [["inspect.yaml", "report.yaml"], ["report.yaml"]]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_the_examples_in_docs_name_options_that_there_are(file):
    import click

    with main.make_context("segquant", ["list"]) as ctx:
        configuration = read(file, list(COMMANDS), lambda name: main.get_command(ctx, name))
        assert {"train", "qat", "convert", "bench"} <= set(configuration.sections)
        for name, entries in configuration.sections.items():
            command = main.get_command(ctx, name)
            for i in range(len(entries)):
                values = defaults(configuration, name, command, i)
                assert isinstance(command.make_context(name, [], parent=ctx, default_map=values), click.Context)
    assert len(EXAMPLES) >= 3 and all(line.isascii() for line in file.read_text().splitlines())


@pytest.mark.parametrize("arguments", [("qat", "--parent", "nowhere.h5"), ("train", "--init", "nowhere")])
@pytest.mark.parametrize("configured", [True, False])
def test_a_refused_command_leaves_no_empty_run(cli, tmp_path, arguments, configured):
    (tmp_path / "given.yaml").write_text("model: fast-scnn\n")
    more = ("--config", "given.yaml") if configured else ()
    done = cli(*arguments, *more, cwd=tmp_path)
    assert done.returncode == 2 and "nowhere" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["given.yaml"]


@pytest.mark.parametrize("character", ["\\0", "\\ud800"])
@pytest.mark.parametrize("text", ['run: "{}"', 'gate: {{baseline: "{}", max-drop: 1}}', 'report: {{out: "a{}"}}'])
def test_what_no_name_can_hold_is_refused(tmp_path, text, character):
    write(tmp_path, text.format(character))
    command = "gate" if "gate" in text else "report"
    result = CliRunner().invoke(main, [command, "--config", str(tmp_path / "c.yaml")])
    assert result.exit_code == 2 and "no name has a NUL or half of a surrogate pair" in result.stderr
