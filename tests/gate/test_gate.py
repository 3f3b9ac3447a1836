"""The gate: every limit on both sides of it, what cannot be compared, and files that say nonsense."""

import copy
import dataclasses
import json
from xml.etree import ElementTree

import pytest

from pipeline.cli.gate import floors_of
from pipeline.core.errors import BadSpec, RunError, UnknownName
from pipeline.core.files import sha256
from pipeline.gate.checks import Limits, gate
from pipeline.gate.standing import Standing, of_file, of_measurement, of_run
from pipeline.report.gated import as_junit, as_markdown, show_gated
from pipeline.tflite import artifact as artifacts
from tests.support.measurements import MACHINE
from tests.support.measurements import measured as a_measurement
from tests.support.shipped import shipped

BEFORE = Standing(
    "before.json", "cpu", "b" * 64, 1000, "camvid:a", "val", 101, 66.0, {"road": 90.0, "car": 60.0}, 0.2, 10.0, MACHINE,
    coverage_percent=99.0, of_images=101, images_sha256="c" * 64, labelled_pixels=(1000, 9000),
)  # fmt: skip


def now(**changes):
    return dataclasses.replace(BEFORE, **{"where": "now.json", "sha256": "a" * 64, **changes})


def outcomes(standing, baseline=BEFORE, **limits):
    return {check.name: check.outcome for check in gate(standing, baseline, Limits(**limits)).checks}


LOSS, CLASS, LATENCY, SIZE, COVERAGE = (
    "loss of mIoU",
    "largest loss of a class's IoU",
    "latency over the baseline's",
    "size over the baseline's",
    "loss of accelerated multiply-accumulates",
)


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, set()),
        ({"miou_percent": 65.5}, set()),
        ({"miou_percent": 65.49}, {LOSS}),
        ({"iou_percent": {"road": 90.0, "car": 55.0}}, set()),
        ({"iou_percent": {"road": 90.0, "car": 54.9}}, {CLASS}),
        ({"iou_percent": {"road": 90.0}}, {CLASS}),
        ({"median_ms": 11.0}, set()),
        ({"median_ms": 11.1}, {LATENCY}),
        ({"size_bytes": 1050}, set()),
        ({"size_bytes": 1051}, {SIZE}),
        ({"coverage_percent": 98.9}, {COVERAGE}),
        ({"miou_percent": 20.0, "size_bytes": 9999}, {LOSS, SIZE}),
    ],
)
def test_defaults_with_a_baseline_hold_to_the_limit_and_no_further(changes, failed):
    outcome_of = outcomes(now(**changes))
    assert {name for name, outcome in outcome_of.items() if outcome == "failed"} == failed
    assert set(outcome_of) == {LOSS, CLASS, LATENCY, SIZE, COVERAGE} and "skipped" not in outcome_of.values()


def test_limits_without_a_baseline():
    def asked(**limits):
        return gate(now(), None, Limits(**limits)).passed

    assert asked(max_drop_points=0.2) and not asked(max_drop_points=0.1)
    assert asked(max_latency_ms=10.0) and not asked(max_latency_ms=9.9)
    assert asked(min_coverage_percent=99.0) and not asked(min_coverage_percent=99.1)
    assert asked(class_floors={"car": 60.0}) and not asked(class_floors={"road": 95.0, "car": 60.0})
    with pytest.raises(UnknownName, match="did you mean 'car'"):
        asked(class_floors={"cars": 1.0})
    with pytest.raises(BadSpec, match="nothing to check"):
        asked()
    with pytest.raises(BadSpec, match="give one with --baseline"):
        asked(max_loss_points=1.0)


def test_what_cannot_be_compared_is_skipped_by_default_and_failed_when_it_was_asked_for():
    other = now(machine={**MACHINE, "cpu": "another"})
    assert outcomes(other)[LATENCY] == "skipped"
    assert outcomes(other, max_latency_ratio=9.0)[LATENCY] == "failed"
    assert outcomes(now(median_ms=None))[LATENCY] == "skipped"
    assert not gate(now(median_ms=None), None, Limits(max_latency_ms=99.0)).passed
    assert outcomes(now(coverage_percent=None))[COVERAGE] == "skipped"
    assert outcomes(now(coverage_percent=None), max_coverage_loss_points=50.0)[COVERAGE] == "failed"
    with pytest.raises(RunError, match="20 val images"):
        outcomes(now(images=20))
    with pytest.raises(RunError, match="no class in common"):
        outcomes(now(iou_percent={"roof": 50.0}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images_sha256": "e" * 64, "data": "folder:b"}, r"on other images \(101 val images of camvid:a\) than now"),
        ({"labelled_pixels": (1000, 9001)}, "on other labels"),
        ({"labelled_pixels": ()}, "on other labels"),
        ({"images_sha256": ""}, "now.json is of an earlier version and does not say which images were scored"),
    ],
)
def test_accuracies_on_other_images_are_not_compared(changes, says):
    """However like the datasets are: as many images of classes with the same names."""
    with pytest.raises(RunError, match=says):
        outcomes(now(**changes))
    assert outcomes(now(data="camvid:/another/place"))[LOSS] == "passed"  # the same files in another folder


def test_times_of_the_same_turns_go_before_those_of_different_days():
    together = now(median_ms=5.0, against=(BEFORE.sha256, 0.8), machine={**MACHINE, "cpu": "another"})
    (check,) = (c for c in gate(together, BEFORE, Limits()).checks if c.name == LATENCY)
    assert check.outcome == "failed" and check.value == pytest.approx(1.25)
    assert outcomes(now(against=("c" * 64, 0.1)))[LATENCY] == "passed"  # timed with some other file


def test_junit_and_markdown_say_the_same_and_no_name_breaks_them():
    hostile = "a|b<script>\x1b[31m\u202e`* @someone ~~x~~ www.x.y http://x.y"
    standing = now(miou_percent=10.0, iou_percent={hostile: 1.0, "road": 0.0}, machine={**MACHINE, "cpu": "x"})
    gated = gate(standing, dataclasses.replace(BEFORE, iou_percent={hostile: 90.0, "road": 0.0}), Limits())
    suite = ElementTree.fromstring(as_junit(gated)).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("5", "2", "1")
    assert {c.get("name") for c in suite if c.find("failure") is not None} == {LOSS, CLASS}
    text = as_markdown(gated)
    assert text.startswith("### segquant gate: failed") and "\x1b" not in text and "\u202e" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 7 and all(line.count("|") == 6 for line in rows)
    assert not any(live in text for live in ("<script>", "@someone", "~~x~~", "www.x", "http://x"))


@pytest.fixture(scope="module")
def measured(tmp_path_factory, request):
    """A run with a measurement as `bench` writes it, made by hand: timing it would take half a minute."""
    run, artifact = shipped(tmp_path_factory.mktemp("gated"))
    measurement = a_measurement(sha256=artifact.sha256, data=run.config.data).to_json()
    measurement["artifact"]["size_bytes"] = artifact.path.stat().st_size
    run.measurements.mkdir()
    (run.measurements / "bench-cpu-1.json").write_text(json.dumps(measurement))
    return run, measurement


def test_the_command_passes_fails_saves_and_compares_with_what_it_saved(cli, measured, tmp_path):
    run, _ = measured
    ask = ("gate", "--run", str(run.path))
    result = cli(*ask, "--max-drop", "0.5", "--save", "base.json", "--json", "g.json", cwd=tmp_path)
    assert result.returncode == 0 and "gate passed" in result.stdout, result.stderr
    saved = json.loads((tmp_path / "base.json").read_text())
    assert saved["kind"] == "baseline" and saved["coverage_percent"] > 50
    result = cli(*ask, "--max-drop", "0.49", "--save", "not.json", "--junit", "j.xml", "--markdown", "-", cwd=tmp_path)
    assert result.returncode == 1 and "gate failed: drop" in result.stderr and not (tmp_path / "not.json").exists()
    assert "gate: failed" in result.stdout and b"<failure" in (tmp_path / "j.xml").read_bytes()
    for baseline in ("base.json", str(run.path), str(run.measurements / "bench-cpu-1.json")):
        result = cli(*ask, "--baseline", baseline, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    assert cli(*ask, "--baseline", "base.json", "--max-size-ratio", "0.9", cwd=tmp_path).returncode == 1
    for wrong in ("person=101", "person", "=3", "a=nan"):
        assert cli(*ask, "--class-floor", wrong, cwd=tmp_path).returncode == 2
    with pytest.raises(BadSpec, match="gives 'a' two limits"):
        floors_of(("a=90", "a=1"))


def test_a_measurement_of_another_file_does_not_count(cli, tmp_path):
    run, _ = shipped(tmp_path)
    result = cli("gate", "--run", str(run.path), "--max-drop", "1", cwd=tmp_path)
    assert result.returncode == 2 and "has not been measured as it is now" in result.stderr


def test_a_measurement_of_some_images_counts_where_these_are_asked_for(cli, tmp_path):
    run, artifact = shipped(tmp_path)
    run.measurements.mkdir()

    def measure(name, images, of_images, percent):
        measurement = a_measurement(percent, sha256=artifact.sha256, images=images, of_images=of_images)
        (run.measurements / f"bench-cpu-{name}.json").write_text(json.dumps(measurement.to_json()))

    measure("1", 1, 5, 99.0)
    ask = ("gate", "--run", str(run.path), "--max-drop", "1")
    result = cli(*ask, cwd=tmp_path)
    assert result.returncode == 2 and "was measured on 1 of 5 val images alone: run `python" in result.stderr
    assert cli(*ask, "--images", "1", cwd=tmp_path).returncode == 0
    result = cli(*ask, "--images", "2", cwd=tmp_path)
    assert result.returncode == 2 and "as it is now on the first 2 images" in result.stderr, result.stderr
    assert "--images 2` first" in result.stderr
    measure("0", 5, 5, 66.0)
    assert of_run(run, artifact).miou_percent == 66.0 and of_run(run, artifact, images=1).miou_percent == 99.0
    (run.measurements / "bench-cpu-0.json").unlink()
    measure("1", 5, None, 66.0)
    with pytest.raises(RunError, match="on 5 val images by an earlier version, which does not say of how many"):
        of_run(run, artifact)


def test_a_broken_measurement_does_not_hide_a_good_one(tmp_path):
    run, artifact = shipped(tmp_path)
    run.measurements.mkdir()
    (run.measurements / "bench-cpu-2.json").write_text("{")
    with pytest.raises(
        RunError, match=r"as it is now \(.*bench-cpu-2.json is no measurement that can be compared .*run"
    ):
        of_run(run, artifact)
    measurement = a_measurement(sha256=artifact.sha256)
    (run.measurements / "bench-cpu-1.json").write_text(json.dumps(measurement.to_json()))
    assert of_run(run, artifact).miou_percent == 66.0


def test_images_left_out_and_masks_that_say_nothing_are_told(capsys):
    measurement = a_measurement(skipped=("x", "y"))
    score = dataclasses.replace(measurement.artifact.score, one_class="road")
    artifact = dataclasses.replace(measurement.artifact, score=score)
    gated = gate(of_measurement(dataclasses.replace(measurement, artifact=artifact)), None, Limits(max_drop_points=1))
    show_gated(gated)
    for text in (capsys.readouterr().out, as_markdown(gated)):
        assert "5 of 7 val images of camvid" in text and "every pixel is of one class, 'road'" in text, text


def test_a_measurement_of_the_compiled_twin_counts(tmp_path):
    run, artifact = shipped(tmp_path, "edgetpu")
    twin = artifact.path.with_name(f"{artifact.path.stem}_edgetpu.tflite")
    twin.write_bytes(b"compiled")
    artifact = artifacts.with_compiled(artifact, twin, "")
    measurement = a_measurement(sha256=sha256(twin), target="edgetpu")
    run.measurements.mkdir()
    (run.measurements / "bench-edgetpu-1.json").write_text(json.dumps(measurement.to_json()))
    assert of_run(run, artifact).miou_percent == 66.0


def test_the_newest_measurement_counts_whatever_times_a_copy_gave_the_files(tmp_path):
    run, artifact = shipped(tmp_path)
    run.measurements.mkdir()
    for name, percent in (("20260102T030405-2", 64.0), ("20260102T030405", 65.0), ("20251231T235959", 66.0)):
        measurement = a_measurement(percent, sha256=artifact.sha256)
        (run.measurements / f"bench-cpu-{name}.json").write_text(json.dumps(measurement.to_json()))
    (run.measurements / "bench-cpu-20260103T000000.json").symlink_to("gone")
    assert of_run(run, artifact).miou_percent == 64.0


def change(data, path, value):
    data = copy.deepcopy(data)
    *above, last = path
    inner = data
    for key in above:
        inner = inner[key]
    inner[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("artifact",), []),
        (("artifact", "score"), None),
        (("artifact", "score", "miou_percent"), float("nan")),
        (("artifact", "score", "miou_percent"), "66"),
        (("artifact", "score", "iou_percent"), [1]),
        (("artifact", "size_bytes"), True),
        (("artifact", "latency", "median_ms"), float("inf")),
        (("machine",), 3),
        (("images",), None),
        (("target",), 5),
        (("drop_points",), {}),
        (("artifact", "size_bytes"), 0),
        (("parent", "size_bytes"), 0),
        (("artifact", "latency", "median_ms"), 5e-324),
        (("artifact", "latency", "median_ms"), 0.0),
        (("artifact", "score", "miou_percent"), 101),
        (("artifact", "score", "iou_percent", "a"), -1),
        (("artifact", "score", "pixel_accuracy_percent"), 1e300),
        (("speedup",), {"ratio": 0.0, "low": None, "high": None, "confidence_percent": 99.0}),
    ],
)
def test_a_baseline_of_nonsense_is_refused_in_a_sentence(measured, tmp_path, path, value):
    (tmp_path / "b.json").write_text(json.dumps(change(measured[1], path, value)))
    with pytest.raises(RunError, match="no measurement that can be compared"):
        of_file(tmp_path / "b.json")


@pytest.mark.parametrize("text", ["", "[]", "3", '{"kind": "baseline"}', "[" * 100000, "\x00", '{"schema": 5}'])
def test_a_file_that_is_none_is_refused_in_a_sentence(tmp_path, text):
    (tmp_path / "b.json").write_text(text)
    for path in (tmp_path / "b.json", tmp_path, tmp_path / "none.json"):
        with pytest.raises(RunError, match="no measurement that can be compared"):
            of_file(path)


def test_where_nothing_is_labelled_there_is_nothing_to_pass():
    """0.00 against 0.00 would keep every limit."""
    with pytest.raises(ValueError, match="no class was scored"):
        now(miou_percent=0.0, iou_percent={}, drop_points=0.0)
