"""Reads image, label and list files, and says in one sentence what is wrong with those that cannot be used."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.nouns.dataset import IGNORE, Sample
from pipeline.nouns.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


@contextlib.contextmanager
def _opened(path: Path, what: str) -> Iterator[Image.Image]:
    """The file's image, its pixels not decoded yet; what Pillow raises while it is open becomes a DataError."""
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise DataError(f"{what} {path} does not exist: every image needs its label; add it or remove both.") from None
    # TypeError: Pillow's TIFF reader on damaged tags.
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise DataError(f"{what} {path} cannot be decoded ({error}): replace or remove it.") from None


def read_image(path: Path) -> np.ndarray:
    """uint8 [h, w, 3] RGB; raises DataError."""
    with _opened(path, "image") as image:
        return np.asarray(image.convert("RGB"))


def read_ids(path: Path) -> np.ndarray:
    """uint8 [h, w] label ids (palette images give their indices); raises DataError."""
    with _opened(path, "label") as image:
        if image.mode not in ("L", "P", "1", "I", "I;16"):
            raise DataError(
                f"label {path} has mode {image.mode}: a label image has one channel (or a palette) whose value is the"
                " class; convert it."
            )
        ids = np.asarray(image)
    if ids.dtype != np.uint8:
        if ids.min() < 0 or ids.max() > 255:
            raise DataError(f"label {path} holds values {ids.min()} to {ids.max()}: a class is 0 to 254, 255 ignored.")
        ids = ids.astype(np.uint8)
    return ids


def read_label(path: Path, image_path: Path, table: tuple[int, ...], known: str) -> np.ndarray:
    """uint8 [h, w] of train ids: ``table[id]`` for each id of the file, where −1 marks an id that may not occur.

    Raises DataError for an id out of range and for a size that is not the image's.
    """
    ids = read_ids(path)
    with _opened(image_path, "image") as image:
        size = image.size
    if (ids.shape[1], ids.shape[0]) != size:
        raise DataError(
            f"label {path} is {ids.shape[0]}x{ids.shape[1]} but its image is {size[1]}x{size[0]} (HEIGHTxWIDTH): they"
            " must have one size."
        )
    train_ids = np.full(256, -1, np.int16)
    train_ids[: len(table)] = table
    label = train_ids[ids]
    if label.min() < 0:
        bad = int(ids[label < 0][0])
        raise DataError(f"label {path} holds the value {bad}: allowed are {known}; correct the label or the classes.")
    return label.astype(np.uint8)


def identity_table(classes: int, *ignored: int) -> tuple[int, ...]:
    """Ids 0 … classes−1 are themselves, ``ignored`` become IGNORE, all others are errors."""
    table = [i if i < classes else -1 for i in range(256)]
    for value in ignored:
        table[value] = IGNORE
    return tuple(table)


def sample(name: str, image: Path, label: Path, table: tuple[int, ...], known: str) -> Sample:
    return Sample(
        name=name,
        image=functools.partial(read_image, image),
        label=functools.partial(read_label, label, image, table, known),
    )


def dataset_root(folder: str, layout: str) -> Path:
    """The folder that the user named, ~ expanded; raises DataError when there is none."""
    root = Path(os.path.expanduser(folder))
    if not root.is_dir():
        raise DataError(f"dataset folder {root} does not exist: give one that holds {layout}.")
    return root


def list_images(folder: Path, layout: str) -> list[Path]:
    """The image files of ``folder``, sorted; raises DataError when it is missing, holds none or two of one stem."""
    if not folder.is_dir():
        raise DataError(f"folder {folder} does not exist: expected {layout}.")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise DataError(f"folder {folder} holds no image ({', '.join(IMAGE_SUFFIXES)}): expected {layout}.")
    check_unique(found)
    return found


def check_unique(images: Iterable[Path]) -> None:
    """Raises DataError for two images of one stem: a sample is called by it and finds its label by it."""
    seen: dict[str, Path] = {}
    for image in images:
        if seen.setdefault(image.stem, image) is not image:
            raise DataError(f"images {seen[image.stem]} and {image} have one name: rename or remove one of them.")


def read_list(path: Path, what: str, layout: str) -> list[str]:
    """The lines of a UTF-8 text file, stripped, blank ones left out; raises DataError for none and for duplicates."""
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{what} {path} cannot be read ({error}): expected {layout}.") from None
    lines = [line for line in lines if line]
    if not lines:
        raise DataError(f"{what} {path} is empty: expected {layout}.")
    if len(set(lines)) < len(lines):
        twice = next(line for line in lines if lines.count(line) > 1)
        raise DataError(f"{what} {path} lists {twice!r} twice: remove one of them.")
    return lines


def palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """The PASCAL VOC colour map: bit k of the id's triples goes to bit 7−k of red, green and blue."""
    colours = []
    for index in range(count):
        colour, rest = [0, 0, 0], index
        for bit in range(7, -1, -1):
            for channel in range(3):
                colour[channel] |= ((rest >> channel) & 1) << bit
            rest >>= 3
        colours.append((colour[0], colour[1], colour[2]))
    return tuple(colours)


def check_pairs(pairs: Sequence[tuple[Path, Path]], layout: str) -> None:
    """Raises DataError naming the first image whose label file is missing."""
    for image, label in pairs:
        if not label.is_file():
            raise DataError(f"image {image} has no label {label}: add it or remove the image; expected {layout}.")


def unlabelled(folder: str) -> tuple[Sample, ...]:
    """The images of a folder, in all its folders below, as samples whose every pixel is IGNORE. Raises DataError."""
    root = dataset_root(folder, "images")
    found = sorted(p for p in root.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise DataError(f"folder {root} holds no image ({', '.join(IMAGE_SUFFIXES)}), nor does any below it.")
    return tuple(
        Sample(str(path.relative_to(root)), functools.partial(read_image, path), functools.partial(_nothing, path))
        for path in found
    )


def _nothing(path: Path) -> np.ndarray:
    with _opened(path, "image") as image:
        return np.full((image.height, image.width), IGNORE, np.uint8)
