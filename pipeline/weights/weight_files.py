"""Recognises files of weights by their content, and opens those that Keras wrote."""

from __future__ import annotations

import contextlib
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import WeightsError
from pipeline.weights import layers as weights
from pipeline.weights.layers import Source

HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
INSIDE_KERAS = "model.weights.h5"
DAMAGED = (zipfile.BadZipFile, OSError, RuntimeError, EOFError, ValueError, OverflowError, zlib.error, lzma.LZMAError)
"""What Python's zipfile raises for broken archives, by the ways in which their files may be compressed."""
OPTIMIZER_TIMES, MARGIN_BYTES = 8, 64 << 20
"""A .keras file may hold the optimizer's state too, several times the weights' size; larger ones are refused."""


@contextlib.contextmanager
def open_weights(path: Path, size_bytes: int) -> Iterator[Source]:
    """The weights in an .h5, .weights.h5 or .keras file, recognised by its content.

    ``size_bytes``: of the network's weights. Raises WeightsError, which says what kind of file another one is.
    """
    with open(path, "rb") as file:
        head = file.read(16)
    if head.startswith(HDF5):
        with weights.hdf5_source(str(path), "it") as source:
            yield source
    elif head.startswith(ZIP):
        with weights.hdf5_source(io.BytesIO(_unpacked(path, size_bytes)), f"{INSIDE_KERAS} in it") as source:
            yield source
    else:
        raise WeightsError(f"it is {_kind(path, head)}")


def _unpacked(path: Path, size_bytes: int) -> bytes:
    """The weights inside a .keras file; neither its description of the layers nor anything else in it is read."""
    most = OPTIMIZER_TIMES * size_bytes + MARGIN_BYTES
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if INSIDE_KERAS not in names:
                raise WeightsError(f"it is {_archive(names)}")
            with archive.open(INSIDE_KERAS) as inside:
                data = inside.read(most + 1)
    except DAMAGED as error:
        raise WeightsError(f"it is a broken .keras file ({error})") from None
    if len(data) > most:
        raise WeightsError(
            f"its weights take more than {most >> 20} MiB, those of the network {size_bytes / (1 << 20):.1f} MiB"
        )
    return data


def _archive(names: list[str]) -> str:
    if any(name.endswith("data.pkl") for name in names):
        return "a PyTorch file"
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy .npz file"
    return f"a zip archive without {INSIDE_KERAS}, so not a .keras file"


def _kind(path: Path, head: bytes) -> str:
    if not head:
        return "empty"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model, whose weights have been folded and cannot be trained on"
    if path.name == "saved_model.pb":
        return "the graph of a SavedModel without its weights: give its folder"
    if head.startswith(b"\x93NUMPY"):
        return "a NumPy .npy file"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and len(head) > 1:
        return "a Python pickle, such as an old PyTorch file"
    by_suffix = {
        ".onnx": "an ONNX model",
        ".pt": "a PyTorch file",
        ".pth": "a PyTorch file",
        ".pb": "a frozen TensorFlow graph",
        ".safetensors": "a safetensors file",
        ".json": "a JSON file",
        ".ckpt": "a checkpoint of an unknown kind",
        ".h5": "a broken .h5 file: it does not begin as HDF5 files do",
        ".keras": "a broken .keras file: it does not begin as zip archives do",
    }
    return by_suffix.get(path.suffix.lower(), f"a file of an unknown kind (it begins with {head[:8]!r})")


def is_hdf5(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(HDF5)) == HDF5
