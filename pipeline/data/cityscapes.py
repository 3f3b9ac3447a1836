"""Cityscapes, fine annotations, 19 classes (Cordts et al., arXiv 1604.01685; www.cityscapes-dataset.com)."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.dataset import IGNORE, Dataset, DatasetSource, Sample
from pipeline.core.errors import DataError
from pipeline.data.images import check_pairs, check_unique, dataset_root, identity_table, sample
from pipeline.data.labels import Labels

TRAIN_CLASSES = (
    # (label id, name, colour) in the order of the train ids, from cityscapesScripts' helpers/labels.py
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
LABEL_IDS = 34
"""Label ids are 0 to 33. The licence plate's −1 is never drawn (cityscapesScripts' json2labelImg.py)."""
IMAGE_SUFFIX = "_leftImg8bit.png"
LAYOUT = (
    "leftImg8bit/{train,val}/CITY/*_leftImg8bit.png and gtFine/{train,val}/CITY/*_gtFine_labelTrainIds.png or"
    " *_gtFine_labelIds.png"
)


def open_cityscapes(folder: str) -> Dataset:
    """Reads an image's trainIds if it has them, else its labelIds, mapped to train ids."""
    root = dataset_root(folder, LAYOUT)
    _, names, colours = zip(*TRAIN_CLASSES, strict=True)
    splits = {split: _split(root, split) for split in ("train", "val")}
    return Dataset(f"cityscapes:{folder}", names, colours, splits, open_test=_no_labels)


def _no_labels() -> tuple[Sample, ...]:
    raise DataError(
        "the labels of Cityscapes' test split are not public: its server scores masks that are sent in; score on val."
    )


def label_id_table() -> tuple[int, ...]:
    """Train id of each of 256 label ids: IGNORE for the void classes and 255, −1 (an error) for all others."""
    table = [IGNORE if label_id in (*range(LABEL_IDS), IGNORE) else -1 for label_id in range(256)]
    for train_id, (label_id, _, _) in enumerate(TRAIN_CLASSES):
        table[label_id] = train_id
    return tuple(table)


def _split(root: Path, split: str) -> tuple[Sample, ...]:
    folder = root / "leftImg8bit" / split
    images = sorted(folder.glob(f"*/*{IMAGE_SUFFIX}"))
    if not images:
        raise DataError(f"folder {folder} holds no CITY/*{IMAGE_SUFFIX}: expected {LAYOUT}.")
    check_unique(images)
    names = [name for _, name, _ in TRAIN_CLASSES]
    train_ids = f"0 to {len(TRAIN_CLASSES) - 1}, and 255 for ignored"
    by_train_id = Labels(names, identity_table(len(TRAIN_CLASSES), IGNORE), train_ids)
    by_label_id = Labels(names, label_id_table(), f"the label ids 0 to {LABEL_IDS - 1}, and 255 for ignored")
    samples = []
    for image in images:
        name = image.name.removesuffix(IMAGE_SUFFIX)
        annotations = root / "gtFine" / split / image.parent.name
        label, labels = annotations / f"{name}_gtFine_labelTrainIds.png", by_train_id
        if not label.is_file():
            label, labels = annotations / f"{name}_gtFine_labelIds.png", by_label_id
        check_pairs([(image, label)], LAYOUT)
        samples.append(sample(name, image, label, labels))
    return tuple(samples)


CITYSCAPES = DatasetSource("cityscapes", "Cityscapes, 19 classes", LAYOUT, open_cityscapes)
