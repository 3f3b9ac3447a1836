"""The datasets. One per file; each registers itself by a module-level ``DatasetSource``."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator

from pipeline.core.dataset import Dataset, DatasetSource
from pipeline.core.errors import DataError, RunError, UnknownName
from pipeline.core.registry import discover, find
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.data.divide import divide
from pipeline.data.record import as_recorded

TEST = "test"
"""The split that is not among ``Dataset.splits``."""


def sources() -> dict[str, DatasetSource]:
    return discover(sys.modules[__name__], DatasetSource)


def source_of(text: str) -> DatasetSource:
    """The registered source that ``'name:DIR'`` names; raises UnknownName, which names the source of a folder."""
    name, colon, _ = text.partition(":")
    if not colon and name not in sources() and os.path.isdir(name):
        fitting = [source for source, _ in _fitting(name)]
        named = fitting or [source for source in sources().values() if source.layout]
        raise UnknownName("dataset", name, sources(), {f"{source.name}:{name}": source.title for source in named})
    return find(sys.modules[__name__], DatasetSource, "dataset", name)


def open_dataset(text: str) -> Dataset:
    """``'camvid:DIR'`` or ``'synthetic'`` → Dataset; raises UnknownName or DataError."""
    argument = text.partition(":")[2]
    source = source_of(text)
    if source.layout and not argument:
        raise DataError(f"dataset {text!r} names no folder: write {source.name}:DIR, where DIR holds {source.layout}.")
    return source.open(argument)


def dataset_in(folder: str) -> Dataset | None:
    """The dataset whose layout the folder has; None where it has none."""
    return next((dataset for _, dataset in _fitting(folder)), None)


def _fitting(folder: str) -> Iterator[tuple[DatasetSource, Dataset]]:
    """The sources whose layout the folder has, each with what it holds there."""
    for source in sources().values():
        if source.layout:
            with contextlib.suppress(DataError):
                yield source, source.open(folder)


def absolute(folder: str | None) -> str | None:
    """A user's folder as an absolute path, ~ expanded."""
    return folder and os.path.abspath(os.path.expanduser(folder))


def anywhere(run: Run) -> Run:
    """The run with absolute paths, for a process with another working directory."""
    data, argument = run.config.data, run.config.data.partition(":")[2]
    if source_of(data).layout and argument:
        data = f"{data.removesuffix(argument)}{absolute(argument)}"
    return Run(run.path.absolute(), dataclasses.replace(run.config, data=data))


def dataset_of(run: Run, *splits: str, renew: bool = False) -> Dataset:
    """The run's dataset, divided as the run says, without the images that the run skips.

    ``splits``: those that are used; none named: all. Raises RunError if its classes or the files of these splits are no
    longer those that the run first used, and DataError. ``renew``: take the files as they are now, for a training that
    starts anew.
    """
    dataset = _divided(run)
    return as_recorded(run, dataset, splits or tuple(dataset.splits), renew)


def _divided(run: Run) -> Dataset:
    """The run's dataset as it is now.

    Raises RunError if its classes are no longer those of the run, and DataError.
    """
    dataset = open_dataset(run.config.data)
    if dataset.classes != run.config.classes:
        raise RunError(
            f"{run.config.data} has the classes {', '.join(dataset.classes)}, and {run.path} was made with"
            f" {', '.join(run.config.classes)}: restore the dataset's class list or make a new run."
        )
    return divide(dataset, run.config.division)


def split_to_score(run: Run, split: str, say: Say) -> str:
    """``split``, or 'val' where that stands for the test split; ``say`` then gets the reason."""
    if split == TEST and (why := _divided(run).val_is_test):
        say(f"note: {why}: val stands for it, on which the float checkpoint was chosen")
        return "val"
    return split


def dataset_to_score(run: Run, split: str) -> Dataset:
    """As ``dataset_of``, with one split: 'train', 'val', or 'test', which nothing but a score may see.

    Raises DataError, also where there is no test split.
    """
    dataset = _divided(run)
    if split != TEST and split not in dataset.splits:
        raise DataError(f"there is no split {split!r} to score: choose one of {', '.join(dataset.splits)}, {TEST}.")
    samples = dataset.open_test() if split == TEST else dataset.splits[split]
    return as_recorded(run, dataclasses.replace(dataset, splits={split: samples}), [split])
