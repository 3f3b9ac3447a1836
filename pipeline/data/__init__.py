"""The datasets. One per file; each registers itself by a module-level ``DatasetSource``."""

from __future__ import annotations

import sys

from pipeline.nouns.dataset import Dataset, DatasetSource
from pipeline.nouns.errors import DataError
from pipeline.nouns.registry import discover, find


def sources() -> dict[str, DatasetSource]:
    return discover(sys.modules[__name__], DatasetSource)


def source_of(text: str) -> DatasetSource:
    """The registered source that ``'name:DIR'`` names; raises UnknownName."""
    return find(sys.modules[__name__], DatasetSource, "dataset", text.partition(":")[0])


def open_dataset(text: str) -> Dataset:
    """``'camvid:DIR'`` or ``'synthetic'`` → Dataset; raises UnknownName or DataError."""
    argument = text.partition(":")[2]
    source = source_of(text)
    name = source.name
    if source.layout and not argument:
        raise DataError(f"dataset {text!r} names no folder: write {name}:DIR, where DIR holds {source.layout}.")
    return source.open(argument)
