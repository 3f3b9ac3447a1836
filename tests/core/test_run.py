"""The run directory and its files."""

import json
import os
from pathlib import Path

import pytest

from pipeline.cli.resolve import newest_artifact
from pipeline.core.errors import ArtifactError, BadSpec, RunError, UnknownName
from pipeline.core.files import sha256, write_atomically, write_new
from pipeline.core.registry import find
from pipeline.core.run import create, latest, new_path, open_run
from pipeline.core.spec import ModelSpec, parse_size
from pipeline.tflite import artifact as artifacts
from tests.support.recipes import recipe

SPEC = ModelSpec("fast-scnn", 192, 256, 2)


def make(path):
    return create(path, SPEC, "synthetic", ("a", "b"), ((0, 0, 0), (1, 2, 3)), 7)


def test_a_run_opens_as_it_was_made(tmp_path):
    run = make(tmp_path / "r")
    assert open_run(tmp_path / "r") == run
    assert json.loads((tmp_path / "r" / "run.json").read_text())["preprocessing"]["scale"] == 1 / 255


def test_the_latest_run_is_the_one_made_last_and_broken_ones_are_passed_over(tmp_path):
    assert latest(tmp_path) is None
    make(tmp_path / "b")
    newest = make(tmp_path / "a")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "run.json").write_text("{")
    assert latest(tmp_path) == newest
    assert new_path(SPEC, "synthetic", tmp_path).name == "fast-scnn-synthetic-192x256"
    (tmp_path / "fast-scnn-synthetic-192x256").mkdir()
    assert new_path(SPEC, "synthetic", tmp_path).name == "fast-scnn-synthetic-192x256-2"


def test_what_is_no_run_says_so(tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        open_run(tmp_path / "none")
    with pytest.raises(RunError, match="not a run directory"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text('{"schema": 99}')
    with pytest.raises(RunError, match="schema 99"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text('{"schema": 1, "model": {}}')
    with pytest.raises(RunError, match="is broken"):
        open_run(tmp_path)


def test_a_run_that_is_not_there_is_answered_with_what_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "runs" / "mine")
    with pytest.raises(RunError, match="^mine does not exist: the run of that name is runs/mine.$"):
        open_run(Path("mine"))
    with pytest.raises(RunError, match="^other does not exist: .* lists; `python cli.py qat --run other` makes"):
        open_run(Path("other"))
    with pytest.raises(RunError, match=r"^runs is not a run .* `python cli.py qat --run runs/NAME` makes one"):
        open_run(Path("runs"))


def test_a_run_never_takes_over_a_directory_in_use(tmp_path):
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(RunError, match="is not a run"):
        make(tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "x"


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "f"
    write_atomically(file, b"old")
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            write_atomically(file, b"new and longer")
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file]
    write_atomically(file, b"new")
    assert file.read_bytes() == b"new" and sha256(file) == sha256(b"new")


def test_a_file_the_user_names_is_never_lost(tmp_path):
    for text in ("one", "two", "three"):
        write_new(tmp_path / "out.json", text)
    assert [(tmp_path / n).read_text() for n in ("out.json.1", "out.json.2", "out.json")] == ["one", "two", "three"]


def test_sizes_are_height_by_width():
    assert parse_size("360x480") == parse_size(" 360X480 ") == (360, 480)
    for text in ("360", "360*480", "x480", "-3x4", "360x480x3"):
        with pytest.raises(BadSpec, match="HEIGHTxWIDTH"):
            parse_size(text)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"height": 0}, "size 0x256 is not positive"),
        ({"width": 8193}, "192x8193 is too large"),
        ({"num_classes": 1}, "num_classes is 1: "),
        ({"num_classes": 256}, "num_classes is 256: "),
        ({"alpha": 0.0}, "alpha is 0.0: "),
        ({"alpha": 4.5}, "alpha is 4.5: "),
        ({"resize": "legacy"}, "resize is 'legacy': choose"),
        ({"dropout": 1.0}, "dropout is 1, which"),
        ({"l2": float("nan")}, "l2 is nan: give"),
    ],
    ids=str,
)
def test_a_spec_that_cannot_exist_dies(wrong, words):
    with pytest.raises(BadSpec, match=words):
        ModelSpec(**{"network": "fast-scnn", "height": 192, "width": 256, "num_classes": 3, **wrong})


def test_an_unknown_name_suggests_the_nearest():
    import pipeline.targets
    from pipeline.core.target import Target

    with pytest.raises(
        UnknownName, match=r"unknown target 'edgtpu': did you mean 'edgetpu'.*cpu, .*edgetpu, .*gpu, .*nnapi"
    ):
        find(pipeline.targets, Target, "target", "edgtpu")


def tiny_file():
    import tensorflow as tf
    import tf_keras

    image = tf_keras.layers.Input((8, 8, 3), batch_size=1)
    model = tf_keras.Model(image, tf_keras.layers.ReLU()(image))
    return bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def test_an_artifact_is_checked_against_its_sha256(tmp_path):
    path = tmp_path / "net.tflite"
    written = artifacts.write(path, tiny_file(), recipe("cpu"))
    assert artifacts.open_artifact(path) == written
    beside = json.loads((tmp_path / "net.json").read_text())
    assert beside["sha256"] == sha256(path) and beside["recipe"] == recipe("cpu").to_json()
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ArtifactError, match="sha256 differs"):
        artifacts.open_artifact(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ArtifactError, match="broken or truncated"):
        artifacts.open_artifact(path)
    path.write_bytes(tiny_file())
    with pytest.raises(ArtifactError, match="no recipe"):
        artifacts.open_artifact(path)


def test_a_compiled_twin_is_found_again(tmp_path):
    path = tmp_path / "net.tflite"
    written = artifacts.write(path, tiny_file(), recipe("edgetpu"))
    twin = tmp_path / "net_edgetpu.tflite"
    twin.write_bytes(b"compiled")
    assert artifacts.with_compiled(written, twin, "by hand").compiled == twin
    assert artifacts.open_artifact(path).compiled == twin


def test_without_a_name_it_is_the_target_named_last_else_cpu_and_said(tmp_path):
    from tests.support.single_ops import cases, model

    run = create(tmp_path / "run", SPEC, "synthetic", "ab", [(0, 0, 0)] * 2, 0)
    data = model(cases()[0])
    for i, target in enumerate(("cpu", "edgetpu", "float32", "web")):
        artifact = artifacts.write(run.artifacts(target) / "x.tflite", data, recipe(target))
        os.utime(artifact.path, ns=(10**18 + i, 10**18 + i))
    messages: list[str] = []

    def chosen(target=None):
        return newest_artifact(run, target, messages.append).recipe.target

    assert (
        chosen() == "cpu"
        and messages.pop() == "artifact artifacts/cpu/x.tflite (target cpu; 2 other targets: --target NAME)"
    )
    run.name_target("edgetpu")
    assert chosen() == "edgetpu" and chosen("web") == "web" and len(messages) == 1
    assert "(target edgetpu, which `convert` was last given by name; 2 other targets: --" in messages.pop()
    run.name_target("gone")
    assert chosen() == "cpu"
    (run.path / "artifacts/named.json").write_text("{")
    assert chosen() == "cpu"
    for name in ("x.tflite", "x.json"):
        (run.artifacts("cpu") / name).unlink()
    (run.artifacts("cpu") / "x.tflite").symlink_to("nowhere")
    assert chosen() == "web"
    artifacts.write(run.artifacts("nnapi") / "x.tflite", data, recipe("nope"))
    with pytest.raises(RunError, match="no artifact for target nnapi:28"):
        chosen("nnapi:28")
    with pytest.raises(ArtifactError, match="was made for target 'nope', which this version does not know"):
        chosen("nnapi")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colours": [[1, 2, 3], [1, 2, 300]]}, "a colour is not of values from 0 to 255"),
        ({"colours": [[1, 2, "<"]]}, r"RunConfig.colours\[0\]\[2\] is str, not int"),
        ({"colours": [[1, 2]]}, r"RunConfig.colours\[0\] has 2 entries, not 3"),
        ({"colours": [[1, 2, 3]]}, "1 colours for 2 classes"),
        ({"classes": [1]}, r"RunConfig.classes\[0\] is int, not str"),
        ({"seed": None}, "RunConfig.seed is NoneType, not int"),
    ],
)
def test_a_run_whose_values_are_of_another_kind_is_refused_with_the_value(tmp_path, change, words):
    made = make(tmp_path / "run")
    file = made.path / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(RunError, match=words):
        open_run(made.path)


def test_a_run_that_another_process_made_meanwhile_is_called_one(tmp_path):
    run = create(tmp_path / "run", SPEC, "synthetic", "ab", [(0, 0, 0)] * 2, 0)
    before = (run.path / "run.json").read_bytes()
    with pytest.raises(RunError, match=r"run is a run already, perhaps made by another process.*open it.*repeated"):
        create(run.path, SPEC, "synthetic", "ab", [(0, 0, 0)] * 2, 1)
    assert (run.path / "run.json").read_bytes() == before


@pytest.mark.parametrize("data", ["folder:~\0", "folder:~\ud800"])
def test_a_dataset_that_no_path_can_be_is_refused(tmp_path, data):
    run = make(tmp_path / "run")
    file = run.path / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "data": data}))
    with pytest.raises(RunError, match="no dataset has the name"):
        open_run(run.path)
