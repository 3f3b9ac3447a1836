"""Decodes image and label files: pixels as people and annotation tools see them, or a sentence that says why not."""

from __future__ import annotations

import contextlib
import dataclasses
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.core.errors import DataError

Colour = tuple[int, int, int]

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
"""What Pillow may take a file for, whatever its name: no format that starts another program (EPS). JPEG brings MPO."""
MOST_PIXELS = 89_478_485
"""A quarter of a GiB as RGB, Pillow's own bound for a file that means no harm (Image.MAX_IMAGE_PIXELS)."""
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # refused, in a sentence
LOSSY = ("JPEG", "MPO")
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what brings the stored pixels upright (EXIF 2.32, tag 0x0112)."""
AS_RGB = ("1", "L", "P", "RGB", "RGBX", "RGBA", "RGBa", "LA", "PA", "CMYK", "YCbCr", "LAB", "HSV")
"""Pillow's modes of 8 bits a channel. Of those with alpha the colours are taken as they are stored."""
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
FEWER_BITS = {"L;2": 0x55, "L;4": 0x11}
"""Pillow spreads a grey file's 2 or 4 bits over 0 to 255, by this factor (libImaging/Unpack.c)."""
ONE_CHANNEL = ("L", "P", "1", "I", *SIXTEEN_BITS)


@contextlib.contextmanager
def opened(path: Path, what: str) -> Iterator[Image.Image]:
    """The file's image, its pixels not decoded yet; what Pillow raises while it is open becomes a DataError."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{what} {path} is not a file: replace or remove it.")
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise DataError(
                    f"{what} {path} has {image.width * image.height / 1e6:.0f} million pixels; allowed are"
                    f" {MOST_PIXELS / 1e6:.0f} million: make it smaller or cut it into tiles."
                )
            yield image
    except FileNotFoundError:
        raise DataError(f"{what} {path} does not exist: every image needs its label; add it or remove both.") from None
    # TypeError: Pillow's TIFF reader on damaged tags.
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise DataError(f"{what} {path} cannot be decoded ({error}): replace or remove it.") from None


def orientation(image: Image.Image) -> int:
    """The camera's EXIF orientation, 1 (upright) to 8; EXIF data that cannot be read count as none.

    Of a TIFF always 1: Pillow brings it upright as it decodes it, and tells the size that it then has.
    """
    if image.format == "TIFF":
        return 1
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError):
        return 1
    return found if found in TURNS else 1


def upright(image: Image.Image) -> Image.Image:
    turn = TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


@contextlib.contextmanager
def whole(path: Path, what: str) -> Iterator[Image.Image]:
    """As ``opened``; a PNG's checksums, which decoding does not look at, are compared first."""
    with opened(path, what) as image:
        if image.format == "PNG":
            with Image.open(path, formats=FORMATS) as other:
                other.verify()
        yield image


def read_image(path: Path) -> np.ndarray:
    """uint8 [h, w, 3] RGB, upright by the camera's EXIF orientation.

    Raises DataError, also for modes of more than 8 bits a channel: files of 16 bits mostly hold 10, 12 or 14, and which
    of them the camera makes black and white of the 8 bits that the device sees is not in the file.
    """
    with whole(path, "image") as image:
        if image.mode not in AS_RGB:
            raise DataError(
                f"image {path} has mode {image.mode}, more than 8 bits a pixel, and does not say which values are black"
                " and white: save it with 8 bits, scaled as your camera does it for the device (16 bits of full range:"
                " divide by 257)."
            )
        return np.asarray(upright(image).convert("RGB"))


def matches_in_size(path: Path, size: tuple[int, int]) -> str | None:
    """Why ``size`` (height, width) is not that of the image at ``path``, upright; None where it is.

    Raises DataError. Reads no more than the header where that is enough.
    """
    with opened(path, "image") as image:
        stored = image.height, image.width
        early = image.format != "PNG" or "exif" in image.info  # a PNG may have it behind its pixels
        turned = (early or size != stored) and orientation(image) >= 5
        displayed = stored[::-1] if turned else stored
    if size == displayed:
        return None
    words = f"its image is {displayed[0]}x{displayed[1]} (HEIGHTxWIDTH)"
    if turned:
        words += f", turned upright by the EXIF orientation that it is stored with ({stored[0]}x{stored[1]})"
    return words


@dataclasses.dataclass(frozen=True)
class Mask:
    """What a label file holds.

    Attributes:
      values: int [h, w]: ids, or for a colour picture 65536 · red + 256 · green + blue.
      colours: of each id that occurs, where the file has a palette.
      coded: whether ``values`` are colours.
    """

    values: np.ndarray
    colours: dict[int, Colour]
    coded: bool = False


def read_mask(path: Path) -> Mask:
    """Raises DataError for a file whose values are not sure: lossy, inverted, with alpha, or no whole numbers."""
    with whole(path, "label") as image:
        raw = _raw_mode(image)
        if image.format in LOSSY:
            raise DataError(f"label {path} is a JPEG, which changes values: save the labels as PNG, from their source.")
        if raw.endswith("I") and image.mode in ("L", "1"):
            raise DataError(f"label {path} is stored with white as 0: save it as a PNG of the ids.")
        if image.mode == "RGB":
            pixels = np.asarray(upright(image)).astype(np.int32)
            return Mask(pixels @ np.array([1 << 16, 1 << 8, 1], np.int32), {}, coded=True)
        if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
            pixels = np.asarray(upright(image))[..., :3].astype(np.int32)
            return Mask(pixels @ np.array([1 << 16, 1 << 8, 1], np.int32), {}, coded=True)
        if image.mode not in ONE_CHANNEL:
            raise DataError(
                f"label {path} has mode {image.mode}: a label image has one channel (or a palette) whose value is the"
                " class; convert it."
            )
        image = upright(image)
        values = np.asarray(image)
        entries = image.getpalette() if image.mode == "P" else None
    if values.dtype != np.uint8:
        if values.min() < 0 or values.max() > 255:
            raise DataError(
                f"label {path} holds values {values.min()} to {values.max()}: a class is 0 to 254, 255 ignored."
            )
        values = values.astype(np.uint8)
    values = values // np.uint8(FEWER_BITS.get(raw, 1))
    return Mask(values, _used(values, entries) if entries else {})


def _raw_mode(image: Image.Image) -> str:
    """How the file stores its pixels, such as 'L;4'; '' where Pillow does not tell."""
    tile = next(iter(getattr(image, "tile", ())), None)
    arguments = tile.args if tile is not None else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments or "")


def _used(ids: np.ndarray, entries: list[int]) -> dict[int, Colour]:
    used = np.flatnonzero(np.bincount(ids.ravel(), minlength=256)).tolist()
    found = {i: entries[3 * i : 3 * i + 3] for i in used}
    return {i: (rgb[0], rgb[1], rgb[2]) for i, rgb in found.items() if len(rgb) == 3}
