"""A dataset of the user's own: images, masks of the same names, and a list of class names.

    DIR/classes.txt            one class a line, in the order of the mask's ids: 'name' or 'name R G B' (for overlays)
    DIR/train/images/*         any of the common image formats
    DIR/train/masks/*.png      one channel (or a palette): ids 0 to n−1, and 255 for ignored
    DIR/val/images/*, DIR/val/masks/*.png

Without train/ and val/, DIR/images/* and DIR/masks/*.png are split: in the order of their names every fifth image
(the 5th, the 10th, ...) is val, the others are train. The split depends on nothing but the sorted names.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.data.images import (
    check_pairs,
    dataset_root,
    identity_table,
    list_images,
    palette,
    read_list,
    sample,
)
from pipeline.nouns.dataset import IGNORE, Dataset, DatasetSource, Sample
from pipeline.nouns.errors import DataError

CLASSES_LAYOUT = "one class a line, 'name' or 'name R G B', in the order of the ids"
LAYOUT = (
    "classes.txt (one name a line) with train/images/*, train/masks/*.png, val/images/* and val/masks/*.png, or with"
    " images/* and masks/*.png, of which every fifth is taken for val"
)
EVERY = 5

Colour = tuple[int, int, int]


def open_folder(folder: str) -> Dataset:
    root = dataset_root(folder, LAYOUT)
    classes, colours = read_classes(root / "classes.txt")
    if (root / "train").exists() or (root / "val").exists():
        splits = {split: _samples(root / split, len(classes)) for split in ("train", "val")}
    else:
        splits = _divide(root, _samples(root, len(classes)))
    return Dataset(f"folder:{folder}", classes, colours, splits)


def read_classes(path: Path) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    """Names and colours; a class without a colour gets PASCAL VOC's. Raises DataError."""
    names, colours = [], []
    lines = read_list(path, "class list", CLASSES_LAYOUT)
    for line, default in zip(lines, palette(len(lines)), strict=True):
        name, colour = line, default
        if match := re.fullmatch(r"(.*\S)\s+(\d+)\s+(\d+)\s+(\d+)", line):
            name, colour = match[1], (int(match[2]), int(match[3]), int(match[4]))
        if max(colour) > 255:
            raise DataError(f"class list {path} gives {name!r} the colour {colour}: red, green and blue are 0 to 255.")
        if name in names:
            raise DataError(f"class list {path} lists {name!r} twice: remove one of them.")
        names.append(name)
        colours.append(colour)
    if not 2 <= len(names) <= IGNORE:
        raise DataError(f"class list {path} holds {len(names)} class(es): a dataset has 2 to {IGNORE}; correct it.")
    return tuple(names), tuple(colours)


def _samples(root: Path, classes: int) -> tuple[Sample, ...]:
    images = list_images(root / "images", LAYOUT)
    pairs = [(image, root / "masks" / f"{image.stem}.png") for image in images]
    check_pairs(pairs, LAYOUT)
    for spare in sorted(set((root / "masks").glob("*.png")) - {mask for _, mask in pairs}):
        raise DataError(f"mask {spare} has no image of that name in {root / 'images'}: add it or remove the mask.")
    table = identity_table(classes, IGNORE)
    known = f"0 to {classes - 1} (the lines of classes.txt), and {IGNORE} for ignored"
    return tuple(sample(image.stem, image, mask, table, known) for image, mask in pairs)


def _divide(root: Path, samples: tuple[Sample, ...]) -> dict[str, tuple[Sample, ...]]:
    val = samples[EVERY - 1 :: EVERY]
    if not val:
        raise DataError(
            f"folder {root / 'images'} holds {len(samples)} image(s), too few for every fifth to be val: add images up"
            f" to {EVERY}, or make train/ and val/."
        )
    return {"train": tuple(s for i, s in enumerate(samples, 1) if i % EVERY), "val": val}


FOLDER = DatasetSource("folder", "your own images and masks", LAYOUT, open_folder)
