"""Bounds what a .tflite file decodes to, before it is decoded.

A flatbuffer may refer to one table, vector or name from many places, so a small file can decode to more than any memory
holds. Everything that the whole file refers to is counted here, each place by itself, as flatbuffers' own verifier
counts tables; LiteRT's has its limit. What is shared is counted once and added often, so the count takes no longer than
the file is long.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from flatbuffers.table import Table

MOST_TABLES = 1_000_000
"""flatbuffers::Verifier::Options::max_tables."""
TIMES_SIZE, FEW_ENTRIES = 4, 1 << 20
"""Values and characters per byte of the file, at most; as many as FEW_ENTRIES may always be."""


REFERENCES = {"String", "Union", "Indirect"}
"""What flatc's methods call for a field that is not a number: a string, a union, a table."""


class TooMuch(ValueError):
    """What the file has too much of, as the rest of a sentence."""


@dataclasses.dataclass(frozen=True)
class Count:
    tables: int = 0
    entries: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.tables + other.tables, self.entries + other.entries)


@dataclasses.dataclass(frozen=True)
class Fields:
    """The names of a table's fields, by what they hold; numbers are left out."""

    vectors: tuple[str, ...]
    vectors_of_tables: tuple[str, ...]
    single: tuple[str, ...]


def check_decoded_size(data: bytes) -> None:
    """Raises TooMuch, and the errors of a damaged flatbuffer."""
    _Counter(len(data)).count(schema.Model.GetRootAs(data, 0))


class _Counter:
    def __init__(self, size_bytes: int) -> None:
        self._most_entries = max(FEW_ENTRIES, TIMES_SIZE * size_bytes)
        self._known: dict[tuple[type, int], Count] = {}

    def count(self, table: Any) -> Count:
        """Of the table and all below it; the schema has no table that can hold itself."""
        key = type(table), table._tab.Pos
        if (known := self._known.get(key)) is not None:
            return known
        fields, tables, entries = fields_of(type(table)), 1, 0  # type: ignore[arg-type]
        for name in fields.vectors:
            entries += getattr(table, f"{name}Length")()
        for name in fields.vectors_of_tables:
            length, read = getattr(table, f"{name}Length")(), getattr(table, name)
            self._check(tables + length, entries + length)
            for i in range(length):
                below = self.count(read(i))
                tables, entries = tables + below.tables, entries + below.entries
                self._check(tables, entries)
        for name in fields.single:
            below = self._single(table, name)
            tables, entries = tables + below.tables, entries + below.entries
        self._check(tables, entries)
        self._known[key] = count = Count(tables, entries)
        return count

    def _single(self, table: Any, name: str) -> Count:
        value = getattr(table, name)()
        if isinstance(value, bytes):
            return Count(0, len(value))
        if isinstance(value, Table):  # a union
            kinds = _kinds(name if hasattr(schema, name) else "SparseIndexVector")
            kind = kinds.get(getattr(table, f"{name}Type")())
            if kind is None:
                return Count()
            inside = kind()
            inside.Init(value.Bytes, value.Pos)
            return self.count(inside)
        return self.count(value) if hasattr(value, "_tab") else Count()

    def _check(self, tables: int, entries: int) -> None:
        if tables > MOST_TABLES:
            raise TooMuch(f"it holds more than {MOST_TABLES:,} tables")
        if entries > self._most_entries:
            raise TooMuch("it holds far more values than its size has room for")


@functools.cache
def fields_of(kind: type) -> Fields:
    """From the methods that flatc generates for a table."""
    methods = {
        name: method
        for name, method in vars(kind).items()
        if name[0].isupper() and name != "Init" and inspect.isfunction(method)
    }
    counted = [name.removesuffix("Length") for name in methods if name.endswith("Length")]
    counted = [name for name in counted if name in methods]
    single = [
        name
        for name, method in methods.items()
        if name not in counted
        and not name.endswith(("Length", "AsNumpy", "IsNone"))
        and REFERENCES & {*method.__code__.co_names}
    ]
    return Fields(
        vectors=tuple(name for name in counted if f"{name}AsNumpy" in methods),
        vectors_of_tables=tuple(name for name in counted if f"{name}AsNumpy" not in methods),
        single=tuple(single),
    )


@functools.cache
def _kinds(union: str) -> dict[int, type]:
    """What the number of a union's type stands for."""
    names = {number: name for name, number in vars(getattr(schema, union)).items() if isinstance(number, int)}
    return {number: getattr(schema, name) for number, name in names.items() if number and hasattr(schema, name)}
