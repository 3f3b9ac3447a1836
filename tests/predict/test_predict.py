"""`predict`'s pictures against the file itself: LiteRT asked directly, and masks and colours from their definitions."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from pipeline.core.dataset import IGNORE
from pipeline.core.errors import ArtifactError, DataError, RunError
from pipeline.data.images import palette
from pipeline.drivers.worker import output_shape
from pipeline.predict.looks import Looks, encoded
from pipeline.predict.segmenter import Segmenter, segmenter
from pipeline.predict.source import Still, Stills, source_for
from pipeline.predict.stills import predict_stills
from pipeline.report import pictures
from pipeline.tflite.read import packed, unpacked_model
from tests.conftest import ROOT
from tests.measure.test_score import bilinear_from_definition
from tests.support.shipped import COLOURS, shipped


@pytest.fixture(scope="module")
def run_and_artifact(tmp_path_factory):
    return shipped(tmp_path_factory.mktemp("shipped"))


def mask_from_definition(file, image):
    """Pillow's bilinear resize, the file in LiteRT, half-pixel bilinear logits, argmax: all written out here."""
    interpreter = Interpreter(str(file))
    interpreter.allocate_tensors()
    (input_detail,), (output_detail,) = interpreter.get_input_details(), interpreter.get_output_details()
    height, width = input_detail["shape"][1:3]
    fitted = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    interpreter.set_tensor(input_detail["index"], fitted[None])
    interpreter.invoke()
    logits = interpreter.get_tensor(output_detail["index"])[0].astype(np.float64)
    return bilinear_from_definition(logits, *image.shape[:2]).argmax(-1)


def photo(path, size=(60, 90), seed=0, **save):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (size[0] // 6, size[1] // 6, 3), np.uint8).repeat(6, 0).repeat(6, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **save)
    return pixels


def test_the_mask_of_a_photo_is_the_files_at_the_photos_own_size_and_stands_upright(cli, run_and_artifact, tmp_path):
    _, artifact = run_and_artifact
    pixels = photo(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "turned.png", exif=exif)
    for name in ("a", "turned"):
        result = cli("predict", f"{name}.png", "--model", str(artifact.path), cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        mask = Image.open(tmp_path / "predictions" / name / "mask" / f"{name}.png")
        assert mask.mode == "P" and np.reshape(mask.getpalette()[:15], (5, 3)).tolist() == [list(c) for c in COLOURS]
        expected = mask_from_definition(artifact.path, pixels)
        assert np.asarray(mask).shape == (60, 90) and (np.asarray(mask) == expected).mean() > 0.999
        overlay = np.asarray(Image.open(tmp_path / "predictions" / name / "overlay" / f"{name}.jpg"), np.float64)
        mixed = (pixels + np.asarray(COLOURS)[expected]) / 2
        assert np.abs(overlay - mixed).mean() < 12  # JPEG
    assert len(set(np.unique(expected))) > 1, "one class everywhere proves nothing"


def test_the_int8_file_that_ships_runs_where_it_stands(cli, tmp_path):
    photo(tmp_path / "a.png", (360, 480))
    file = ROOT / "results" / "camvid" / "fast-scnn-720x960-qat-int8.tflite"
    result = cli("predict", "a.png", "--model", str(file), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    mask = np.asarray(Image.open(tmp_path / "predictions" / "a" / "mask" / "a.png"))
    assert mask.shape == (360, 480) and mask.max() < 11 and len(np.unique(mask)) > 1


def test_a_folder_gives_a_picture_each_and_nothing_that_is_there_is_overwritten(cli, run_and_artifact, tmp_path):
    run, _ = run_and_artifact
    for name in ("in/x.png", "in/x.jpg", "in/.hidden.png", "in/y.bmp"):
        photo(tmp_path / name)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    ask = ("predict", "in", "--run", str(run.path), "--write", "mask")
    first = cli(*ask, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    masks = run.path / "predictions" / "in" / "mask"
    assert sorted(f.name for f in masks.iterdir()) == ["x.png", "x.png.png", "y.png"]  # x.jpg is x, x.png is x.png
    assert first.stdout.split() == [str(masks)]
    assert cli(*ask, cwd=tmp_path).stdout.split() == [str(run.path / "predictions" / "in-2" / "mask")]
    before = {f: f.read_bytes() for f in masks.iterdir()}
    refused = cli(*ask, "--out", str(masks.parent), cwd=tmp_path)
    assert refused.returncode == 2 and "is there already" in refused.stderr and "--force" in refused.stderr
    assert {f: f.read_bytes() for f in masks.iterdir()} == before
    assert cli(*ask, "--out", str(masks.parent), "--force", cwd=tmp_path).returncode == 0


def test_where_labels_exist_errors_are_shown_and_the_score_is_evaluates(cli, run_and_artifact, tmp_path):
    run, _ = run_and_artifact
    data = run.config.data
    result = cli("predict", data, "--run", str(run.path), "--json", "p.json", "--write", "side,errors", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert cli("evaluate", "--run", str(run.path), "--json", "e.json", cwd=tmp_path).returncode == 0
    predicted, scored = (json.loads((tmp_path / name).read_text()) for name in ("p.json", "e.json"))
    assert predicted["score"]["iou_percent"] == scored["iou_percent"] and predicted["images"] == 5
    side = Image.open(run.path / "predictions" / "folder-val" / "side" / "0.jpg")
    height, width = run.config.model.height, run.config.model.width
    assert side.width >= 2 * width and side.height > 2 * height
    # The folder alone leads to the same.
    again = cli("predict", data.partition(":")[2], "--run", str(run.path), "--images", "1", cwd=tmp_path)
    assert again.returncode == 0 and "its val images" in again.stderr, again.stderr


def test_labels_of_a_dataset_that_lacks_a_file_are_not_taken_for_photos(tmp_path):
    for name in ("images/a", "images/b", "masks/a"):
        photo(tmp_path / f"{name}.png")
    (tmp_path / "classes.txt").write_text("x\ny\n")
    notes: list[str] = []
    found = source_for(str(tmp_path), "val", notes.append)
    assert isinstance(found, Stills)
    assert [still.name for still in found.images] == ["images/a", "images/b"] and "1 file below" in notes[0]


def one_class(mask):
    """Makes that mask of everything."""
    return Segmenter(Path("x.tflite"), lambda image: mask, ("a", "b"), ((0, 0, 0), (9, 9, 9)))


def test_a_legend_of_the_users_stays_and_images_without_labelled_pixels_have_no_score(tmp_path):
    ids, notes = np.zeros((4, 6), np.uint8), list[str]()
    still = Still("s", lambda: np.zeros((4, 6, 3), np.uint8), lambda: np.full((4, 6), IGNORE, np.uint8))
    stills = Stills("one", "one", (still,), ("a", "b"))
    result = predict_stills(stills, one_class(ids), Looks(), tmp_path / "out", notes.append)
    assert result.score is None and "no pixel of these images is labelled" in notes[-1]
    predict_stills(stills, one_class(ids), Looks(), tmp_path / "out", notes.append, force=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "legend.png").write_bytes(b"mine")
    with pytest.raises(RunError, match=r"legend\.png is there already"):
        predict_stills(stills, one_class(ids), Looks(), tmp_path / "mine", notes.append)
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["legend.png"]


def test_a_picture_that_no_jpeg_holds_is_said_in_a_sentence():
    with pytest.raises(DataError, match="70000x1 pixels, and a JPEG has at most 65500"):
        encoded("overlay", Image.new("RGB", (70_000, 1)))
    assert encoded("mask", Image.new("P", (70_000, 1)))


def test_a_file_without_an_output_or_with_other_classes_is_refused(run_and_artifact, tmp_path):
    _, artifact = run_and_artifact
    origin = artifact.recipe.known_origin
    spec = dataclasses.replace(origin.model, num_classes=2)
    fewer = dataclasses.replace(origin, model=spec, classes=("a", "b"), colours=())
    other = dataclasses.replace(artifact, recipe=dataclasses.replace(artifact.recipe, origin=fewer))
    with pytest.raises(ArtifactError, match="its recipe has 2 classes"), segmenter(other):
        pass
    model = unpacked_model(artifact.path.read_bytes())
    model.subgraphs[0].outputs, model.signatureDefs = [], None
    (tmp_path / "x.tflite").write_bytes(packed(model, artifact.path.stat().st_size))
    with pytest.raises(ArtifactError, match="has no output, so it cannot be run"):
        output_shape(tmp_path / "x.tflite")


def test_what_is_not_labelled_has_a_colour_that_no_class_has():
    for colours in (palette(2), palette(255), [(0, 0, 0), (224, 224, 192)], [(1, 2, 3)]):
        table = [tuple(colour) for colour in pictures.palette_of(colours).tolist()]
        assert table[: len(colours)] == list(map(tuple, colours)) and table[IGNORE] not in colours


def test_errors_mark_what_is_wrong_and_what_has_no_label():
    image = np.full((1, 4, 3), 100, np.uint8)
    mask, label = np.array([[0, 1, 1, 0]], np.uint8), np.array([[0, 1, 0, IGNORE]], np.uint8)
    right, same, wrong, unlabelled = pictures.errors(image, mask, label)[0].astype(int)
    assert right.tolist() == same.tolist() == [140, 140, 140]
    assert wrong[0] > 180 > 100 > wrong[2] and unlabelled[2] > 100 > unlabelled[0]


def test_an_overlay_mixes_by_opacity_and_leaves_ignored_pixels():
    image = np.full((1, 3, 3), (200, 100, 0), np.uint8)
    mask = np.array([[0, 1, IGNORE]], np.uint8)
    colours = [(0, 0, 100), (100, 200, 0)]
    for opacity in (0.0, 0.25, 1.0):
        overlay = pictures.overlay(image, mask, colours, opacity)[0].astype(int)
        for pixel, colour in zip(overlay[:2], colours, strict=True):
            mixed = (1 - opacity) * np.array((200, 100, 0)) + opacity * np.array(colour)
            assert np.abs(pixel - mixed).max() <= 1
        assert overlay[2].tolist() == [200, 100, 0]


def test_the_legend_has_a_swatch_for_each_class_and_shows_any_name():
    entries = [("road", (128, 64, 128)), ("[/]\x1b[31m\u202e", (0, 0, 142)), ("x" * 5000, (1, 2, 3))]
    picture = np.asarray(pictures.legend(entries, 200))
    for _, colour in entries:
        assert (picture == colour).all(-1).sum() > 100
    assert picture.shape[1] < 3000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.png"], "nowhere.png does not exist: name an image"),
        (["empty"], "holds no image"),
        (["fodler:x"], "did you mean 'folder'"),
        (["camera:63"], "there is no camera /dev/video63"),
        (["a.png", "--write", "overlays"], "choose some of overlay, mask, side, errors"),
        (["a.png", "--write", "errors"], "name a dataset"),
        (["a.png", "--seconds", "2"], "--images N takes"),
        (["a.png", "--opacity", "nan"], "finite"),
        (["synthetic"], "knows the classes"),
        (["pipe"], "neither a file nor a folder"),
        (["broken.png"], "cannot be decoded"),
        (["~nobody-here/a.png"], "does not exist: name an image"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_sentence(cli, run_and_artifact, tmp_path, arguments, words):
    photo(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    os.mkfifo(tmp_path / "pipe")
    result = cli("predict", *arguments, "--model", str(run_and_artifact[1].path), cwd=tmp_path)
    assert result.returncode == 2 and words in result.stderr.replace("\n", " "), result.stderr
    assert "Traceback" not in result.stderr
