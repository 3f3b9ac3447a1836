"""What a run keeps of its dataset, in data.json: the files that it first used, and the images that it skips.

A command that reads images compares them with it, because figures of other images belong to another dataset.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.core.dataset import Dataset, Sample
from pipeline.core.errors import DataError, RunError
from pipeline.core.files import open_regular, write_atomically
from pipeline.core.from_json import from_json
from pipeline.core.json_file import BadJson, load, made
from pipeline.core.run import DATA, Run

MOST_BYTES = 256 << 20
"""Of data.json: two million images."""
ENDS_BYTES = 1024
"""A digest is of a file's first and last so many bytes: other pixels change the last ones of a PNG, a checksum of all,
and mostly the size of a JPEG."""
SHOWN = 5
"""Names given of many."""

Marks = dict[str, str]
"""Sample name → 'SIZE.MODIFIED.DIGEST' of each of its files, in bytes and nanoseconds, separated by spaces."""


@dataclasses.dataclass(frozen=True)
class DataRecord:
    """The content of data.json.

    Attributes:
      splits: of each split that was used so far.
      skipped: split, or folder without labels → image → why it cannot be used; a split that was never checked for such
        images is absent.
    """

    splits: dict[str, Marks] = dataclasses.field(default_factory=dict)
    skipped: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)


def read_record(run: Run) -> DataRecord:
    """An empty one where nothing was kept yet; raises RunError for a broken file."""
    file = run.path / DATA
    if not file.exists():
        return DataRecord()
    try:
        return made(load(file, MOST_BYTES), functools.partial(from_json, DataRecord))
    except BadJson as error:
        raise RunError(f"{file} is broken ({error}): delete it to take the dataset as it is now.") from None


def write_record(run: Run, record: DataRecord) -> None:
    write_atomically(run.path / DATA, json.dumps(dataclasses.asdict(record)).encode())


def mark(samples: Sequence[Sample], before: Mapping[str, str] = {}) -> Marks:
    """The marks of the samples' files; those of ``before`` stand for files of the same size and time.

    Raises DataError for a file that is gone.
    """
    marks = {}
    for name, sample in by_name(samples).items():
        known = before.get(name, "").split()
        known += [""] * (len(sample.files) - len(known))
        marks[name] = " ".join(map(_mark, sample.files, known))
    return marks


def by_name(samples: Iterable[Sample]) -> dict[str, Sample]:
    """The samples by unique names: train and val together may have two of one name."""
    named: dict[str, Sample] = {}
    for sample in samples:
        name, number = sample.name, 2
        while name in named:
            name, number = f"{sample.name} ({number})", number + 1
        named[name] = sample
    return named


def _mark(path: Path, known: str) -> str:
    try:
        now = path.stat()
        stamp = f"{now.st_size}.{now.st_mtime_ns}."
        if known.startswith(stamp):
            return known
        with open_regular(path, now.st_size) as file:
            ends = file.read(ENDS_BYTES)
            file.seek(max(0, now.st_size - ENDS_BYTES))
            return stamp + hashlib.sha256(ends + file.read(ENDS_BYTES)).hexdigest()[:16]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist, or is a link to nothing: restore or remove it.") from None
    except OSError:  # reported when it is to be decoded
        return "unreadable"


def differences(split: str, before: Marks, now: Marks) -> list[str]:
    """In words, how the files of a split differ from those of ``before``; empty where they do not."""
    gone = [name for name in before if name not in now]
    new = [name for name in now if name not in before]
    other = [name for name in now if name in before and _contents(now[name]) != _contents(before[name])]
    kinds = ((gone, "gone"), (new, "new"), (other, "of other content (image or label)"))
    return [
        f"{split}: {len(names)} of {len(before)} images {'is' if len(names) == 1 else 'are'} {what}: {listed(names)}"
        if names is not new
        else f"{split}: {len(names)} image{'' if len(names) == 1 else 's'} {what}: {listed(names)}"
        for names, what in kinds
        if names
    ]


def contents(samples: Sequence[Sample], before: Mapping[str, str] = {}) -> str:
    """A digest of the samples' names and files, whatever their times and folder; ``before`` as for ``mark``."""
    lines = (f"{name} {_contents(marks)}" for name, marks in mark(samples, before).items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _contents(marks: str) -> list[tuple[str, ...]]:
    """Without the times, which a copy changes."""
    return [(part.partition(".")[0], part.rpartition(".")[2]) for part in marks.split()]


def listed(names: Sequence[str]) -> str:
    """The names, a few of many."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def as_recorded(run: Run, dataset: Dataset, splits: Sequence[str], renew: bool = False) -> Dataset:
    """The dataset without the images that the run skips, if ``splits`` hold the files that the run first used.

    What is used for the first time is kept, and with ``renew`` whatever is there now. Raises RunError where files
    differ, and DataError where all images of a split are skipped.
    """
    splits = [split for split in splits if any(sample.files for sample in dataset.splits[split])]
    before = read_record(run)
    now = {split: mark(dataset.splits[split], before.splits.get(split, {})) for split in splits}
    changed = {
        split: lines
        for split in splits
        if split in before.splits and (lines := differences(split, before.splits[split], now[split]))
    }
    if changed and not renew:
        raise RunError(
            f"{dataset.text} changed since {run.path} first used it, as listed below, so its figures would not belong"
            " together: restore the files, make a new run (--run DIR), train again on what is there now (--force), or"
            f" delete {run.path / DATA} to go on with the dataset as it is.",
            [line for lines in changed.values() for line in lines],
        )
    skipped = {split: images for split, images in before.skipped.items() if split not in changed}
    _keep(run, before, DataRecord({**before.splits, **now}, skipped))
    kept = {
        split: tuple(sample for name, sample in by_name(samples).items() if name not in skipped.get(split, ()))
        for split, samples in dataset.splits.items()
    }
    if empty := next((split for split in splits if not kept[split]), None):
        raise DataError(
            f"every {empty} image of {dataset.text} is skipped, as {run.path / DATA} says: replace the images, and"
            " delete that file."
        )
    return dataclasses.replace(dataset, splits=kept, skipped={s: skipped[s] for s in kept if skipped.get(s)})


def _keep(run: Run, before: DataRecord, now: DataRecord) -> None:
    """Also in a run that may only be read, which needs no record."""
    if now == before:
        return
    try:
        write_record(run, now)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
