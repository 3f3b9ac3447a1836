"""Decodes image and label files to the pixels that people and annotation tools see, or says why it cannot."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.core.errors import DataError
from pipeline.core.files import open_regular

Colour = tuple[int, int, int]

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
"""The formats that Pillow may detect, whatever a file's name: none that starts another program. JPEG includes MPO."""
MOST_PIXELS = 89_478_485
"""A quarter of a GiB as RGB: Pillow's own limit against decompression bombs (Image.MAX_IMAGE_PIXELS)."""
# What Pillow objects to in a damaged or huge file, we say ourselves.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)
DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, RuntimeError,
    struct.error, zlib.error, MemoryError,
)  # fmt: skip
"""What Pillow raises for damaged files, as its readers of TIFF and EXIF trust tags. MemoryError: for sizes inside the
file that its header does not show."""
MOST_BYTES = 1 << 29
"""Of a file: more than an uncompressed picture of that many pixels takes."""
COUNTED_AT_ONCE = 1 << 20
CUT_OFF = "it is truncated or damaged"
PNG_SIGNATURE_BYTES, BMP_OFFSET_AT = 8, 10
LOSSY = ("JPEG", "MPO")
MOST_SCANS = 500
"""Of a progressive JPEG; encoders write about ten. Each takes a pass over all pixels, and may have a hundred bytes."""
JPEG_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
START, END, SCAN, ALONE = 0xD8, 0xD9, 0xDA, 0x01
"""Markers of a JPEG (ITU-T T.81, table B.1); behind all of them but START, END and ALONE the length of a segment."""
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
"""EXIF orientation → the turn that brings the stored pixels upright (EXIF 2.32, tag 0x0112)."""
AS_RGB = ("1", "L", "P", "RGB", "RGBX", "RGBA", "RGBa", "LA", "PA", "CMYK", "YCbCr", "LAB", "HSV")
"""Pillow's modes of 8 bits a channel. With alpha, the colours are used as stored."""
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
SIXTEEN_BIT_COLOUR = ";16"
"""In how a file stores its pixels: Pillow has no mode for colours of 16 bits, and takes the upper byte of each."""
FEWER_BITS = {"L;2": 0x55, "L;4": 0x11}
"""Pillow multiplies the values of a grey file of 2 or 4 bits by this factor (libImaging/Unpack.c)."""
ONE_CHANNEL = ("L", "P", "1", "I", *SIXTEEN_BITS)


@contextlib.contextmanager
def open_image(path: Path, what: str) -> Iterator[Image.Image]:
    """The file's image, its pixels not decoded yet; Pillow's errors while it is open become DataErrors.

    Opens regular files only, so that nothing blocks or never ends. ``what``: 'image' or 'label', for messages.
    """
    try:
        with open_regular(path, MOST_BYTES) as file, Image.open(file, formats=FORMATS) as image:
            _check_pixels(image.width * image.height, path, what)
            if image.format in LOSSY and image.info.get("progressive"):
                _check_scans(file)
            yield image
    except FileNotFoundError:
        raise DataError(f"{what} {path} does not exist: every image needs its label; add it or remove both.") from None
    except UnidentifiedImageError:
        kinds = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise DataError(f"{what} {path} cannot be decoded (it is no {kinds}): replace or remove it.") from None
    except Image.DecompressionBombError as error:
        _check_pixels(max(map(int, re.findall(r"\d+", str(error))), default=0), path, what)
        raise DataError(f"{what} {path} cannot be decoded ({error}): replace or remove it.") from None
    except DAMAGED as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or "not enough memory"
        raise DataError(f"{what} {path} cannot be decoded ({reason}): replace or remove it.") from None


def _check_pixels(pixels: int, path: Path, what: str) -> None:
    if pixels > MOST_PIXELS:
        raise DataError(
            f"{what} {path} has {pixels / 1e6:.0f} million pixels; allowed are {MOST_PIXELS / 1e6:.0f} million: scale"
            " it down or cut it into tiles."
        )


def _check_scans(file: BinaryIO) -> None:
    """Raises OSError for a progressive JPEG of so many scans that decoding it would take minutes."""
    at = file.tell()
    file.seek(0)
    data, place, scans = file.read(), 0, 0
    file.seek(at)
    while (marker := JPEG_MARKER.search(data, place)) is not None and marker[1][0] != END:
        place = marker.end()
        if marker[1][0] not in (START, ALONE):
            place += int.from_bytes(data[place : place + 2], "big")
        scans += marker[1][0] == SCAN
        if scans > MOST_SCANS:
            raise OSError(f"it has more than {MOST_SCANS} scans")


def orientation(image: Image.Image) -> int:
    """The camera's EXIF orientation, 1 (upright) to 8; 1 too if the EXIF data cannot be read.

    Always 1 for a TIFF: Pillow turns it upright when it decodes it, and reports the size that it then has.
    """
    if image.format == "TIFF":
        return 1
    try:
        stored = image.getexif().get(ORIENTATION, 1)
    except DAMAGED:
        return 1
    return stored if stored in TURNS else 1


def displayed_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) once the image is upright; no pixel is decoded, but a PNG is read to its end."""
    return (image.width, image.height) if orientation(image) >= 5 else (image.height, image.width)


def is_turned(path: Path) -> bool:
    """Whether the camera's EXIF orientation turns or mirrors the image at ``path``; raises DataError."""
    with open_image(path, "image") as image:
        return orientation(image) != 1


def upright(image: Image.Image) -> Image.Image:
    """The image as displayed."""
    turn = TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


@contextlib.contextmanager
def open_verified(path: Path, what: str) -> Iterator[Image.Image]:
    """As ``open_image``, after a check of what Pillow passes over: a PNG's checksums, and the end of PNG and BMP."""
    with open_image(path, what) as image:
        file: BinaryIO | None = getattr(image, "fp", None)
        if file is not None and image.format in ("PNG", "BMP"):
            at = file.tell()
            whole = _whole_png(file) if image.format == "PNG" else _whole_bmp(file, image)
            file.seek(at)
            if not whole:
                raise OSError(CUT_OFF)
        yield image


def _whole_png(file: BinaryIO) -> bool:
    """Whether each chunk is whole and has the checksum that it states, up to IEND (PNG, third edition, section 5.3)."""
    file.seek(PNG_SIGNATURE_BYTES)
    while len(head := file.read(8)) == 8:
        body, stated = file.read(int.from_bytes(head[:4], "big")), file.read(4)
        if len(stated) < 4 or zlib.crc32(body, zlib.crc32(head[4:])) != int.from_bytes(stated, "big"):
            return False
        if head[4:] == b"IEND":
            return True
    return False


def _whole_bmp(file: BinaryIO, image: Image.Image) -> bool:
    """Whether all rows are there, each filled up to 4 bytes; Pillow checks compressed ones."""
    file.seek(BMP_OFFSET_AT)
    if len(head := file.read(24)) < 24:  # OS/2's header is shorter, and so may be its picture
        return True
    offset, _, width, height, _, bits, compression = struct.unpack("<IIiiHHI", head)
    if compression != 0 or (width, abs(height)) != image.size:  # other headers: OS/2's
        return True
    return file.seek(0, os.SEEK_END) >= offset + abs(height) * (-(-width * bits // 32) * 4)


def read_image(path: Path) -> np.ndarray:
    """uint8 [h, w, 3] RGB, upright by the camera's EXIF orientation.

    Raises DataError, also for modes of more than 8 bits a channel: files of 16 bits mostly hold 10, 12 or 14, and do
    not say which values become black and white in the 8 bits that the camera gives the device.
    """
    with open_verified(path, "image") as image:
        if _is_deep(image):
            mode = image.mode if image.mode not in AS_RGB else _raw_mode(image)
            raise DataError(
                f"image {path} has mode {mode}, more than 8 bits a channel, and does not say which values are black"
                " and white: save it with 8 bits, scaled as your camera does it for the device (16 bits of full range:"
                " divide by 257)."
            )
        return np.asarray(upright(image).convert("RGB"))


def _is_deep(image: Image.Image) -> bool:
    """Whether the file, not decoded yet, holds more than 8 bits a channel."""
    return image.mode not in AS_RGB or SIXTEEN_BIT_COLOUR in _raw_mode(image)


def size_mismatch(path: Path, size: tuple[int, int]) -> str | None:
    """Says how the displayed size of the image at ``path`` differs from ``size`` (height, width); None if it does not.

    Raises DataError. Reads only the header if that is enough.
    """
    with open_image(path, "image") as image:
        stored = image.height, image.width
        exif_in_header = image.format != "PNG" or "exif" in image.info  # a PNG may have it after its pixels
        if size == stored and not exif_in_header:
            return None
        displayed = displayed_size(image)
    if size == displayed:
        return None
    sentence = f"its image is {displayed[0]}x{displayed[1]} (HEIGHTxWIDTH)"
    if displayed != stored:
        sentence += f", turned upright by its EXIF orientation (stored as {stored[0]}x{stored[1]})"
    return sentence


def check_headers(image_path: Path, label_path: Path) -> int:
    """Pixels of an image and its label, without decoding one; raises DataError for what their headers tell.

    Of a PNG or JPEG that does not end as one should, every pixel is decoded.
    """
    with open_image(image_path, "image") as image:
        size, deep = (image.height, image.width), _is_deep(image)
        _check_end(image)
    if deep:
        read_image(image_path)
    with open_image(label_path, "label") as label:
        label_size, lossy = (label.height, label.width), label.format in LOSSY
        _check_end(label)
    if lossy:
        read_mask(label_path)
    if sorted(size) != sorted(label_size):  # turned upright later
        (rows, columns), (height, width) = label_size, size
        raise DataError(
            f"label {label_path} is {rows}x{columns} but its image is {height}x{width} (HEIGHTxWIDTH): they must have"
            " one size."
        )
    return size[0] * size[1]


ENDS = {"PNG": b"\0\0\0\0IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}


def _check_end(image: Image.Image) -> None:
    """Decodes an image that may be cut off; raises OSError where it is."""
    file: BinaryIO | None = getattr(image, "fp", None)
    if file is None or (end := ENDS.get(image.format or "")) is None:
        return
    at = file.tell()
    file.seek(-len(end), os.SEEK_END)
    ends = file.read() == end
    whole = ends or image.format != "PNG" or _whole_png(file)
    file.seek(at)
    if not whole:
        raise OSError(CUT_OFF)
    if not ends:
        image.load()


@dataclasses.dataclass(frozen=True)
class Mask:
    """What a label file holds.

    Attributes:
      values: int [h, w]: ids, or for a colour picture 65536 · red + 256 · green + blue.
      colours: the palette's colour of each id that occurs; empty if the file has no palette.
      coded: whether ``values`` are colours.
    """

    values: np.ndarray
    colours: dict[int, Colour]
    coded: bool = False


def read_mask(path: Path) -> Mask:
    """Raises DataError for a file whose values are not reliable: lossy, inverted, with alpha, or not integers."""
    with open_verified(path, "label") as image:
        raw = _raw_mode(image)
        if image.format in LOSSY:
            raise DataError(f"label {path} is a JPEG, which changes values: save the labels as PNG, from their source.")
        if raw.endswith("I") and image.mode in ("L", "1"):
            raise DataError(f"label {path} is stored with white as 0: save it as a PNG of the ids.")
        if SIXTEEN_BIT_COLOUR in raw and image.mode not in ONE_CHANNEL:
            raise DataError(f"label {path} is a colour picture of 16 bits a channel: save it with 8.")
        if image.mode == "RGB":
            return Mask(_codes(np.asarray(upright(image))), {}, coded=True)
        if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
            return Mask(_codes(np.asarray(upright(image))), {}, coded=True)
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
    return Mask(values, _used_colours(values, entries) if entries else {})


def _codes(pixels: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3 or more] → int32 [h, w], 65536 · red + 256 · green + blue; in place: pictures are large."""
    codes = pixels[..., 0].astype(np.int32)
    for channel in (1, 2):
        codes <<= 8
        codes |= pixels[..., channel]
    return codes


def count_values(ids: np.ndarray) -> np.ndarray:
    """int64 [256]: how often each value of a uint8 array occurs; NumPy's bincount alone copies it as int64."""
    counts, flat = np.zeros(256, np.int64), ids.ravel()
    for start in range(0, flat.size, COUNTED_AT_ONCE):
        counts += np.bincount(flat[start : start + COUNTED_AT_ONCE], minlength=256)
    return counts


def _raw_mode(image: Image.Image) -> str:
    """How the file stores its pixels, such as 'L;4'; '' if Pillow does not say."""
    tile = next(iter(getattr(image, "tile", ())), None)
    arguments = tile.args if tile is not None else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments or "")


def _used_colours(ids: np.ndarray, entries: list[int]) -> dict[int, Colour]:
    """The colours of the ids that occur, from the palette's ``entries``: red, green and blue of each id in turn."""
    used = np.flatnonzero(count_values(ids)).tolist()
    colours = {i: entries[3 * i : 3 * i + 3] for i in used}
    return {i: (rgb[0], rgb[1], rgb[2]) for i, rgb in colours.items() if len(rgb) == 3}
