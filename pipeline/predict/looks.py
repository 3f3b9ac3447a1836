"""Which pictures `predict` writes, and how they look."""

from __future__ import annotations

import dataclasses
import io
from typing import Literal, get_args

import numpy as np
from PIL import Image

from pipeline.core.errors import BadSpec, DataError
from pipeline.predict.segmenter import Segmenter
from pipeline.report import pictures

Kind = Literal["overlay", "mask", "side", "errors"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SUFFIX = {"overlay": ".jpg", "mask": ".png", "side": ".jpg", "errors": ".jpg"}
JPEG_QUALITY = 90
JPEG_PIXELS = 65_500
"""libjpeg's JPEG_MAX_DIMENSION."""


@dataclasses.dataclass(frozen=True)
class Looks:
    """What to draw.

    Attributes:
      kinds: which pictures; None: overlay and mask, and errors where there are labels.
      opacity: of the classes' colours over the image, 0 to 1.
    """

    kinds: tuple[Kind, ...] | None = None
    opacity: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise BadSpec(f"opacity {self.opacity} is not from 0 (the image alone) to 1 (the colours alone).")

    def of(self, labelled: bool) -> tuple[Kind, ...]:
        """Raises BadSpec where errors are asked for and nothing is labelled."""
        if self.kinds is None:
            return ("overlay", "mask", "errors") if labelled else ("overlay", "mask")
        if "errors" in self.kinds and not labelled:
            raise BadSpec("errors are shown where there are labels: name a dataset, such as folder:DIR or camvid:DIR.")
        return self.kinds


def kinds_of(text: str) -> tuple[Kind, ...]:
    """'mask,side' → ('mask', 'side'); raises BadSpec."""
    named = dict.fromkeys(part.strip() for part in text.split(","))
    if unknown := [name for name in named if name not in KINDS]:
        raise BadSpec(f"there is no picture {unknown[0]!r}: choose some of {', '.join(KINDS)}, with commas between.")
    return tuple(kind for kind in KINDS if kind in named)


def draw(
    kind: Kind, image: np.ndarray, mask: np.ndarray, label: np.ndarray | None, network: Segmenter, looks: Looks
) -> Image.Image:
    """One picture of the image's size; 'side' is of several of them, titled, with the legend."""
    if kind == "mask":
        return pictures.indexed(mask, network.colours)
    predicted = pictures.overlay(image, mask, network.colours, looks.opacity)
    if kind == "overlay":
        return Image.fromarray(predicted)
    if kind == "errors":
        assert label is not None  # Looks.of has seen to it
        return Image.fromarray(pictures.errors(image, mask, label))
    titled = [("image", image)]
    legend = list(network.legend)
    if label is not None:
        titled.append(("label", pictures.overlay(image, label, network.colours, looks.opacity)))
    titled.append(("prediction", predicted))
    if label is not None:
        titled.append(("errors", pictures.errors(image, mask, label)))
        legend += [("wrong", pictures.WRONG), ("without a label", pictures.UNLABELLED)]
    return pictures.side_by_side(titled, legend)


def encoded(kind: Kind, picture: Image.Image) -> bytes:
    """The file of a picture; raises DataError for one that is too large for a JPEG."""
    file = io.BytesIO()
    if SUFFIX[kind] == ".jpg":
        if max(picture.size) > JPEG_PIXELS:
            raise DataError(
                f"the picture {kind!r} would have {picture.width}x{picture.height} pixels, and a JPEG has at most"
                f" {JPEG_PIXELS} along a side: scale the image down, or take --write mask."
            )
        picture.save(file, "JPEG", quality=JPEG_QUALITY)
    else:
        picture.save(file, "PNG", compress_level=3)
    return file.getvalue()
