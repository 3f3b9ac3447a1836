"""A target is chosen as NAME or NAME:SELECTOR, everywhere alike."""

import pytest

from pipeline.cli.resolve import newest_artifact
from pipeline.core.errors import BadSpec, RunError, UnknownName
from pipeline.core.run import create
from pipeline.core.spec import ModelSpec
from pipeline.targets import target, targets
from pipeline.tflite import artifact as artifacts
from tests.support.recipes import recipe
from tests.support.single_ops import cases, model, small_file


def test_each_selector_that_a_target_has_chooses_what_it_names():
    for name, plain in targets().items():
        assert target(name) is plain and plain.text == name
        for level, rules in plain.levels.items():
            chosen = target(f"{name}:{level}")
            assert chosen.rules is rules and chosen.level == level and chosen.text == f"{name}:{level}"
            assert target(f"{name}:{level}", level=level) == target(name, level=level) == chosen
        for soc, variant in plain.socs.items():
            chosen = target(f"{name}:{soc.lower()}")
            assert (
                chosen.compile is variant.compile and chosen.title == variant.title and chosen.text == f"{name}:{soc}"
            )
            assert target(f"{name}:{soc}", soc=soc.lower()).text == target(name, soc=soc).text == f"{name}:{soc}"
        for configuration, variant in plain.configurations.items():
            chosen = target(f"{name}:{configuration}")
            assert (
                chosen.compile is variant.compile and chosen.text == f"{name}:{configuration}" and chosen.name == name
            )
            assert chosen.title == variant.title and chosen.configurations == plain.configurations
        if not plain.levels and not plain.socs and not plain.configurations:
            with pytest.raises(BadSpec, match=f"write {name}\\."):
                target(f"{name}:1")
    assert target("nnapi:29").level == 29 and target("qualcomm:SM8650").title.endswith("SM8650")


@pytest.mark.parametrize(
    ("text", "options", "error", "words"),
    [
        ("nnapi:", {}, BadSpec, "nnapi:27, nnapi:28, nnapi:29, nnapi:30, nnapi:31"),
        ("nnapi:29.0", {}, BadSpec, "no such feature level"),
        ("ethos-u65:128", {}, BadSpec, "no such configuration; write one of ethos-u65:256, ethos-u65:512\\."),
        ("ethos-u55:", {}, BadSpec, "write one of ethos-u55:32, ethos-u55:64, ethos-u55:128, ethos-u55:256"),
        ("ethos-u55:128", {"soc": "SM8650"}, BadSpec, "contradict"),
        ("ethos-u55", {"soc": "SM8650"}, BadSpec, "does not distinguish systems on chip"),
        ("nnapi:29", {"level": 30}, BadSpec, "contradict each other"),
        ("nnapi:29", {"soc": "SM8650"}, BadSpec, "contradict|does not distinguish systems on chip"),
        ("qualcomm:", {}, UnknownName, "system on chip"),
        ("qualcomm:SM8750", {"soc": "SM8650"}, BadSpec, "contradict each other"),
        ("qualcomm", {"level": 29}, BadSpec, "no feature level"),
        ("nnap:29", {}, UnknownName, "unknown target 'nnap': did you mean 'nnapi'"),
    ],
)
def test_what_a_target_does_not_have_is_refused(text, options, error, words):
    with pytest.raises(error, match=words):
        target(text, **options)


def test_an_ethos_u_without_a_size_has_256_macs():
    for name in ("ethos-u55", "ethos-u65", "ethos-u85"):
        assert target(name).compile is target(f"{name}:256").compile and "256 MACs" in target(name).title
    assert target("ethos-u85:2048").title == "Arm Ethos-U85, 2048 MACs a cycle"


def test_a_level_chooses_the_artifact_made_for_it(tmp_path):
    """The default's own number names the file of the default; another's names none."""
    spec = ModelSpec("fast-scnn", 64, 64, 2)
    run = create(tmp_path / "run", spec, "synthetic", "ab", [(0, 0, 0)] * 2, 0)
    data = model(cases()[0])

    def chosen(text):
        return newest_artifact(run, text, print).path.stem

    artifacts.write(run.artifacts("nnapi") / "plain.tflite", data, recipe("nnapi"))
    (run.artifacts("nnapi") / "gone.tflite").symlink_to("nowhere")
    assert chosen("nnapi") == chosen("nnapi:30") == "plain"
    with pytest.raises(RunError, match="no artifact for target nnapi:29 yet.*convert --target nnapi:29"):
        chosen("nnapi:29")
    artifacts.write(run.artifacts("nnapi") / "old.tflite", data, recipe("nnapi", level=29))
    assert chosen("nnapi:29") == "old" and chosen("nnapi:30") == "plain"


def test_one_file_on_two_levels_is_told_apart(cli, tmp_path):
    file = small_file(tmp_path)
    result = cli("inspect", str(file), "--target", "nnapi:28", "--target", "nnapi:31", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"{file} on nnapi:28" in result.stdout and f"{file} on nnapi:31" in result.stdout


def test_the_list_shows_what_may_follow_a_name(cli, tmp_path):
    shown = " ".join(cli("list", cwd=tmp_path).stdout.split())
    assert (
        "nnapi[:27..31]" in shown
        and "ethos-u65[:256|512]" in shown
        and "qualcomm[:SOC]" in shown
        and "SM8650, SA8255" in shown
    )
