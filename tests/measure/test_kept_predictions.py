"""What a device predicted before an interruption: used again, unless it is broken."""

import dataclasses
import io
import zipfile
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.core.mask import Grid
from pipeline.core.preprocessing import Preprocessing
from pipeline.measure.evaluation import EvaluationSet, predict

SIZE = (6, 8)
EVALUATION = EvaluationSet(None, 1, ("a", "b", "c"), Preprocessing(*SIZE), Grid(*SIZE, "half_pixel"))
SAMPLE = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3), np.zeros(SIZE, np.uint8)
MASK = (np.arange(48).reshape(1, *SIZE) % 3).astype(np.int32)


@dataclasses.dataclass
class Board:
    facts: SimpleNamespace = dataclasses.field(default_factory=lambda: SimpleNamespace(input_dtype="uint8"))
    inferences: int = 0

    def infer_many(self, tensors):
        for _ in tensors:
            self.inferences += 1
            yield MASK


def packed(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def bomb():
    """A zip file of 20 kB that holds 20 MiB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mask.npy", bytes(20 << 20))
        archive.writestr("output.npy", b"")
    return file.getvalue()


def plain():
    file = io.BytesIO()
    np.save(file, MASK[0])
    return file.getvalue()


BROKEN = {
    "cut": lambda good: good[: len(good) // 2],
    "empty": lambda good: b"",
    "no zip": lambda good: b"x" * 300,
    "flipped": lambda good: good[:60] + bytes([good[60] ^ 255]) + good[61:],
    "an array alone": lambda good: plain(),
    "no mask": lambda good: packed(output="x"),
    "another size": lambda good: packed(mask=np.zeros((5, 8), np.uint8), output="x"),
    "another type": lambda good: packed(mask=np.zeros(SIZE, np.int64), output="x"),
    "a class beyond": lambda good: packed(mask=np.full(SIZE, 3, np.uint8), output="x"),
    "objects": lambda good: packed(mask=np.array([[None]], object), output="x"),
    "a bomb": lambda good: bomb(),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_kept_prediction_that_is_broken_is_made_again(tmp_path, how):
    board: Any = Board()
    (first,) = predict(board, [SAMPLE], EVALUATION, tmp_path)
    (file,) = tmp_path.glob("*.npz")
    good = file.read_bytes()
    (again,) = predict(board, [SAMPLE], EVALUATION, tmp_path)
    assert board.inferences == 1 and np.array_equal(again.mask, MASK[0]) and again.output_sha256 == first.output_sha256
    file.write_bytes(BROKEN[how](good))
    (again,) = predict(board, [SAMPLE], EVALUATION, tmp_path)
    assert board.inferences == 2 and np.array_equal(again.mask, MASK[0]) and again.output_sha256 == first.output_sha256
    assert file.read_bytes() == good
