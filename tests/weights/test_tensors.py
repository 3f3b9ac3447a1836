"""The file of named arrays: as the safetensors specification has it, and whole or refused."""

import json
import struct
from typing import Any

import numpy as np
import pytest

from pipeline.core.errors import WeightsError
from pipeline.weights.tensors import AnotherKind, Expected, read, to_pieces

ARRAYS: dict[str, Any] = {
    "step": np.array(7, np.int64),
    "a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "none": np.zeros((0, 4), np.float32),
    "flags": np.array([True, False, True]),
    "best": np.array(-1.5),
}
EXPECTED = {name: Expected(array.shape, array.dtype.name) for name, array in ARRAYS.items()}


def written(arrays=ARRAYS, kind="test 1"):
    return b"".join(to_pieces(arrays, kind))


def with_header(change):
    """The file with a changed header."""
    data = written()
    (length,) = struct.unpack_from("<Q", data)
    header = change(json.loads(data[8 : 8 + length]))
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def test_it_is_laid_out_as_safetensors(tmp_path):
    """By the specification: u64 length, JSON header, and offsets that follow each other to the end, without holes."""
    data = written()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0 and all(isinstance(value, str) for value in header.pop("__metadata__").values())
    body, at = data[8 + length :], 0
    dtypes = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "BOOL": np.bool_}
    for name, array in ARRAYS.items():
        begin, end = header[name]["data_offsets"]
        assert begin == at and header[name]["shape"] == list(array.shape)
        values = np.frombuffer(body[begin:end], dtypes[header[name]["dtype"]]) if end > begin else np.zeros(0)
        assert np.array_equal(values, array.ravel())
        at = end
    assert at == len(body)


def test_what_was_written_is_read(tmp_path):
    (tmp_path / "x").write_bytes(written())
    arrays = read(tmp_path / "x", EXPECTED, "test 1")
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
        assert np.array_equal(arrays[name], array)


def test_every_cut_and_every_changed_byte_is_seen(tmp_path):
    data = written()
    path = tmp_path / "x"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(WeightsError):
            read(path, EXPECTED, "test 1")
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        with pytest.raises(WeightsError):
            read(path, EXPECTED, "test 1")
    path.write_bytes(data + b"x")
    with pytest.raises(WeightsError):
        read(path, EXPECTED, "test 1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: b"[" * 50_000, "header is broken"),
        (lambda h: b"\xff\xfe", "header is broken"),
        (lambda h: b"[]", "header is broken"),
        (lambda h: json.dumps({**h, "__metadata__": 3}).encode(), "header is broken"),
        (lambda h: json.dumps({**h, "best": {**h["best"], "shape": [1 << 60]}}).encode(), "digest"),
        (lambda h: json.dumps({**h, "__metadata__": {"kind": "test 1", "sha256": "0" * 64}}).encode(), "digest"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, change, words):
    (tmp_path / "x").write_bytes(with_header(change))
    with pytest.raises(WeightsError, match=words):
        read(tmp_path / "x", EXPECTED, "test 1")


@pytest.mark.parametrize(
    ("arrays", "kind", "words"),
    [
        (ARRAYS, "test 2", "of the kind 'test 2', not 'test 1'"),
        ({k: v for k, v in ARRAYS.items() if k != "step"}, "test 1", "lacks step"),
        ({**ARRAYS, "more": np.zeros(1, np.float32)}, "test 1", "holds more"),
        ({**ARRAYS, "a/kernel": ARRAYS["a/kernel"].T}, "test 1", r"a/kernel in it has the form.*\[3, 2\]"),
        ({**ARRAYS, "best": np.array(1.0, np.float32)}, "test 1", "best in it has the form"),
        ({**ARRAYS, "more": np.zeros(100_000, np.float32)}, "test 1", "larger than"),
    ],
)
def test_a_whole_file_of_something_else_is_told_apart(tmp_path, arrays, kind, words):
    (tmp_path / "x").write_bytes(written(arrays, kind))
    with pytest.raises(AnotherKind, match=words):
        read(tmp_path / "x", EXPECTED, "test 1")
