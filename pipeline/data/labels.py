"""Turns the values of a dataset's label files into train ids, and detects values that contradict each other."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.core.dataset import IGNORE
from pipeline.core.errors import DataError
from pipeline.data.decode import Colour, Mask, count_values, read_mask, size_mismatch

FOREGROUND = 255
"""The value with which many tools paint the object of a binary mask."""
ENOUGH = 50
"""After so many binary masks with a 255, the others are not searched for a 1."""
VOID = (224, 224, 192)
"""PASCAL VOC's colour of pixels that belong to no class."""
SHOWN = 12
"""Colours given of many."""


class Labels:
    """Reads the label files of one dataset, from any thread.

    Files must not contradict each other: palettes that give one index two colours, or 0 and 255 in one binary mask and
    0 and 1 in the next, are errors.
    """

    def __init__(
        self,
        classes: Sequence[str],
        table: Sequence[int],
        allowed: str,
        colours: Sequence[Colour | None] = (),
        binary: Sequence[Path] = (),
    ) -> None:
        """
        Args:
          table: train id of each id of a file; −1 marks an id that may not occur.
          allowed: the allowed ids, in words.
          colours: of each class, or None: in a colour picture, and in a palette.
          binary: all label files of a dataset with two classes, in which 255 may stand for the second class.
        """
        self.classes, self._allowed = tuple(classes), allowed
        self._table = np.full(256, -1, np.int16)
        self._table[: len(table)] = table
        self._colours = tuple(colours)
        self._class_of = {rgb: i for i, rgb in enumerate(colours) if rgb is not None}
        self._binary = tuple(binary)
        self._lock = threading.Lock()
        self._foreground: bool | None = None if binary else False
        self._palettes: dict[int, tuple[Colour, Path]] = {}
        self._doubtful: set[Path] = set()

    def read(self, path: Path, image_path: Path) -> np.ndarray:
        """uint8 [h, w] of train ids, IGNORE where a pixel has no class; raises DataError."""
        mask = read_mask(path)
        height, width = mask.values.shape
        if (reason := size_mismatch(image_path, (height, width))) is not None:
            raise DataError(f"label {path} is {height}x{width} but {reason}: they must have one size.")
        if mask.coded:
            return self._of_colours(mask, path)
        grey = all(rgb == (i, i, i) for i, rgb in mask.colours.items())
        if mask.colours and not grey and self._class_of:
            return self._by_palette(mask, path)[mask.values]
        if mask.colours and not grey:
            self._check_palettes(mask, path)
        ids = self._with_foreground(mask.values, path) if self._binary else mask.values
        label = self._table[ids]
        if label.min() < 0:
            bad = int(ids[label < 0][0])
            raise DataError(
                f"label {path} holds the value {bad}: allowed are {self._allowed}; correct the label or the classes."
            )
        return label.astype(np.uint8)

    def notes(self) -> tuple[str, ...]:
        """What the user should know about the labels read so far."""
        notes = []
        if self._foreground and len(self.classes) > 1:
            notes.append(f"the labels hold 0 and 255 only: 255 is read as 1, {self.classes[1]!r}")
        if self._doubtful:
            notes.append(
                f"{len(self._doubtful)} label(s), such as {min(self._doubtful)}, hold 0 and 255 but no 1, while others"
                f" hold a 1: 255 is ignored in all of them; if it stands for {self.classes[1]!r}, write 1 instead"
            )
        return tuple(notes)

    def _of_colours(self, mask: Mask, path: Path) -> np.ndarray:
        """uint8 [h, w] of train ids, from a colour picture: each pixel has the colour of its class."""
        if not self._class_of or None in self._colours:
            raise DataError(
                f"label {path} has mode RGB and {_colours_of(mask)}, and nothing says which class each is: a label has"
                " one channel (or a palette) whose value is the class, or, in a folder whose classes.txt gives every"
                " class its colour (`road 128 64 128`), those colours. Convert it, or write them there."
            )
        codes = {(red << 16) + (green << 8) + blue: i for (red, green, blue), i in self._class_of.items()}
        codes.setdefault((VOID[0] << 16) + (VOID[1] << 8) + VOID[2], IGNORE)
        label = np.full(mask.values.shape, -1, np.int16)
        for code, train_id in codes.items():
            label[mask.values == code] = train_id
        if label.min() < 0:
            code = int(mask.values[label < 0][0])
            raise DataError(
                f"label {path} holds the colour {(code >> 16, code >> 8 & 255, code & 255)}, which no class has; the"
                f" classes have {self._colours_in_words()}. Correct the label or the class list."
            )
        return label.astype(np.uint8)

    def _by_palette(self, mask: Mask, path: Path) -> np.ndarray:
        """uint8 [256]: the train id of each index of this file, by its colour in the palette."""
        train_ids = np.full(256, IGNORE, np.uint8)
        for index, rgb in mask.colours.items():
            by_index = int(self._table[index])
            if rgb in self._class_of:
                train_ids[index] = self._class_of[rgb]
                if by_index not in (-1, train_ids[index]):
                    raise DataError(self._contradiction(path, index, rgb, by_index))
            elif by_index == IGNORE or rgb == VOID:
                continue
            elif 0 <= by_index < len(self._colours) and self._colours[by_index] is None:
                train_ids[index] = by_index
            else:
                raise DataError(
                    f"label {path} paints index {index} in {rgb}, which is not the colour of a class; the classes have"
                    f" {self._colours_in_words()}. Correct the palette or the class list, or save the labels without a"
                    " palette: then the index is the class."
                )
        return train_ids

    def _contradiction(self, path: Path, index: int, rgb: Colour, by_index: int) -> str:
        """The message if index and colour disagree: either may be wrong, as tools may order a palette anew."""
        other = (
            "ignored" if by_index == IGNORE else f"{self.classes[by_index]!r} {self._colours[by_index] or ''}".strip()
        )
        painted = self.classes[self._class_of[rgb]]
        return (
            f"label {path} paints index {index} in {rgb}, the colour of {painted!r}, and index {index} is {other}:"
            " index and colour disagree. Save the labels as colour pictures (Pillow: convert('RGB')), and the colours"
            " decide, or without a palette (grey), and the index decides."
        )

    def _colours_in_words(self) -> str:
        shown = [f"{name} {rgb}" for name, rgb in zip(self.classes, self._colours, strict=True) if rgb is not None]
        return ", ".join(shown[:8]) + (", …" if len(shown) > 8 else "")

    def _check_palettes(self, mask: Mask, path: Path) -> None:
        """Raises DataError if the palettes of two files have different colours for one index."""
        with self._lock:
            for index, rgb in mask.colours.items():
                if self._table[index] == IGNORE:
                    continue
                first_rgb, first_path = self._palettes.setdefault(index, (rgb, path))
                if first_rgb != rgb:
                    raise DataError(
                        f"label {path} paints index {index} in {rgb}, and label {first_path} paints it in {first_rgb}:"
                        " one of them has other ids. Save all labels with one palette, or give the classes colours"
                        " in the class list: then the colours decide."
                    )

    def _with_foreground(self, ids: np.ndarray, path: Path) -> np.ndarray:
        """The ids, with 255 replaced by 1 if it stands for the second class in this dataset."""
        has_ones, has_foreground = bool((ids == 1).any()), bool((ids == FOREGROUND).any())
        if self._is_foreground():
            if has_ones:
                raise DataError(
                    f"label {path} holds the value 1, others of the set hold 0 and 255 only, which is read as 0 and 1:"
                    " write all labels in one way."
                )
            return np.where(ids == FOREGROUND, np.uint8(1), ids) if has_foreground else ids
        if has_foreground and not has_ones and (ids == 0).any():
            with self._lock:
                self._doubtful.add(path)
        return ids

    def _is_foreground(self) -> bool:
        with self._lock:
            if self._foreground is None:
                self._foreground = _no_ones(self._binary)
            return self._foreground


def _no_ones(paths: Sequence[Path]) -> bool:
    """Whether some file holds 255 and none a 1; after ENOUGH files with a 255 the others are not read."""
    marked = 0
    for path in paths:
        try:
            mask = read_mask(path)
        except DataError:
            continue  # reported when it is read as a label
        if mask.coded:
            continue
        values = count_values(mask.values)
        if values[1]:
            return False
        marked += bool(values[FOREGROUND])
        if marked >= ENOUGH:
            break
    return marked > 0


def _colours_of(mask: Mask) -> str:
    """The colours of a colour picture in words, the commonest first."""
    codes, counts = np.unique(mask.values, return_counts=True)
    commonest = [int(code) for code in codes[np.argsort(-counts, kind="stable")][:SHOWN]]
    shown = ", ".join(f"{code >> 16} {code >> 8 & 255} {code & 255}" for code in commonest)
    if len(codes) == 1:
        return f"one colour, {shown}"
    return f"{len(codes)} colours, {shown}" + (", …" if len(codes) > SHOWN else "")
