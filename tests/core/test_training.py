"""The folder of a training: what finished means, what is compared, and files of earlier versions and broken ones."""

import ast
import json

import pytest

from pipeline.core.calibration import CalibrationRecord
from pipeline.core.errors import RunError
from pipeline.core.ranges import Range
from pipeline.core.training import FloatResult, HistoryEntry, QatResult, StartingRanges, Symptom, Training, changes
from tests.conftest import ROOT

SETTINGS = {"schedule": {"steps": 4, "batch": 2}, "per_tensor": False}


@pytest.fixture
def training(tmp_path):
    return Training(tmp_path / "float")


def test_a_training_is_finished_when_its_result_is_there(training):
    assert not training.trained and training.settings() is None and not training.is_finished(SETTINGS)
    training.begin(SETTINGS)
    assert training.settings() == SETTINGS and not training.is_finished(SETTINGS) and not training.trained
    result = FloatResult(50.0, 49.0, 3.0, 0.5, (HistoryEntry(4, 1.5, 50.0, 3.0),))
    training.finish(result)
    assert training.trained and training.is_finished(SETTINGS) and training.float_result() == result
    with pytest.raises(
        RunError,
        match=r"other settings, listed below: to train again, force it \(`train --force`.*\n  schedule.steps: 4, now 9",
    ):
        training.is_finished({**SETTINGS, "schedule": {"steps": 9, "batch": 2}})
    for begun, now in ((None, {"file": "a"}), ({"file": "a"}, None)):
        (line,) = changes({"init": begun}, {"init": now})
        assert line == f"init.file: {'a' if begun else 'not given'}, now {'a' if now else 'not given'}"
    with pytest.raises(RunError, match=r"force it \(--force"):  # with --parent, that takes other weights
        training.is_finished({"parent_sha256": "0"})
    assert not training.is_finished({"schedule": 1}, force=True)
    training.begin({"schedule": 1}, force=True)
    assert not training.trained and training.settings() == {"schedule": 1}
    (aside,) = training.folder.parent.glob("float.replaced-*")
    assert Training(aside).float_result() == result


def test_results_are_written_as_they_always_were(training):
    training.finish(FloatResult(50.0, 49.0, 3.0, 0.5))
    keys = ["best_val_miou_percent", "last_val_miou_percent", "seconds", "step_seconds", "history"]
    assert list(json.loads((training.folder / "result.json").read_text())) == keys
    training.finish(FloatResult(50.0, parent="x.h5", parent_sha256="ff"))
    assert json.loads((training.folder / "result.json").read_text()) == {
        "best_val_miou_percent": 50.0,
        "parent": "x.h5",
        "parent_sha256": "ff",
    }
    training.finish(QatResult(60.0, 5.0, history=(HistoryEntry(1, None, None, 2.0),)))
    data = json.loads((training.folder / "result.json").read_text())
    assert data["gain_points"] is None and data["history"] == [
        {"step": 1, "loss": None, "miou_percent": None, "seconds": 2.0, "symptoms": []}
    ]
    assert training.qat_result() == QatResult(60.0, 5.0, history=(HistoryEntry(1, None, None, 2.0),))


NOUNS = {"val_miou_percent": "qat_result", "best_val_miou_percent": "float_result"}
PUBLISHED = [file for file in sorted((ROOT / "results" / "camvid").glob("*.json")) if "history" in file.read_text()]


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.stem)
def test_what_earlier_versions_wrote_is_read(training, file):
    data = json.loads(file.read_text())
    training.begin(SETTINGS)
    (training.folder / "result.json").write_text(file.read_text())
    (key,) = set(data) & set(NOUNS)
    read = getattr(training, NOUNS[key])()
    assert getattr(read, key) == data[key] and len(read.history) == len(data["history"]) > 0


def test_ranges_and_history_come_back(training):
    assert training.start() is None and training.history() == []
    start = StartingRanges({"conv": Range(-1.0, 2.5)}, CalibrationRecord("min-max", "random", None, ("a", "b"), "00"))
    training.write_start(start)
    assert training.start() == start
    dead = Symptom("stem_relu", "dead", "3 of 4 channels are 0 everywhere", 0.75)
    entries = [HistoryEntry(1, 0.5, 10.0, 1.0, (dead,)), HistoryEntry(2, None, None, 2.0)]
    training.write_history(entries)
    assert training.history() == entries
    (training.folder / "history.jsonl").write_text('{"step": 1}\n')
    assert training.history() == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "5",
        "{}",
        '{"best_val_miou_percent": null}',
        '{"history": 5}',
        '{"best_val_miou_percent": 1, "history": [1]}',
    ],
)
def test_a_broken_file_is_one_sentence(training, text):
    training.begin(SETTINGS)
    for name, read in (("result.json", training.float_result), ("result.json", training.qat_result)):
        (training.folder / name).write_text(text)
        with pytest.raises(RunError, match=f"{name} is broken .*: restore it, or force"):
            read()
    (training.folder / "ranges.json").write_text(text)
    with pytest.raises(RunError, match="ranges.json is broken"):
        training.start()


def test_what_only_an_unfinished_training_needs_goes_with_its_result(training):
    training.begin(SETTINGS)
    training.resume.mkdir()
    for file in (training.candidate, training.resume / "checkpoint", training.best):
        file.write_bytes(b"x")
    training.tidy()  # not finished
    assert training.candidate.exists() and (training.resume / "checkpoint").exists()
    training.finish(FloatResult(50.0))
    assert not training.candidate.exists() and not training.resume.exists() and training.best.exists()
    training.resume.mkdir()  # a process ended between the two
    training.tidy()
    assert not training.resume.exists() and training.trained


def test_two_trainings_of_one_second_are_set_aside_apart(training, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda _: "now")
    for _ in range(3):
        training.begin(SETTINGS, force=True)
    aside = sorted(path.name for path in training.folder.parent.iterdir())
    name = training.folder.name
    assert aside == [name, f"{name}.replaced-now", f"{name}.replaced-now-2"]


def test_one_module_alone_knows_the_files_of_a_training():
    names = ("result.json", "settings.json", "ranges.json", "history.jsonl", "best.weights.h5", "last.weights.h5")
    knowing = {
        file.name
        for file in (ROOT / "pipeline").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert knowing == {"training.py"}


def test_an_empty_folder_is_no_training_to_set_aside(training):
    """Such as one whose command was interrupted before it wrote the settings."""
    training.folder.mkdir()
    training.begin(SETTINGS)
    assert [path.name for path in training.folder.parent.iterdir()] == ["float"]
    training.begin({**SETTINGS, "per_tensor": True}, force=True)
    assert len(list(training.folder.parent.iterdir())) == 2
