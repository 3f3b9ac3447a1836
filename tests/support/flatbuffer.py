"""A flatbuffer's tables read by the format's definition (flatbuffers.dev, internals), with nothing of the code under
test and nothing generated."""

from __future__ import annotations

import struct


class Table:
    """``table[i]``: the place of field i, or None where it is left out."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def __getitem__(self, field: int) -> int | None:
        vtable = self.at - _number(self.data, self.at, "<i")
        size = _number(self.data, vtable, "<H")
        offset = _number(self.data, vtable + 4 + 2 * field, "<H") if 4 + 2 * field < size else 0
        return self.at + offset if offset else None

    def number(self, field: int, kind: str) -> int:
        place = self[field]
        return 0 if place is None else _number(self.data, place, kind)

    def text(self, field: int) -> str | None:
        return None if self[field] is None else self.raw(field).decode()

    def raw(self, field: int, size: int = 1) -> bytes:
        """A vector's bytes; ``size``: of one element."""
        start = self._to(self[field])
        return self.data[start + 4 : start + 4 + size * _number(self.data, start, "<I")]

    def floats(self, field: int) -> tuple[float, ...]:
        raw = self.raw(field, 4)
        return struct.unpack(f"<{len(raw) // 4}f", raw)

    def table(self, field: int) -> Table:
        return Table(self.data, self._to(self[field]))

    def tables(self, field: int) -> list[Table]:
        if self[field] is None:
            return []
        start = self._to(self[field])
        places = (start + 4 + 4 * i for i in range(_number(self.data, start, "<I")))
        return [Table(self.data, self._to(place)) for place in places]

    def _to(self, place: int | None) -> int:
        assert place is not None, "the field is not there"
        return place + _number(self.data, place, "<I")


def _number(data: bytes, at: int, kind: str) -> int:
    return int(struct.unpack_from(kind, data, at)[0])


def root(data: bytes, identifier: bytes) -> Table:
    assert data[4:8] == identifier, data[4:8]
    return Table(data, _number(data, 0, "<I"))
