"""What label files mean: binary masks, palettes, colours, class lists of other tools, and classes that never occur."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.core.dataset import IGNORE, Dataset
from pipeline.core.errors import DataError
from pipeline.data import open_dataset
from pipeline.data.census import check_labels, count_pixels
from pipeline.data.class_list import read_classes
from pipeline.data.decoded import Decoded
from pipeline.data.unlabelled import unlabelled

RNG = np.random.default_rng(1)
SHAPE = (6, 8)
RED, GREEN, BLUE, GREY = (250, 10, 20), (10, 240, 30), (5, 6, 200), (90, 90, 91)


def ids(classes: int = 3) -> np.ndarray:
    mask = RNG.integers(0, classes, SHAPE, np.uint8)
    mask.ravel()[:classes] = range(classes)
    return mask


def paletted(mask: np.ndarray, colours: dict[int, tuple[int, int, int]]) -> Image.Image:
    image = Image.fromarray(mask, "P")
    entries = np.zeros((256, 3), np.uint8)
    for index, rgb in colours.items():
        entries[index] = rgb
    image.putpalette(entries.tobytes())
    return image


def put(root: Path, classes: str, **splits: Sequence[Image.Image | np.ndarray]) -> Dataset:
    """A folder dataset with these masks and images of noise."""
    for split, masks in splits.items():
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
        for i, mask in enumerate(masks):
            image = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
            image.save(root / split / "masks" / f"{i}.png")
            noise = RNG.integers(0, 256, (image.height, image.width, 3), np.uint8)
            Image.fromarray(noise).save(root / split / "images" / f"{i}.png")
    (root / "classes.txt").write_text(classes)
    return open_dataset(f"folder:{root}")


def labels(dataset: Dataset, split: str = "train") -> list[np.ndarray]:
    return [sample.label() for sample in dataset.splits[split]]


# Binary masks


def test_0_and_255_of_two_classes_are_0_and_1_aloud(tmp_path: Path) -> None:
    truth = [ids(2), np.zeros(SHAPE, np.uint8), np.ones(SHAPE, np.uint8)]
    dataset = put(tmp_path, "ground\ndisc\n", train=[t * 255 for t in truth], val=[ids(2) * 255])
    assert dataset.notes() == ()
    for label, expected in zip(labels(dataset), truth, strict=True):
        assert (label == expected).all()
    assert dataset.notes() == ("the labels hold 0 and 255 only: 255 is read as 1, 'disc'",)


def test_one_1_anywhere_and_255_is_ignored(tmp_path: Path) -> None:
    binary = ids(2) * np.uint8(255)
    dataset = put(tmp_path, "ground\ndisc\n", train=[binary, binary], val=[ids(2)])
    assert (labels(dataset)[0] == np.where(binary == 255, IGNORE, 0)).all()
    (note,) = dataset.notes()
    assert "2 label(s), such as" in note and "hold 0 and 255 but no 1" in note
    three = put(tmp_path / "three", "a\nb\nc\n", train=[binary], val=[ids(3)])
    assert (labels(three)[0] == np.where(binary == 255, IGNORE, 0)).all()


def test_a_1_behind_many_masks_of_0_and_255_is_an_error(tmp_path: Path) -> None:
    masks = [ids(2) * np.uint8(255)] * 60
    masks[9] = ids(2)  # the last one by name
    dataset = put(tmp_path, "ground\ndisc\n", train=masks, val=[ids(2) * 255])
    assert labels(dataset, "val")[0].max() == 1
    with pytest.raises(DataError, match=r"9\.png holds the value 1, others of the set hold 0 and 255 only"):
        labels(dataset)


# Palettes and colours


CLASSES = "ground 0 0 0\nred 250 10 20\ngreen 10 240 30\n"


def test_where_colours_are_given_they_decide(tmp_path: Path) -> None:
    truth = ids()
    far = paletted(truth + np.uint8(10), {10: (0, 0, 0), 11: RED, 12: GREEN})  # as indices they are no classes
    straight = paletted(truth, {0: (0, 0, 0), 1: RED, 2: GREEN})
    picture = np.array([(0, 0, 0), RED, GREEN], np.uint8)[truth]
    opaque = np.dstack([picture, np.full(SHAPE, 255, np.uint8)])
    void = picture.copy()
    void[0, 0] = (224, 224, 192)
    dataset = put(tmp_path, CLASSES, train=[far, straight, picture, opaque, truth, void], val=[straight])
    *same, ignored = labels(dataset)
    for label in same:
        assert (label == truth).all()
    assert ignored[0, 0] == IGNORE and (ignored.ravel()[1:] == truth.ravel()[1:]).all()


def test_a_palette_in_another_order_is_an_error_that_shows_both_and_a_way(tmp_path: Path) -> None:
    truth = ids()
    order = np.array([2, 0, 1], np.uint8)  # ground is index 2 in the file, red 0, green 1
    shuffled = paletted(order[truth], {2: (0, 0, 0), 0: RED, 1: GREEN})
    dataset = put(tmp_path, CLASSES, train=[shuffled], val=[shuffled.convert("RGB")])
    words = r"index 0 in \(250, 10, 20\), the colour of 'red', and index 0 is 'ground' \(0, 0, 0\).*convert\('RGB'\)"
    with pytest.raises(DataError, match=words):
        labels(dataset)
    assert (labels(dataset, "val")[0] == truth).all()  # the way it names
    painted = np.full(SHAPE, 255, np.uint8)
    dataset = put(tmp_path / "b", CLASSES, train=[paletted(painted, {255: RED})], val=[truth])
    with pytest.raises(DataError, match="the colour of 'red', and index 255 is ignored"):
        labels(dataset)


def test_colours_that_are_no_classs_are_an_error_that_shows_both(tmp_path: Path) -> None:
    wrong = paletted(ids(), {0: (0, 0, 0), 1: BLUE, 2: GREEN})
    dataset = put(tmp_path, CLASSES, train=[wrong], val=[np.full((*SHAPE, 3), GREY, np.uint8)])
    with pytest.raises(DataError, match=r"paints index 1 in \(5, 6, 200\).*ground \(0, 0, 0\), red \(250, 10, 20\)"):
        labels(dataset)
    with pytest.raises(DataError, match=r"holds the colour \(90, 90, 91\).*green \(10, 240, 30\)"):
        labels(dataset, "val")


def test_without_colours_the_index_decides_and_palettes_must_not_contradict(tmp_path: Path) -> None:
    truth = ids()
    grey = {i: (i, i, i) for i in range(3)}
    masks = [paletted(truth, grey), paletted(truth, {1: RED, 2: GREEN}), paletted(truth, {1: RED, 2: GREEN})]
    dataset = put(tmp_path, "a\nb\nc\n", train=masks, val=[paletted(truth, {1: GREEN, 2: RED})])
    for label in labels(dataset):
        assert (label == truth).all()
    with pytest.raises(DataError, match=r"index 1 in \(10, 240, 30\), and label .* paints it in \(250, 10, 20\)"):
        labels(dataset, "val")


def test_255_and_voids_colour_stay_ignored_in_palettes(tmp_path: Path) -> None:
    mask = ids()
    mask[0, :2] = 255, 3
    dataset = put(
        tmp_path,
        CLASSES,
        val=[ids()],
        train=[paletted(mask, {0: (0, 0, 0), 1: RED, 2: GREEN, 3: (224, 224, 192), 255: (255, 255, 255)})],
    )
    assert labels(dataset)[0][0, :2].tolist() == [IGNORE, IGNORE]


# Class lists


@pytest.mark.parametrize(
    "text",
    [
        "background\ndisc\n",
        "# a comment\nbackground 0 0 0\ndisc 250 50 50\n",
        "#\n# two lines alike\n#\nbackground\ndisc\n",
        "name,r,g,b\nbackground,0,0,0\ndisc,250,50,50\n",
        "name, r, g, b\nbackground, 0, 0, 0\ndisc, 250, 50, 50\n",
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ndisc:250,50,50:a,b:jump\n",
        "label:color_rgb:parts:actions\nbackground:::\ndisc:250,50,50::\n",
        "background;0;0;0\ndisc;250;50;50\n",
        "background\t0\t0\t0\ndisc\t250\t50\t50\n",
        "0 background\n1 disc\n",
        "id,name\n0,background\n1,disc\n",
        "0: background\n1: disc\n",
        "background 0\ndisc 1\n",
        "background=0\ndisc=1\n",
        "0 0 0 background\n250 50 50 disc\n",
        "0 0 0\tbackground\n250 50 50\tdisc\n",
    ],
)
def test_class_lists_as_other_tools_write_them(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text(text)
    names, colours = read_classes(tmp_path / "c.txt")
    assert names == ("background", "disc")
    assert colours[1] in ((250, 50, 50), None) and (colours[1] is None) == ("50" not in text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name\na\nb\n", "the line 'name', which is not a class"),
        ("1 disc\n0 ground\n", "gives 'disc' the id 1, but it is at place 0"),
        ("1: a\n2: b\n", "put the classes in the order of their ids"),
        ('["a", "b"]\n', "not a class"),
        ("a,b,c\nd,e,f\n", "not a class"),
        ("a 1 2 3\nb 1 2 3\n", r"'a' and 'b' one colour, \(1, 2, 3\)"),
        ("a 1 2 300\nb\n", r"\(1, 2, 300\)"),
        ("a" * 300 + "\nb\n", "not a class"),
    ],
)
def test_a_line_that_is_no_class_is_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        read_classes(tmp_path / "c.txt")


def test_names_with_numbers_and_blanks_stay(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("4 wheeler\nroad sign 10 20 30\nclass\nT-72 tank\n")
    assert read_classes(tmp_path / "c.txt")[0] == ("4 wheeler", "road sign", "class", "T-72 tank")
    (tmp_path / "c.txt").write_text("# -\nzone 1\nzone 2\n# -\nlane 3\n")
    assert read_classes(tmp_path / "c.txt")[0] == ("zone 1", "zone 2", "lane 3")


# Classes that never occur


def counted(*images: list[int]) -> np.ndarray:
    return np.array(images, np.int64)


def test_pixels_are_counted_by_class_and_every_label_is_opened(tmp_path: Path) -> None:
    masks = [ids(), np.where(ids() == 1, 255, 0).astype(np.uint8)]
    dataset = put(tmp_path, "a\nb\nc\n", train=masks, val=[np.full(SHAPE, 9, np.uint8)])
    decoded = Decoded(dataset.splits["train"], cache_bytes=0)
    expected = [[int((f == c).sum()) for c in range(3)] for f in masks]
    assert count_pixels(decoded, 3, "training", print).tolist() == expected
    with pytest.raises(DataError, match="the value 9"):
        count_pixels(Decoded(dataset.splits["val"]), 3, "val", print)


@pytest.mark.parametrize(
    ("train", "val", "words"),
    [
        (counted([0, 0, 0]), counted([1, 1, 1]), "no pixel of the training split of x is labelled"),
        (counted([1, 2, 3]), counted([0, 0, 0]), "no pixel of the val split of x is labelled, so it cannot be scored"),
        (counted([5, 0, 0], [1, 0, 0]), counted([1, 1, 1]), "one class only, 'a'.*classes 'b', 'c' never occur"),
    ],
)
def test_what_cannot_be_learnt_or_scored_is_an_error(train, val, words) -> None:
    with pytest.raises(DataError, match=words):
        check_labels(train, val, "abc", "x")


@pytest.mark.parametrize(
    ("train", "val", "words"),
    [
        (counted([1, 1, 0]), counted([1, 1, 0]), ["class 'c' never occurs, in train or val"]),
        (counted([1, 1, 0]), counted([1, 0, 4]), ["'c' never occurs in train, but in val", "'b' never occurs in val"]),
        (counted([1, 1, 1]), counted([0, 7, 0]), ["classes 'a', 'c' never occur in val", "one class only, class 'b'"]),
        (counted([1, 1, 1]), counted([1, 1, 1]), []),
    ],
)
def test_a_class_without_a_pixel_is_named(train, val, words) -> None:
    notes = check_labels(train, val, "abc", "x")
    assert len(notes) == len(words)
    for note, word in zip(notes, words, strict=True):
        assert word in note


# Photos without labels


def test_masks_are_no_photos(tmp_path: Path) -> None:
    put(tmp_path / "set", "a\nb\n", train=[ids(2), ids(2)], val=[ids(2)])
    notes: list[str] = []
    assert [s.name for s in unlabelled(str(tmp_path / "set"), notes.append)] == ["0", "1"]
    assert "whole dataset" in notes.pop() and not notes
    below = unlabelled(str(tmp_path / "set/train"), notes.append)
    assert [s.name for s in below] == ["images/0.png", "images/1.png"]
    assert "2 files" in notes[0] and "masks/0.png" in notes.pop()
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    noise = RNG.integers(0, 256, (*SHAPE, 3), np.uint8)
    for name, image in (("a.jpg", noise), ("a.png", ids()), ("b_mask.png", ids()), ("c.png", noise[..., 0])):
        Image.fromarray(image).save(mixed / name)
    photos = unlabelled(str(mixed), notes.append)
    assert [s.name for s in photos] == ["a.jpg", "c.png"] and "2 files" in notes[0]
    assert photos[1].label().tolist() == np.full(SHAPE, IGNORE).tolist()
    with pytest.raises(DataError, match=r"3 colours only and looks like a label"):
        put(tmp_path / "only", "a\nb\nc\n", train=[ids()], val=[ids()])
        unlabelled(str(tmp_path / "only/train/masks"), notes.append)[0].image()
