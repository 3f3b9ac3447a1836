"""TFLite metadata: read back by the flatbuffer format's definition, by MediaPipe's own code and by real compilers."""

import dataclasses
import io
import json
import zipfile

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from pipeline.cli.convert import metadata_refusal
from pipeline.core.file_spec import FileSpec
from pipeline.core.recipe import About, Recipe
from pipeline.core.run import open_run
from pipeline.core.spec import ModelSpec
from pipeline.measure.inspect import inspect
from pipeline.targets import target, targets
from pipeline.tflite.artifact import open_artifact
from pipeline.tflite.metadata import refusal, with_metadata
from pipeline.tflite.read import read, with_recipe
from tests.support.ask_mediapipe import asked
from tests.support.flatbuffer import root
from tests.support.recipes import origin
from tests.support.shipped import COLOURS, file_of, shipped, shipped_into
from tests.support.single_ops import cases, model

FLOAT16 = FileSpec(io="float32", weights="float16")
ABOUT = About("A. Author", "CC-BY-4.0", "3.1")


@pytest.fixture(scope="module")
def run_and_artifact(tmp_path_factory):
    return shipped(tmp_path_factory.mktemp("shipped"))


def metadata(file):
    return root(read(file.read_bytes()).metadata["TFLITE_METADATA"], b"M001")


def test_the_metadata_say_what_the_file_takes_and_gives(run_and_artifact):
    run, artifact = run_and_artifact
    spec = run.config.model
    model_metadata = metadata(artifact.path)
    assert model_metadata.text(0) == f"fast-scnn {spec.size}, 5 classes" and "for target cpu" in model_metadata.text(1)
    assert (
        model_metadata.text(2) == "0" * 12
        and model_metadata.text(4) is None
        and model_metadata.text(5) is None
        and model_metadata.text(7) == "1.5.0"
    )
    (graph,) = model_metadata.tables(3)
    (image,), (logits,), (custom,) = graph.tables(2), graph.tables(3), graph.tables(9)
    content = image.table(3)
    assert content.number(0, "<B") == 2 and content.table(1).number(0, "<B") == 1  # ImageProperties, RGB
    size = content.table(1).table(1)
    assert (size.number(0, "<I"), size.number(1, "<I")) == (spec.width, spec.height)
    (unit,) = image.tables(4)
    assert unit.number(0, "<B") == 1  # NormalizationOptions: real = (raw − mean) / std
    assert unit.table(1).floats(0) == (0,) and unit.table(1).floats(1) == (255,)
    assert image.table(5).floats(0) == (1,) and image.table(5).floats(1) == (0,)
    (labels,) = logits.tables(6)
    assert labels.text(0) == "labels.txt" and labels.number(2, "<b") == 2  # TENSOR_AXIS_LABELS
    assert custom.text(0) == "SEGMENTER_METADATA"
    assert root(custom.raw(1), b"V001").number(0, "<b") == 2  # SOFTMAX
    with zipfile.ZipFile(artifact.path) as archive:
        assert archive.testzip() is None and all(entry.compress_type == 0 for entry in archive.infolist())
        assert archive.read("labels.txt") == b"a\nb\nc\nd\ne\n"
        rows = archive.read("colours.csv").decode().splitlines()
    assert rows[0] == "id,class,colour" and rows[1] == "0,a,#{:02x}{:02x}{:02x}".format(*COLOURS[0]) and len(rows) == 6


def written(run_and_artifact, spec=FileSpec(), **more):
    """The file of ``made`` as if it had been made of another spec; ``more``: of its origin."""
    return shipped_into(run_and_artifact[0], "cpu", FileSpec(), recipe_spec=spec, **more)


def test_author_licence_and_version_are_told_and_scores_need_no_activation(run_and_artifact):
    artifact = written(run_and_artifact, FileSpec(output="scores"), about=ABOUT)
    model_metadata = metadata(artifact.path)
    assert (model_metadata.text(4), model_metadata.text(5), model_metadata.text(2)) == dataclasses.astuple(ABOUT)
    assert open_artifact(artifact.path).recipe.origin.about == ABOUT
    (graph,) = model_metadata.tables(3)
    assert root(graph.tables(9)[0].raw(1), b"V001").number(0, "<b") == 0  # NONE
    assert "about" not in run_and_artifact[1].recipe.to_json()  # as files of earlier versions have it


def test_what_convert_is_told_stays_with_the_run(run_and_artifact):
    run = open_run(run_and_artifact[0].path)
    run.set_about(author="A", license=None, version=None)
    run.set_about(author=None, license="MIT", version="2")
    assert run.about() == About("A", "MIT", "2")
    run.set_about(author="B", license=None, version=None)
    assert run.about() == About("B", "MIT", "2")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (FileSpec(), None),
        (FileSpec(stride=8), None),
        (FileSpec(output="scores"), None),
        (FileSpec(io="int8"), "input is int8"),
        (FileSpec(output="mask"), "argmax itself"),
        (FLOAT16, "this file's input is uint8"),
    ],
)
def test_where_mediapipe_would_refuse_or_misread_there_are_no_metadata(run_and_artifact, spec, words):
    other = written(run_and_artifact, spec)
    graph = read(other.path.read_bytes())
    assert ("TFLITE_METADATA" in graph.metadata) == (words is None) == zipfile.is_zipfile(other.path)
    why = refusal(graph, other.recipe)
    assert why is None if words is None else words in why
    assert metadata_refusal(other.path) == why  # what `convert` says


def test_more_that_mediapipe_would_misread(run_and_artifact):
    graph = read(run_and_artifact[1].path.read_bytes())
    spec = dataclasses.replace(run_and_artifact[0].config.model, resize="half_pixel")
    known = origin(model=spec, classes=tuple("abcde"))
    assert "up to 4 pixels" in refusal(graph, Recipe("cpu", FileSpec(stride=8), origin=known))
    assert refusal(graph, Recipe("cpu", FileSpec(), origin=known)) is None
    assert "in memory" in refusal(graph, Recipe("cpu", FileSpec()))
    conv = read(model(next(case for case in cases() if case.name == "conv 3x3")))
    assert "images [1, height" in refusal(conv, Recipe("cpu", FileSpec(), origin=origin()))
    other = origin(model=ModelSpec("fcn8", spec.height, spec.width, 3), classes=tuple("abc"))
    assert "one value for each class" in refusal(graph, Recipe("cpu", FileSpec(), origin=other))


def test_names_that_would_break_a_list_are_one_line_each(run_and_artifact):
    names = ("road\nlane", 'a,"b"', "\x1b[31m", "ü", "e" * 5000)
    recipe = Recipe(
        "cpu", FileSpec(), origin=origin(model=run_and_artifact[0].config.model, classes=names, colours=COLOURS)
    )
    data = with_metadata(file_of(FileSpec()), recipe)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        lines = archive.read("labels.txt").decode().splitlines()
        rows = archive.read("colours.csv").decode().splitlines()
    assert len(lines) == 5 and lines[0] == r"road\x0alane" and lines[3] == "ü" and len(lines[4]) <= 160
    assert len(rows) == 6 and rows[2].startswith('1,"a,""b""",#')


def test_an_archive_behind_the_model_changes_nothing_for_its_readers(run_and_artifact, tmp_path):
    _, artifact = run_and_artifact
    data = artifact.path.read_bytes()
    bare = with_recipe(file_of(FileSpec()), artifact.recipe)
    graph, plain = read(data), read(bare)
    assert graph.recipe() == artifact.recipe and (graph.ops, graph.tensors) == (plain.ops, plain.tensors)
    assert open_artifact(artifact.path).sha256 == artifact.sha256
    assert json.loads(artifact.path.with_suffix(".json").read_text())["sha256"] == artifact.sha256
    image = np.random.default_rng(0).integers(0, 256, graph.tensors[graph.inputs[0]].shape, np.uint8)
    outputs = []
    for content in (data, bare):
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    assert (outputs[0] == outputs[1]).all() and len(np.unique(outputs[0])) > 10
    (tmp_path / "bare.tflite").write_bytes(bare)
    seen = inspect(artifact.path, target("cpu"))
    assert seen.coverage == inspect(tmp_path / "bare.tflite", target("cpu")).coverage
    # Written anew, the same file: nothing in it tells the time.
    assert with_metadata(bare, artifact.recipe) == data
    once_more = read(with_metadata(data, artifact.recipe))
    assert once_more.metadata == graph.metadata


@pytest.mark.real
@pytest.mark.parametrize("spec", [FileSpec(), FLOAT16], ids=["int8", "float16"])
def test_mediapipes_own_code_reads_the_same(run_and_artifact, tmp_path, spec):
    file = shipped_into(run_and_artifact[0], "gpu", spec, about=ABOUT).path
    answer, _ = asked(file, {"x": np.zeros((40, 60, 3), np.uint8)}, tmp_path)
    assert answer["labels"] == list("abcde")
    by_mediapipe = answer["metadata"]
    (graph,) = by_mediapipe["subgraphMetadata"]
    (image,), (logits,) = graph["inputTensorMetadata"], graph["outputTensorMetadata"]
    assert (by_mediapipe["author"], by_mediapipe["license"], by_mediapipe["version"]) == dataclasses.astuple(ABOUT)
    assert image["processUnits"] == [{"optionsType": 1, "options": {"mean": [0.0], "std": [255.0]}}]
    assert image["content"]["contentProperties"]["colorSpace"] == 1
    assert logits["associatedFiles"][0]["type"] == 2
    assert graph["customMetadata"][0]["data"]["activation"] == 2


ASKED = sorted(name for name, each in targets().items() if each.ask is not None)


@pytest.mark.real
@pytest.mark.parametrize("name", ASKED)
def test_real_compilers_and_runtimes_take_the_metadata_and_the_archive(run_and_artifact, tmp_path, name):
    chip = target(name)
    if chip.missing is not None and (needed := chip.missing()):
        pytest.skip(f"the compiler is missing: {needed}")
    spec = chip.file_spec(io="uint8" if "uint8" in chip.io else "float32")
    artifact = shipped_into(run_and_artifact[0], name, spec)
    assert zipfile.is_zipfile(artifact.path)
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(with_recipe(file_of(spec), artifact.recipe))
    with_them, without = (chip.ask(file, read(file.read_bytes())) for file in (artifact.path, bare))
    assert with_them.verdicts is not None, with_them.note
    assert [verdict.outcome for verdict in with_them.verdicts] == [verdict.outcome for verdict in without.verdicts]
    if chip.compile is not None:
        compiled, plain = chip.compile(artifact.path), chip.compile(bare)
        assert compiled.path is not None, compiled.note
        added = compiled.path.stat().st_size - plain.path.stat().st_size
        assert added < 8192, "the archive is small, so is what it adds"
