"""Small trees in each dataset's official layout, and what tests ask of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.core.dataset import Dataset
from pipeline.core.errors import DataError
from pipeline.data import open_dataset
from pipeline.data.images import palette

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
