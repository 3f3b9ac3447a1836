"""Conversions that were cut off: what the next one finds, and what it makes of it."""

import dataclasses

import pytest

from pipeline.convert.convert import compile_artifact, convert
from pipeline.convert.parent import Parent
from pipeline.core.errors import ArtifactError, CompilerError
from pipeline.core.file_spec import FLOAT32
from pipeline.core.files import sha256, write_atomically
from pipeline.core.leftovers import clear
from pipeline.core.say import quiet
from pipeline.core.target import FLOAT, CompileResult
from pipeline.targets import target
from pipeline.tflite import artifact as artifacts
from tests.conftest import file_of
from tests.support.faults import KILLED, in_a_child
from tests.support.recipes import recipe
from tests.support.single_ops import cases, model
from tests.support.small_run import empty_run


@pytest.fixture
def converted(tmp_path):
    """The float file of a run, and the function that converts it again, which also returns what it says."""
    run = empty_run(tmp_path)
    write_atomically(run.float_training.best, b"weights")
    parent = Parent("float", run.float_training.best, graphs={FLOAT32: file_of("fast-scnn", FLOAT32)})

    def again(**how):
        said: list[str] = []
        return convert(run, FLOAT, said.append, FLOAT32, source=parent, **how), said

    return again()[0], again


def files(artifact):
    return {path.name: path.read_bytes() for path in artifact.path.parent.iterdir()}


@pytest.mark.parametrize("how", [{}, {"force": True}, {"replace_stale": True}])
def test_a_file_beside_the_recipe_of_another_is_made_again(converted, how):
    """What versions left that wrote one after the other."""
    artifact, again = converted
    whole = files(artifact)
    other = artifacts.write(artifact.path.with_name("other.tflite"), model(cases()[0]), recipe("cpu"))
    torn = other.path.read_bytes()
    artifact.path.write_bytes(torn)
    for path in (other.path, artifacts.beside(other.path)):
        path.unlink()
    with pytest.raises(ArtifactError, match="sha256 differs"):
        artifacts.open_artifact(artifact.path)
    repaired, said = again(**how)
    kept = {} if how == {"force": True} else {f"{artifact.path.name}.replaced": torn}
    assert repaired == artifact and files(artifact) == {**whole, **kept}
    assert sum("made again" in line for line in said) == len(kept)


def test_a_file_without_its_recipe_beside_it_gets_it_again(converted):
    artifact, again = converted
    whole = files(artifact)
    artifacts.beside(artifact.path).unlink()
    repaired, said = again()
    assert repaired == artifact and files(artifact) == whole and "written beside it again" in said[-1]


def test_what_was_compiled_from_the_file_before_does_not_stay_beside_the_new_one(converted):
    artifact, again = converted
    twin = artifact.path.with_name(f"{artifact.path.stem}_twin.tflite")
    twin.write_bytes(b"compiled")
    artifacts.write_record(artifact, compiled={"file": twin.name, "sha256": sha256(twin), "note": ""})
    assert again()[0].compiled == twin and twin.is_file()  # the same file: reused
    (artifact.path.parents[2] / "float" / "best.weights.h5").write_bytes(b"trained again")
    renewed, said = again(replace_stale=True)
    assert renewed.compiled is None and not twin.exists() and any(f"removed {twin.name}" in line for line in said)


def compiled_by(data):
    def compile_file(file):
        twin = file.with_name(f"{file.stem}_twin.tflite")
        write_atomically(twin, data)
        write_atomically(twin.with_suffix(".log"), b"log of " + data)
        return CompileResult(twin, f"compiled: {file}")

    return dataclasses.replace(target("edgetpu"), compile=compile_file)


def test_killed_at_any_change_compiling_leaves_one_whole_set(tmp_path):
    path = tmp_path / "artifacts" / "net.tflite"
    artifact = artifacts.write(path, model(cases()[0]), recipe("edgetpu"))
    first, result = compile_artifact(artifact, compiled_by(b"first"), True, quiet)
    assert first.compiled == result.path == path.with_name("net_twin.tflite") and result.note == f"compiled: {path}"
    old, outcomes = files(artifact), []
    for number in range(1, 200):
        code = in_a_child(lambda: compile_artifact(artifact, compiled_by(b"second"), True, quiet), path.parent, number)
        clear(tmp_path)
        outcomes.append(files(artifact) == old)
        twin = artifacts.open_artifact(path).compiled
        assert twin.with_suffix(".log").read_bytes() == b"log of " + twin.read_bytes(), number
        if code == 0:
            break
        assert code == KILLED
        if not outcomes[-1]:
            compile_artifact(artifact, compiled_by(b"first"), True, quiet)
            assert files(artifact) == old
    assert number > 10 and {True, False} == set(outcomes)


def test_a_compiler_that_fails_leaves_what_was_there_and_names_the_file(tmp_path):
    path = tmp_path / "net.tflite"
    artifact = artifacts.write(path, model(cases()[0]), recipe("edgetpu"))
    whole = files(artifact)

    def fail(file):
        write_atomically(file.with_name("half.tflite"), b"")
        raise CompilerError(f"it broke; the uncompiled file is {file}.")

    with pytest.raises(CompilerError, match=rf"the uncompiled file is {path}\."):
        compile_artifact(artifact, dataclasses.replace(target("edgetpu"), compile=fail), True, quiet)
    assert files(artifact) == whole
