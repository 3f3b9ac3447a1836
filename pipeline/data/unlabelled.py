"""Photos without labels, to calibrate or train on: the images of any folder, except masks."""

from __future__ import annotations

import functools
import os
from collections.abc import Container, Iterable
from pathlib import Path

import numpy as np

from pipeline.core.dataset import IGNORE, Sample
from pipeline.core.errors import DataError
from pipeline.core.printable import well_formed
from pipeline.core.say import Say, quiet
from pipeline.data import dataset_in, source_of
from pipeline.data.decode import ONE_CHANNEL, displayed_size, open_image, read_image
from pipeline.data.images import IMAGE_SUFFIXES, dataset_root

LABEL_FOLDERS = (
    "masks",
    "mask",
    "labels",
    "label",
    "annotations",
    "annotation",
    "annot",
    "gtfine",
    "gtcoarse",
    "gt",
    "groundtruth",
    "ground_truth",
    "segmentationclass",
    "segmentationobject",
    "segmentationclassaug",
)
LABEL_ENDINGS = ("_mask", "_masks", "_label", "_labels", "_gt", "_seg", "ids", "_color", "_annot")
FEWEST_COLOURS = 16
"""A picture with 2 to this many colours was drawn, not photographed."""


def unlabelled(folder: str, say: Say, skipped: Container[str] = ()) -> tuple[Sample, ...]:
    """The images of a folder and its subfolders, as samples in which every pixel is IGNORE.

    If the folder is a dataset of a known layout, its training images. Label files are left out, with a note.
    ``skipped``: names of images that are left out because they cannot be used. Raises DataError.
    """
    root = dataset_root(folder, "images")
    if (samples := _of_dataset(folder, say)) is not None:
        return tuple(sample for sample in samples if sample.name not in skipped)
    files = [path for path in _image_files(root) if _name(path, root) not in skipped]
    labels = _labels_among(root, files)
    photos = [path for path in files if path not in labels]
    if not photos:
        only = f", only {len(labels)} files that look like labels, such as {min(labels)}" if labels else ""
        raise DataError(
            f"folder {root} and its subfolders hold no image ({', '.join(IMAGE_SUFFIXES)}){only}: give a folder"
            " with photos."
        )
    if labels:
        say(f"note: {len(labels)} files below {root} look like labels and are left out, such as {min(labels)}")
    return tuple(
        Sample(_name(path, root), functools.partial(_photo, path), functools.partial(_ignored_label, path), (path,))
        for path in photos
    )


def folder_key(folder: str) -> str:
    """What the folder is called among the splits of a run's record."""
    return f"images of {well_formed(os.path.abspath(os.path.expanduser(folder)))}"


def photos_below(folder: str) -> tuple[Sample, ...]:
    """Every image file that ``unlabelled`` looks at, labels included, not opened yet."""
    root = dataset_root(folder, "images")
    if (samples := _of_dataset(folder, quiet)) is not None:
        return samples
    return tuple(
        Sample(_name(path, root), functools.partial(read_image, path), functools.partial(_ignored_label, path), (path,))
        for path in _image_files(root)
    )


def _image_files(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))


def _name(path: Path, root: Path) -> str:
    return well_formed(str(path.relative_to(root)))


def _of_dataset(folder: str, say: Say) -> tuple[Sample, ...] | None:
    if (dataset := dataset_in(folder)) is None:
        return None
    samples = dataset.splits["train"]
    title = source_of(dataset.text).title
    say(f"note: {folder} is a whole dataset ({title}): its {len(samples)} training images are used")
    return tuple(Sample(s.name, s.image, functools.partial(_ignored_label_of, s), s.files[:1]) for s in samples)


def _labels_among(root: Path, paths: Iterable[Path]) -> set[Path]:
    """The files that are labels by the name of a folder or their own, or because a colour picture has the same name."""
    named, colour, grey = set(), set(), []
    for path in paths:
        if in_label_folder(path, root) or path.stem.lower().endswith(LABEL_ENDINGS):
            named.add(path)
        else:
            with open_image(path, "image") as image:
                one_channel = image.mode in ONE_CHANNEL
            if one_channel:
                grey.append(path)
            else:
                colour.add(path.stem)
    return named | {path for path in grey if path.stem in colour}


def in_label_folder(path: Path, root: Path) -> bool:
    """Whether a folder below ``root`` that leads to the file is called as those of labels are."""
    folders = {part.lower() for part in path.relative_to(root).parts[:-1]}
    return any(part in LABEL_FOLDERS or part.endswith("annot") for part in folders)


def _photo(path: Path) -> np.ndarray:
    image = read_image(path)
    codes = image.reshape(-1, 3).astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    colours = len(np.unique(codes))
    if 2 <= colours <= FEWEST_COLOURS:
        raise DataError(
            f"image {path} has {colours} colours only and looks like a label: give a folder that holds only photos."
        )
    return image


def _ignored_label(path: Path) -> np.ndarray:
    with open_image(path, "image") as image:
        return np.full(displayed_size(image), IGNORE, np.uint8)


def _ignored_label_of(sample: Sample) -> np.ndarray:
    return np.full(sample.image().shape[:2], IGNORE, np.uint8)
