"""An artifact's folder from a stranger: nothing outside it is read, run or written, and a swapped file is noticed."""

import dataclasses
import json

import pytest

from pipeline.core.errors import ArtifactError
from pipeline.tflite import artifact as artifacts
from tests.support.shipped import shipped


@pytest.fixture
def compiled(tmp_path):
    """An artifact with its compiled twin, and the JSON beside them."""
    _, artifact = shipped(tmp_path)
    twin = artifact.path.with_name("compiled.tflite")
    twin.write_bytes(b"compiled")
    artifacts.with_compiled(artifact, twin, "by a compiler")
    return artifact, twin, artifacts.beside(artifact.path)


def rewrite(sidecar, **twin):
    content = json.loads(sidecar.read_text())
    content["compiled"] |= twin
    sidecar.write_text(json.dumps(content))


def test_the_twin_is_found_as_it_was_compiled_and_may_be_gone(compiled):
    artifact, twin, _ = compiled
    assert artifacts.open_artifact(artifact.path).compiled == twin
    twin.unlink()
    assert artifacts.open_artifact(artifact.path).compiled is None


def test_a_twin_that_was_changed_or_is_a_link_is_refused(compiled, tmp_path):
    artifact, twin, _ = compiled
    twin.write_bytes(b"another")
    with pytest.raises(ArtifactError, match="not the file that the compiler made"):
        artifacts.open_artifact(artifact.path)
    (tmp_path / "elsewhere").write_bytes(b"compiled")
    twin.unlink()
    twin.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="not the file that the compiler made"):
        artifacts.open_artifact(artifact.path)


def test_what_belongs_to_a_twin_is_checked_with_it(tmp_path):
    """As the weights of an OpenVINO IR: a link in their place would bring another file into a bundle."""
    _, artifact = shipped(tmp_path)
    twin, weights = (artifact.path.with_name(f"compiled.{suffix}") for suffix in ("xml", "bin"))
    twin.write_bytes(b"compiled")
    weights.write_bytes(b"weights")
    assert artifacts.with_compiled(artifact, twin, "", [weights]).compiled == twin
    sidecar = artifacts.beside(artifact.path)
    assert artifacts.open_artifact(artifact.path).compiled == twin
    (tmp_path / "secret").write_bytes(b"weights")
    for change in (
        lambda: weights.write_bytes(b"other"),
        weights.unlink,
        lambda: weights.symlink_to(tmp_path / "secret"),
        lambda: rewrite(sidecar, companions={}),  # the link is still there
    ):
        change()
        with pytest.raises(ArtifactError, match="compiled.bin is not the file that the compiler made"):
            artifacts.open_artifact(artifact.path)
    weights.unlink()
    assert artifacts.open_artifact(artifact.path).compiled == twin  # as earlier versions wrote it
    rewrite(sidecar, companions={"/../../secret": "0"})
    with pytest.raises(ArtifactError, match="is no suffix"):
        artifacts.open_artifact(artifact.path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../compiled.tflite", "sub/compiled.tflite", "..", "", 5, None, ["x"]])
def test_a_twin_is_looked_for_in_the_artifacts_own_folder_only(compiled, name):
    artifact, _, sidecar = compiled
    rewrite(sidecar, file=name)
    with pytest.raises(ArtifactError, match="is broken"):
        artifacts.open_artifact(artifact.path)


@pytest.mark.parametrize("text", ["[]", "3", '{"sha256": 1}', '{"sha256": "x", "compiled": 5}', "[" * 60000, "\x00"])
def test_a_sidecar_of_nonsense_is_one_sentence(compiled, text):
    artifact, _, sidecar = compiled
    sidecar.write_text(text)
    with pytest.raises(ArtifactError, match="is broken: run `convert`"):
        artifacts.open_artifact(artifact.path)


@pytest.mark.parametrize("target", ["../../outside", "/tmp/x", "a/b", "..", "", "cpu\n", "a" * 100, ".hidden"])
def test_a_recipe_whose_target_is_a_path_is_refused(tmp_path, target):
    _, artifact = shipped(tmp_path)
    recipe = dataclasses.replace(artifact.recipe, target=target)
    path = tmp_path / "x.tflite"
    artifacts.write(path, artifact.path.read_bytes(), recipe)
    with pytest.raises(ArtifactError, match="a target's name has letters"):
        artifacts.open_artifact(path)
