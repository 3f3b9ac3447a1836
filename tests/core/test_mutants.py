"""The batch of mutants: our readers answer a few hundred of them, and what a reader does wrong is found."""

import os
import signal

import pytest

from tests.fuzz import batch
from tests.fuzz.readers import READERS
from tests.fuzz.seeds import seeds

FEW = 40
"""`python -m tests.fuzz.batch` makes 100,000."""


def test_seeds_are_files_that_are_read(tmp_path):
    known = seeds()
    assert set(known) == set(READERS)
    for reader, files in known.items():
        for data in files:
            READERS[reader](tmp_path / f"x.{reader}", data)


@pytest.mark.parametrize("reader", READERS)
def test_mutants_are_read_or_refused_in_one_sentence(reader):
    answers = batch.run(7, FEW, reader)
    assert not batch.bad(answers) and {each["outcome"] for each in answers} == {"read", "refused"}, batch.bad(answers)
    assert len({batch.file_of(7, i, seeds(), reader)[1] for i in range(FEW)}) > FEW // 2
    assert batch.file_of(7, 3, seeds(), reader) == batch.file_of(7, 3, seeds(), reader)


def wrong(data):
    raise ZeroDivisionError


def slow(data):
    while True:
        pass


def dead(data):
    os.kill(os.getpid(), signal.SIGSEGV)


def large(data):
    _ = b"x" * (3 << 30)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [(wrong, "ZeroDivisionError"), (slow, "slow"), (dead, "ended with -11"), (large, "MemoryError")],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_what_a_reader_does_wrong_is_found(fault, outcome, monkeypatch):
    plain = READERS["classes"]

    def faulty(file, data):
        if data == batch.file_of(0, 2, seeds(), "classes")[1]:
            fault(data)
        plain(file, data)

    monkeypatch.setitem(READERS, "classes", faulty)
    monkeypatch.setattr(batch, "LONGEST_SECONDS", 0.3)
    answers = batch.run(0, 5, "classes")
    assert [each["number"] for each in answers] == list(range(5))
    assert [each["outcome"] for each in batch.bad(answers)] == [outcome]
