"""What becomes of each kind of picture that people have: the pixels that a viewer shows, or a sentence."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.core.errors import DataError
from pipeline.data.decode import check_headers, read_image, read_mask
from pipeline.data.decoded import Decoded
from pipeline.data.images import identity_table, sample
from pipeline.data.labels import Labels

H, W = 5, 7
RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (H, W, 3), np.uint8)
IDS = RNG.integers(0, 3, (H, W), np.uint8)
MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "I;16", "I;16B"]


def saved(path: Path, image: Image.Image, kind: str | None = None, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, kind, **options)
    return path


@pytest.mark.parametrize("mode", MODES)
def test_an_image_of_each_mode_is_right_or_refused(mode: str, tmp_path: Path) -> None:
    grey = Image.fromarray(COLOUR[..., 0])
    picture = {
        "RGBA": lambda: Image.fromarray(np.dstack([COLOUR, COLOUR[..., :1]])),
        "LA": lambda: Image.merge("LA", [grey, Image.fromarray(COLOUR[..., 1])]),
        "P": lambda: Image.fromarray(COLOUR).quantize(256),
        "I;16": lambda: Image.fromarray(COLOUR[..., 0].astype(np.uint16) * 257),
        "I;16B": lambda: Image.fromarray((COLOUR[..., 0].astype(np.uint16) * 257).astype(">u2")),
        "I": lambda: Image.fromarray(COLOUR[..., 0].astype(np.int32)),
        "F": lambda: Image.fromarray(COLOUR[..., 0].astype(np.float32)),
        "CMYK": lambda: Image.fromarray(np.dstack([255 - COLOUR, np.zeros((H, W), np.uint8)]), "CMYK"),
        "LAB": lambda: Image.merge("LAB", [grey, Image.new("L", (W, H), 128), Image.new("L", (W, H), 128)]),
        "YCbCr": lambda: Image.fromarray(COLOUR).convert("YCbCr"),
        "HSV": lambda: Image.fromarray(COLOUR).convert("HSV"),
        "1": lambda: grey.convert("1", dither=Image.Dither.NONE),
        "PA": lambda: Image.fromarray(COLOUR).quantize(256).convert("PA"),
    }.get(mode, lambda: Image.fromarray(COLOUR if mode == "RGB" else COLOUR[..., 0]))()
    if mode == "HSV":  # no allowed file format has it
        with pytest.raises(OSError, match="cannot write mode HSV"):
            saved(tmp_path / "a.tif", picture)
        return
    path = saved(tmp_path / ("a.png" if mode in ("I;16", "1", "P") else "a.tif"), picture)
    with Image.open(path) as stored:
        assert stored.mode == mode
    if mode in ("I", "F", "I;16", "I;16B"):
        with pytest.raises(DataError, match=f"mode {mode}, more than 8 bits.*save it with 8 bits"):
            read_image(path)
        return
    image = read_image(path)
    truth = {
        "L": np.repeat(COLOUR[..., :1], 3, -1),
        "LA": np.repeat(COLOUR[..., :1], 3, -1),
        "1": np.repeat(np.where(COLOUR[..., :1] > 127, 255, 0), 3, -1),
    }.get(mode, COLOUR)
    assert image.dtype == np.uint8 and image.shape == (H, W, 3)
    if mode == "LAB":  # no colour in it: a grey of rising lightness
        order = np.argsort(COLOUR[..., 0].ravel())
        assert (np.diff(image[..., 1].ravel()[order].astype(int)) >= 0).all() and np.ptp(image, -1).max() < 12
    else:
        assert np.abs(image.astype(int) - truth).max() <= (3 if mode == "YCbCr" else 0)


STORED = {  # what a camera stores that is held so: the picture's rows and columns, from EXIF 2.32's table of tag 0x0112
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[:, ::-1],
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_a_picture_is_seen_as_the_camera_was_held(orientation: int, suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = Image.fromarray(np.ascontiguousarray(STORED[orientation](COLOUR)))
    lossless: dict[str, Any] = {"lossless": True, "exact": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"a.{suffix}", turned, exif=exif, **lossless)
    assert (read_image(path) == COLOUR).all()
    mask = saved(tmp_path / "a_mask.png", Image.fromarray(IDS))
    labels = Labels("abc", identity_table(3, 255), "0 to 2")
    assert (labels.read(mask, path) == IDS).all()
    if orientation >= 5:
        saved(mask, Image.fromarray(np.ascontiguousarray(STORED[orientation](IDS))))
        why = "" if suffix == "tif" else r".*EXIF orientation.*stored as 7x5"
        with pytest.raises(DataError, match=f"7x5 but its image is 5x7{why}"):
            labels.read(mask, path)


def test_an_orientation_behind_the_pixels_and_a_broken_one(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.png", Image.fromarray(np.ascontiguousarray(STORED[6](COLOUR))))
    content = path.read_bytes()
    chunk = b"eXIf" + exif.tobytes()[6:]
    late = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(content[:-12] + late + content[-12:])
    assert (read_image(path) == COLOUR).all()
    mask = saved(tmp_path / "mask.png", Image.fromarray(IDS))
    labels = Labels("abc", identity_table(3, 255), "0 to 2")
    pair = Decoded([sample("a", path, mask, labels)])[0]
    assert (pair[0] == COLOUR).all() and (pair[1] == IDS).all()
    saved(mask, Image.fromarray(np.ascontiguousarray(STORED[6](IDS))))  # passes by the header alone
    with pytest.raises(DataError, match="a is 7x5 but its image is 5x7"):
        Decoded([sample("a", path, mask, labels)])[0]
    broken = saved(tmp_path / "b.jpg", Image.fromarray(COLOUR), exif=b"Exif\0\0garbage")
    assert read_image(broken).shape == COLOUR.shape


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_ids_of_few_bits_are_not_spread_over_grey(bits: int, tmp_path: Path) -> None:
    ids = (IDS > 0).astype(np.uint8) if bits == 1 else IDS
    path = saved(tmp_path / "m.png", Image.fromarray(ids), bits=bits)
    assert (read_mask(path).values == ids).all()


@pytest.mark.parametrize(
    ("image", "options", "words"),
    [
        (Image.fromarray(IDS * 100), {"format": "JPEG"}, "is a JPEG"),
        (Image.fromarray(IDS).convert("LA"), {}, "mode LA"),
        (Image.fromarray(IDS.astype(np.float32)), {"format": "TIFF"}, "mode F"),
        (Image.fromarray(IDS), {"format": "TIFF", "tiffinfo": {262: 0}}, "white as 0"),
        (Image.fromarray(IDS.astype(np.uint16) * 257), {}, "values 0 to 514"),
        (Image.fromarray(np.dstack([IDS] * 3 + [IDS])), {}, "mode RGBA"),
        (Image.fromarray(np.dstack([IDS] * 4), "CMYK"), {"format": "TIFF"}, "mode CMYK"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_labels_whose_values_are_not_sure_are_refused(image, options, words, tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    image.save(path, **({"format": "PNG"} | options))
    with pytest.raises(DataError, match=words):
        read_mask(path)


def png_of(height: int, width: int, bits: int, colour_type: int, rows: bytes) -> bytes:
    """By the PNG specification, as Pillow writes not all kinds."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colours_of_16_bits_are_refused_as_greys_are(colour_type: int, channels: int, tmp_path: Path) -> None:
    path, twelve_bits = tmp_path / "a.png", RNG.integers(0, 1 << 12, (H, W, channels)).astype(">u2")
    path.write_bytes(png_of(H, W, 16, colour_type, b"".join(b"\0" + row.tobytes() for row in twelve_bits)))
    for read in (read_image, lambda image: check_headers(image, path)):
        with pytest.raises(DataError, match="16.*more than 8 bits a channel"):
            read(path)
    with pytest.raises(DataError, match="16 bits a channel"):
        read_mask(path)


def test_the_smallest_bmp_of_os2_is_a_picture(tmp_path: Path) -> None:
    pixels = b"\3\2\1\0"
    sizes = struct.pack("<IHHI", 26 + len(pixels), 0, 0, 26) + struct.pack("<IHHHH", 12, 1, 1, 1, 24)
    (tmp_path / "a.bmp").write_bytes(b"BM" + sizes + pixels)
    assert read_image(tmp_path / "a.bmp").tolist() == [[[1, 2, 3]]]


def test_a_file_is_bounded_whole_and_of_a_known_format(tmp_path: Path) -> None:
    huge = tmp_path / "huge.png"
    huge.write_bytes(png_of(12000, 12000, 8, 2, b"\0" * 99))
    with pytest.raises(DataError, match="144 million pixels; allowed are 89 million"):
        read_image(huge)
    good = saved(tmp_path / "good.png", Image.fromarray(RNG.integers(0, 256, (50, 50, 3), np.uint8)))
    data = bytearray(good.read_bytes())
    data[data.index(b"IDAT") + 300] ^= 1
    good.write_bytes(bytes(data))
    with pytest.raises(DataError, match="cannot be decoded"):
        read_image(good)
    other = io.BytesIO()
    Image.fromarray(COLOUR).save(other, "GIF")
    (tmp_path / "gif.png").write_bytes(other.getvalue())
    with pytest.raises(DataError, match="cannot be decoded"):
        read_image(tmp_path / "gif.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match="is not a file"):
        read_image(tmp_path / "folder.png")
