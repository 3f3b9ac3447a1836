"""A dataset of the user's own: images, masks of the same names, and a list of class names.

    DIR/classes.txt            one class a line, in the order of the mask's ids: 'name' or 'name R G B' (see class_list)
    DIR/train/images/*         any of the common image formats
    DIR/train/masks/*.png      one channel (or a palette): ids 0 to n−1, and 255 for ignored
    DIR/val/images/*, DIR/val/masks/*.png
    DIR/test/images/*, DIR/test/masks/*.png   if there is a test split, which nothing learns from

If classes.txt gives every class a colour, a mask may be a picture in those colours; a palette must agree with them.
In a dataset of two classes whose masks hold 0 and 255 but no 1, 255 is the second class.

Without train/ and val/, DIR/images/* and DIR/masks/*.png are split: in the order of their names, every fifth image
(the 5th, the 10th, ...) goes to val, the others to train. The split depends only on the sorted names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.core.dataset import IGNORE, Dataset, DatasetSource, Sample
from pipeline.core.errors import DataError
from pipeline.data.class_list import read_classes
from pipeline.data.images import check_pairs, dataset_root, identity_table, list_images, palette, sample
from pipeline.data.labels import Labels

LAYOUT = (
    "classes.txt (one name a line) with train/images/*, train/masks/*.png, val/images/* and val/masks/*.png, or with"
    " images/* and masks/*.png, of which every fifth is taken for val"
)
EVERY = 5

Pairs = list[tuple[Path, Path]]


def open_folder(folder: str) -> Dataset:
    root = dataset_root(folder, LAYOUT)
    classes, listed = read_classes(root / "classes.txt")
    colours = tuple(rgb or default for rgb, default in zip(listed, palette(len(classes)), strict=True))
    has_splits = (root / "train").exists() or (root / "val").exists()
    splits = ("train", "val")
    pairs = {split: _pairs(root / split) for split in splits} if has_splits else _divide(root, _pairs(root))
    labels = _labels(classes, listed, pairs)
    samples = {split: _samples(of_split, labels) for split, of_split in pairs.items()}
    how = "by the folders train/ and val/" if has_splits else "every fifth image, in the order of the names, is val"

    def open_test() -> tuple[Sample, ...]:
        if not (root / "test").is_dir():
            raise DataError(
                f"dataset folder {root} has no test split: make test/images/ and test/masks/ in it, or score on val."
            )
        return _samples(_pairs(root / "test"), labels)

    return Dataset(f"folder:{folder}", classes, colours, samples, labels.notes, how, open_test)


def _labels(
    classes: tuple[str, ...], colours: tuple[tuple[int, int, int] | None, ...], pairs: Mapping[str, Pairs]
) -> Labels:
    count = len(classes)
    allowed = f"0 to {count - 1} (the lines of classes.txt), and {IGNORE} for ignored"
    masks = [mask for of_split in pairs.values() for _, mask in of_split]
    return Labels(classes, identity_table(count, IGNORE), allowed, colours, masks if count == 2 else ())


def _samples(pairs: Pairs, labels: Labels) -> tuple[Sample, ...]:
    return tuple(sample(image.stem, image, mask, labels) for image, mask in pairs)


def _pairs(root: Path) -> Pairs:
    images = list_images(root / "images", LAYOUT)
    pairs = [(image, root / "masks" / f"{image.stem}.png") for image in images]
    check_pairs(pairs, LAYOUT)
    for spare in sorted(set((root / "masks").glob("*.png")) - {mask for _, mask in pairs}):
        raise DataError(f"mask {spare} has no image of that name in {root / 'images'}: add it or remove the mask.")
    return pairs


def _divide(root: Path, pairs: Pairs) -> dict[str, Pairs]:
    val = pairs[EVERY - 1 :: EVERY]
    if not val:
        raise DataError(
            f"folder {root / 'images'} holds {len(pairs)} image(s), too few to take every fifth for val: add images up"
            f" to {EVERY}, or make train/ and val/."
        )
    return {"train": [pair for i, pair in enumerate(pairs, 1) if i % EVERY], "val": val}


FOLDER = DatasetSource("folder", "your own images and masks", LAYOUT, open_folder)
