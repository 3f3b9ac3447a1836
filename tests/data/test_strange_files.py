"""Files that are not what their names promise: refused in a sentence, at once, and nothing is made up."""

from __future__ import annotations

import os
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.core.errors import DataError
from pipeline.core.files import open_regular
from pipeline.core.printable import well_formed
from pipeline.data import decode
from pipeline.data.class_list import read_classes
from pipeline.data.decode import read_image, read_mask
from tests.support.small_datasets import make_folder, opened

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8))
FORMATS: dict[str, dict[str, Any]] = {
    "png": {},
    "jpg": {"quality": 90},
    "bmp": {},
    "webp": {"lossless": True},
    "tif": {"compression": "tiff_lzw"},
}


@pytest.mark.parametrize("missing", [1, 3, 13])
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_lost_its_end_is_not_filled_up(suffix: str, missing: int, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    PICTURE.save(path, **FORMATS[suffix])
    assert read_image(path).shape == (30, 41, 3)
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(DataError, match="cannot be decoded"):
        read_image(path)
    if suffix == "png":
        with pytest.raises(DataError, match="truncated"):
            read_mask(path)


@pytest.mark.parametrize("exif", [b"II*\0", b"II*\0\x08\0", b"MM\0*\0\0\0\x08\0\x01\x01\x12"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_exif_data_that_are_cut_off_turn_nothing(suffix: str, exif: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    PICTURE.save(path, exif=b"Exif\0\0" + exif)
    assert read_image(path).shape == (30, 41, 3)
    assert decode.size_mismatch(path, (30, 41)) is None and not decode.is_turned(path)


def as_fifo(path: Path) -> None:
    os.mkfifo(path)


def as_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))  # an absolute path may be too long for a socket


def as_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def as_loop(path: Path) -> None:
    path.symlink_to(path.name)


def as_too_large(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # sparse: it takes no room


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [as_fifo, as_socket, as_device, as_loop, as_too_large, Path.mkdir])
def test_what_is_no_file_is_neither_waited_for_nor_read(make, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.png"
    make(path)
    for read in (read_image, read_mask, read_classes):
        with pytest.raises(DataError, match=r"not a file|symbolic links|MiB; allowed are"):
            read(path)


def test_a_fifo_that_takes_a_files_place_is_not_waited_for(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.png"
    os.mkfifo(path)
    regular = os.stat(__file__)
    monkeypatch.setattr(Path, "stat", lambda self, **how: regular)
    with pytest.raises(OSError, match="not a file"):
        open_regular(path, 100)


def test_a_picture_that_is_too_large_is_refused_by_its_header(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.png"
    PICTURE.save(path)
    monkeypatch.setattr(decode, "MOST_PIXELS", 30 * 41 - 1)
    with pytest.raises(DataError, match="million pixels; allowed are"):
        read_image(path)
    claims = bytearray(path.read_bytes())
    claims[16:24] = struct.pack(">II", 40_000, 40_000)
    claims[29:33] = struct.pack(">I", zlib.crc32(claims[12:29]))
    path.write_bytes(bytes(claims))
    with pytest.raises(DataError, match="1600 million pixels; allowed are"):
        read_image(path)


def test_colour_codes_are_exact_and_values_are_counted_in_parts(monkeypatch) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (9, 11, 4), np.uint8)
    expected = [[(int(r) << 16) + (int(g) << 8) + int(b) for r, g, b, _ in row] for row in pixels]
    assert decode._codes(pixels).tolist() == expected
    monkeypatch.setattr(decode, "COUNTED_AT_ONCE", 7)
    assert (decode.count_values(pixels) == np.bincount(pixels.ravel(), minlength=256)).all()


def test_a_name_that_is_no_text_is_shown_and_works(tmp_path: Path) -> None:
    make_folder(tmp_path)
    for kind, suffix in (("images", b".png"), ("masks", b".png")):
        folder = os.fsencode(tmp_path / "train" / kind)
        os.rename(folder + b"/a.png", folder + b"/\xff\xfe" + suffix)
    samples = {sample.name: sample for sample in opened("folder", tmp_path).splits["train"]}
    strange = samples[r"\udcff\udcfe"]
    assert strange.image().shape[:2] == strange.label().shape
    Path(os.fsdecode(os.fsencode(tmp_path / "train/masks") + b"/\xff\xfe.png")).write_bytes(b"no picture")
    with pytest.raises(DataError) as error:
        strange.label()
    error.value.message.encode()
    assert r"\udcff\udcfe.png" in error.value.message
    assert well_formed("ä\x1b") == "ä\x1b"


@pytest.mark.timeout(20)
def test_a_line_without_end_is_no_class_and_a_million_are_too_many(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("".join(f"c{i}\n" for i in range(1_000_000)))
    with pytest.raises(DataError, match=r"1000000 class\(es\): a dataset has 2 to 255"):
        read_classes(path)
    path.write_text("road\n" + "a " * 2000)
    with pytest.raises(DataError, match="a line of 3999 characters"):
        read_classes(path)


def test_a_jpeg_of_a_thousand_scans_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch) -> None:
    """Each takes a pass over all pixels and 20 bytes: a megabyte of them would take minutes."""
    path = tmp_path / "scans.jpg"
    Image.new("L", (64, 64), 128).save(path, progressive=True)
    whole = path.read_bytes()
    scans = [place for place in range(len(whole)) if whole[place : place + 2] == b"\xff\xda"]
    assert len(scans) == 6 and read_image(path).shape == (64, 64, 3)
    extra = whole[scans[2] : scans[3]]  # with its Huffman table
    for count, comment in ((decode.MOST_SCANS - 6, b""), (1000, b""), (1000, b"\xff\x01\xff\xfe\0\4\xff\xd9")):
        path.write_bytes(whole[: scans[1]] + comment + extra * count + whole[scans[1] :])
        if count < decode.MOST_SCANS:
            assert (read_image(path) == 128).all()
            continue
        monkeypatch.setattr(Image.Image, "convert", None)  # no pixel is decoded
        with pytest.raises(DataError, match="it has more than 500 scans"):
            read_image(path)
