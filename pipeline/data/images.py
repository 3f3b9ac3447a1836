"""Finds image and label files, reads lists of them, and says what is wrong with files that cannot be used."""

from __future__ import annotations

import functools
import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.core.dataset import IGNORE, Sample
from pipeline.core.errors import DataError
from pipeline.core.files import read_regular
from pipeline.core.printable import well_formed
from pipeline.data.decode import read_image
from pipeline.data.labels import Labels

MOST_LIST_BYTES = 16 << 20
"""Of a list of classes or images: a million names of 16 characters."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


def identity_table(classes: int, *ignored: int) -> tuple[int, ...]:
    """Train id of each of 256 ids: 0 … classes−1 unchanged, IGNORE for ``ignored``, −1 (an error) for the others."""
    table = [i if i < classes else -1 for i in range(256)]
    for value in ignored:
        table[value] = IGNORE
    return tuple(table)


def sample(name: str, image: Path, label: Path, labels: Labels) -> Sample:
    """A sample that reads its two files when asked."""
    return Sample(
        name=well_formed(name),
        image=functools.partial(read_image, image),
        label=functools.partial(labels.read, label, image),
        files=(image, label),
    )


def dataset_root(folder: str, layout: str) -> Path:
    """The user's folder, with ~ expanded; raises DataError if it does not exist."""
    root = Path(os.path.expanduser(folder))
    if not root.is_dir():
        raise DataError(f"dataset folder {root} does not exist: give one that holds {layout}.")
    return root


def list_images(folder: Path, layout: str) -> list[Path]:
    """The image files of ``folder``, sorted; raises DataError if it is missing, has none, or has two of one stem."""
    if not folder.is_dir():
        raise DataError(f"folder {folder} does not exist: expected {layout}.")
    images = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise DataError(f"folder {folder} holds no image ({', '.join(IMAGE_SUFFIXES)}): expected {layout}.")
    check_unique(images)
    return images


def check_unique(images: Iterable[Path]) -> None:
    """Raises DataError for two images of one stem, which names the sample and its label file."""
    seen: dict[str, Path] = {}
    for image in images:
        if seen.setdefault(image.stem, image) is not image:
            raise DataError(f"images {seen[image.stem]} and {image} have one name: rename or remove one of them.")


def read_list(path: Path, what: str, layout: str, comment: str = "") -> list[str]:
    """The lines of a UTF-8 text file, stripped, without blank ones; raises DataError for duplicates or no lines.

    ``what``: what the file is, for messages. ``comment``: what the lines begin with that do not count; '' for none.
    """
    try:
        lines = [line.strip() for line in read_regular(path, MOST_LIST_BYTES).decode("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{what} {path} cannot be read ({reason}): expected {layout}.") from None
    lines = [line for line in lines if line and not (comment and line.startswith(comment))]
    if not lines:
        raise DataError(f"{what} {path} is empty: expected {layout}.")
    if len(set(lines)) < len(lines):
        duplicate = Counter(lines).most_common(1)[0][0]
        raise DataError(f"{what} {path} lists {duplicate!r} twice: remove one of them.")
    return lines


def palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """The PASCAL VOC colour map: bits 3k, 3k+1, 3k+2 of an id are bit 7−k of its red, green and blue."""
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
    """Raises DataError for the first image whose label file is missing."""
    for image, label in pairs:
        if not label.is_file():
            if os.path.lexists(label):
                raise DataError(f"label {label} is not a file: replace it or remove image {image}.")
            if (there := _in_place_of(label)) is not None:
                raise DataError(f"image {image} has no label {label}, but there is {there}.")
            raise DataError(f"image {image} has no label {label}: add it or remove the image; expected {layout}.")


def _in_place_of(label: Path) -> str | None:
    """A file of the missing label's name with another suffix, and what to do with it; None where there is none."""
    there = sorted(label.parent.glob(f"{glob.escape(label.stem)}.*"))
    if not there:
        return None
    suffix = there[0].suffix.lower()
    if suffix in (".jpg", ".jpeg"):
        return f"{there[0]}: a JPEG changes the values, so save the labels as PNG, from their source"
    return f"{there[0]}: {'rename it' if suffix == label.suffix else 'save the labels as PNG'}"
