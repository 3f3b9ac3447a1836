"""One file of named arrays, in the safetensors format, with a digest: it is read whole and right, or refused.

The layout is that of https://huggingface.co/docs/safetensors: the header's length (8 bytes, little-endian), the header
(JSON: of each array its dtype, its shape and where its bytes begin and end), the bytes. The header's metadata holds the
kind of file and the sha256 of the rest. No code, no path and no pickle is in it, and nothing is allocated that the
reader did not expect.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import WeightsError
from pipeline.core.files import open_regular
from pipeline.core.json_file import parse

DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
"""NumPy's name → that of safetensors."""
METADATA = "__metadata__"
HEADER_BYTES_EACH, HEADER_BYTES = 512, 1 << 16
"""A header has at most so many bytes for each array, and besides."""


@dataclasses.dataclass(frozen=True)
class Expected:
    """The shape and the dtype (NumPy's name) of an array."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def to_pieces(arrays: Mapping[str, np.ndarray], kind: str) -> list[bytes | memoryview]:
    """The pieces of the file, to be written one after the other; arrays are not copied.

    ``kind``: what the arrays are, and the version of their names: read again only where it is asked for.
    """
    entries, pieces, at = {}, [], 0
    for name, array in arrays.items():
        contiguous = np.ascontiguousarray(array)
        end = at + contiguous.nbytes
        entries[name] = {"dtype": DTYPES[array.dtype.name], "shape": list(array.shape), "data_offsets": [at, end]}
        pieces.append(contiguous.reshape(-1).view(np.uint8).data)
        at = end
    digest = _digest(entries, kind, pieces)
    header = json.dumps({METADATA: {"kind": kind, "sha256": digest}, **entries}).encode()
    header += b" " * (-len(header) % 8)
    return [struct.pack("<Q", len(header)), header, *pieces]


def read(path: Path, expected: Mapping[str, Expected], kind: str) -> dict[str, np.ndarray]:
    """The arrays, which are those of ``expected`` and no others.

    Raises WeightsError, whose message has no full stop: ``AnotherKind`` for a whole file of other arrays, else for one
    that is incomplete or changed. OSError where it cannot be read.
    """
    size_bytes = sum(each.size_bytes for each in expected.values())
    most = size_bytes + HEADER_BYTES + HEADER_BYTES_EACH * len(expected)
    with open_regular(path, sys.maxsize) as file:
        data = memoryview(file.read(8 + most + 1))
    if len(data) > 8 + most:
        raise AnotherKind(f"it is larger than the {most >> 20} MiB that it could have")
    if len(data) < 8:
        raise WeightsError("it is incomplete")
    (length,) = struct.unpack_from("<Q", data)
    if length > len(data) - 8:
        raise WeightsError("it is incomplete")
    entries, digest, found = _header(bytes(data[8 : 8 + length]))
    body = data[8 + length :]
    if digest != _digest(entries, found, [body]):
        raise WeightsError("its digest is not that of its content: it is incomplete or was changed")
    if found != kind:
        raise AnotherKind(f"it is of the kind {found!r}, not {kind!r}")
    return _arrays(entries, expected, body)


class AnotherKind(WeightsError):
    """The file is whole, but holds something else."""


def _header(text: bytes) -> tuple[dict[str, Any], str, str]:
    """(entries by name, digest, kind)"""
    try:
        entries = parse(text)
        metadata = entries.pop(METADATA)
        digest, kind = metadata["sha256"], metadata["kind"]
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest) or not isinstance(kind, str):
            raise TypeError
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise WeightsError("its header is broken") from None
    return entries, digest, kind


def _arrays(entries: dict[str, Any], expected: Mapping[str, Expected], body: memoryview) -> dict[str, np.ndarray]:
    for name in (*expected, *entries):
        if name not in entries or name not in expected:
            raise AnotherKind(f"it {'holds' if name in entries else 'lacks'} {name}")
    arrays, at = {}, 0
    for name, each in expected.items():
        end = at + each.size_bytes
        written = {"dtype": DTYPES[each.dtype], "shape": list(each.shape), "data_offsets": [at, end]}
        if entries[name] != written or end > len(body):
            raise AnotherKind(f"{name} in it has the form {entries[name]}, and not {written}")
        arrays[name] = np.ndarray(each.shape, each.dtype, body, at)
        at = end
    if at != len(body):
        raise AnotherKind(f"it holds {len(body)} bytes of arrays, and not {at}")
    return arrays


def _digest(entries: dict[str, Any], kind: str, pieces: list[Any]) -> str:
    digest = hashlib.sha256(json.dumps([kind, entries]).encode())
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
