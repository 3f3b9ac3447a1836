"""PASCAL VOC 2012 segmentation: 20 classes and the background (host.robots.ox.ac.uk/pascal/VOC/voc2012)."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.dataset import IGNORE, Dataset, DatasetSource, Sample
from pipeline.core.errors import DataError
from pipeline.data.images import check_pairs, dataset_root, identity_table, palette, read_list, sample
from pipeline.data.labels import Labels

CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
LAYOUT = (
    "ImageSets/Segmentation/{train,val}.txt, JPEGImages/*.jpg and SegmentationClass/*.png, in this folder or in"
    " its folder VOC2012"
)


def open_voc(folder: str) -> Dataset:
    """``folder``: VOC2012, or the VOCdevkit that holds it. The void border of the objects, 255, is ignored."""
    root = dataset_root(folder, LAYOUT)
    if (root / "VOC2012").is_dir():
        root /= "VOC2012"
    colours = palette(len(CLASSES))
    allowed = f"0 to {len(CLASSES) - 1}, and {IGNORE} for ignored"
    labels = Labels(CLASSES, identity_table(len(CLASSES), IGNORE), allowed, colours)
    splits = {split: _split(root, split, labels) for split in ("train", "val")}
    why = "the labels of VOC 2012's test split are not public"
    return Dataset(f"voc:{folder}", CLASSES, colours, splits, labels.notes, val_is_test=why)


def _split(root: Path, split: str, labels: Labels) -> tuple[Sample, ...]:
    listed = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    names = read_list(listed, "image list", LAYOUT)
    if (elsewhere := next((name for name in names if name != Path(name).name), None)) is not None:
        raise DataError(f"{listed} lists {elsewhere!r}, which is no name of an image: expected names without folders.")
    pairs = [(root / "JPEGImages" / f"{name}.jpg", root / "SegmentationClass" / f"{name}.png") for name in names]
    for image, _ in pairs:
        if not image.is_file():
            raise DataError(
                f"{listed} lists {image.stem!r} but there is no {image}: add it or remove the line; expected {LAYOUT}."
            )
    check_pairs(pairs, LAYOUT)
    return tuple(sample(image.stem, image, label, labels) for image, label in pairs)


VOC = DatasetSource("voc", "PASCAL VOC 2012, 21 classes", LAYOUT, open_voc)
