"""The datasets. One per file; each registers itself by a module-level ``DatasetSource``."""

from __future__ import annotations

import contextlib
import sys

from pipeline.core.dataset import Dataset, DatasetSource
from pipeline.core.errors import DataError, RunError
from pipeline.core.registry import discover, find
from pipeline.core.run import Run


def sources() -> dict[str, DatasetSource]:
    return discover(sys.modules[__name__], DatasetSource)


def source_of(text: str) -> DatasetSource:
    """The registered source that ``'name:DIR'`` names; raises UnknownName."""
    return find(sys.modules[__name__], DatasetSource, "dataset", text.partition(":")[0])


def open_dataset(text: str) -> Dataset:
    """``'camvid:DIR'`` or ``'synthetic'`` → Dataset; raises UnknownName or DataError."""
    argument = text.partition(":")[2]
    source = source_of(text)
    if source.layout and not argument:
        raise DataError(f"dataset {text!r} names no folder: write {source.name}:DIR, where DIR holds {source.layout}.")
    return source.open(argument)


def dataset_in(folder: str) -> Dataset | None:
    """The dataset whose layout the folder has; None where it has none."""
    for source in sources().values():
        if source.layout:
            with contextlib.suppress(DataError):
                return source.open(folder)
    return None


def dataset_of(run: Run) -> Dataset:
    """The run's dataset; raises RunError if its classes are no longer those of the run, and DataError."""
    dataset = open_dataset(run.config.data)
    if dataset.classes != run.config.classes:
        raise RunError(
            f"{run.config.data} has the classes {', '.join(dataset.classes)}, and {run.path} was made with"
            f" {', '.join(run.config.classes)}: restore the dataset's class list or make a new run."
        )
    return dataset
