"""What one image and its label show, as far as a check of a dataset needs it."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
from PIL import Image

from pipeline.core.dataset import IGNORE

HASH_SIDE = 16
"""A difference hash of 16 rows of 16 bits (Krawetz, "Kind of Like That", 2013): alike for alike pictures."""
EDGE_SIDE = 512
"""The longest side at which edges are compared."""
REACH = 16
"""Pixels, at that size, by which masks are moved to look where they fit best."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """Of one image.

    Attributes:
      pixels: int64 [256]: how many pixels have each id; IGNORE's are unlabelled.
      border: the same of the outermost pixels.
      digest: of the decoded pixels; equal for equal pictures, whatever their files.
      hash256: uint64 [4], a difference hash; few bits differ between pictures that look alike.
      turned: whether the camera's EXIF orientation turned the image.
    """

    name: str
    height: int
    width: int
    pixels: np.ndarray
    border: np.ndarray
    digest: bytes
    hash256: np.ndarray
    turned: bool = False


def facts_of(name: str, image: np.ndarray, label: np.ndarray, turned: bool = False) -> Facts:
    """``image``: uint8 [h, w, 3]; ``label``: uint8 [h, w]."""
    rim = np.concatenate([label[0], label[-1], label[1:-1, 0], label[1:-1, -1]])
    return Facts(
        name,
        label.shape[0],
        label.shape[1],
        np.bincount(label.ravel(), minlength=256),
        np.bincount(rim, minlength=256),
        hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest(),
        difference_hash(image),
        turned,
    )


def difference_hash(image: np.ndarray) -> np.ndarray:
    """uint64 [4]: of each of 16x16 cells, whether it is brighter than its right neighbour."""
    small = Image.fromarray(image).convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)
    cells = np.asarray(small, np.int16)
    return np.packbits(cells[:, :-1] > cells[:, 1:]).view(np.uint64)


def edge_fits(image: np.ndarray, label: np.ndarray) -> np.ndarray:
    """float64 [3, 2 REACH + 1, 2 REACH + 1]: how much stronger the image's edges are than on average, in standard
    deviations, where the label's boundaries lie when the label is moved by (row − REACH, column − REACH) steps; first
    of the label as it is, then mirrored, then upside down.

    A step is as many pixels as bring the longest side to EDGE_SIDE. Zeros where the label has no boundary, or the image
    is too small to move it.
    """
    step, size = -(-max(label.shape) // EDGE_SIDE), 2 * REACH + 1
    if min(label.shape) < size * step:
        return np.zeros((3, size, size))
    strength = np.hypot(*np.gradient(np.asarray(Image.fromarray(image).convert("L").reduce(step), np.float64)))
    strength = (strength - strength.mean()) / (strength.std() or 1.0)
    spectrum = np.fft.rfft2(strength)
    turned = (label, label[:, ::-1], label[::-1])
    return np.stack([_edge_fit(spectrum, strength.shape, _boundaries(each, step)) for each in turned])


def _edge_fit(spectrum: np.ndarray, shape: tuple[int, ...], boundary: np.ndarray) -> np.ndarray:
    inner = np.zeros(shape)
    inner[REACH:-REACH, REACH:-REACH] = boundary[REACH:-REACH, REACH:-REACH]  # each is compared at every move
    moved = np.fft.irfft2(spectrum * np.conj(np.fft.rfft2(inner)), s=shape)
    around = np.roll(moved, (REACH, REACH), (0, 1))[: 2 * REACH + 1, : 2 * REACH + 1]
    return around / max(1.0, inner.sum())


def _boundaries(label: np.ndarray, step: int) -> np.ndarray:
    """float64, 1 where a cell of step x step pixels holds a change from one class to another."""
    labelled = label != IGNORE
    changes = np.zeros(label.shape, bool)
    changes[:, :-1] |= (label[:, :-1] != label[:, 1:]) & labelled[:, :-1] & labelled[:, 1:]
    changes[:-1] |= (label[:-1] != label[1:]) & labelled[:-1] & labelled[1:]
    rows, columns = (-(-side // step) for side in label.shape)
    padded = np.zeros((rows * step, columns * step), bool)
    padded[: label.shape[0], : label.shape[1]] = changes
    return padded.reshape(rows, step, columns, step).max((1, 3)).astype(np.float64)
