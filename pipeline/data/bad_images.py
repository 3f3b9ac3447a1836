"""Decides once which images of a run are skipped because they cannot be used, and keeps the list in the run.

So every command, and a training that is resumed, works on the same images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from pipeline.core.dataset import Sample
from pipeline.core.errors import DataError, RunError
from pipeline.core.lock import writing
from pipeline.core.progress import track
from pipeline.core.run import DATA, Run
from pipeline.core.say import Say
from pipeline.data import TEST, dataset_of, dataset_to_score
from pipeline.data.decoded import same_size
from pipeline.data.record import by_name, listed, read_record, write_record
from pipeline.data.unlabelled import folder_key, photos_below

OnBadImage = Literal["fail", "skip"]
THREADS = 2


def settle(
    run: Run,
    on_bad_image: OnBadImage | None,
    splits: Sequence[str],
    folder: str | None,
    say: Say,
    *,
    renew: bool = False,
) -> None:
    """Decides what becomes of bad images of the splits, and of a ``folder`` without labels, before they are used.

    'skip' decodes each image and label, unless the run knows the bad ones already. None: as the run decided earlier,
    else 'fail'. ``renew``: see ``dataset_of``. Raises RunError where 'fail' contradicts the run, and DataError.
    """
    if on_bad_image is None:
        return
    wanted: dict[str, Sequence[Sample]] = {}
    if splits:
        dataset = dataset_to_score(run, TEST) if TEST in splits else dataset_of(run, *splits, renew=renew)
        wanted |= {split: dataset.splits[split] for split in splits}
    if folder is not None:
        wanted[folder_key(folder)] = photos_below(folder)
    if on_bad_image == "fail":
        record = read_record(run)
        if names := [name for split in wanted for name in record.skipped.get(split, ())]:
            raise RunError(
                f"{run.path} skips {len(names)} images ({listed(names)}), and --on-bad-image fail forbids it: leave it"
                f" out, or mend the images and delete {run.path / DATA}."
            )
        return
    with writing(run.path, "--on-bad-image skip"):
        record = read_record(run)
        skipped = dict(record.skipped)
        for split, samples in wanted.items():
            if split not in skipped:
                skipped[split] = bad_images(samples, split, say)
        if skipped != record.skipped:
            write_record(run, dataclasses.replace(record, skipped=skipped))


def bad_images(samples: Sequence[Sample], what: str, say: Say) -> dict[str, str]:
    """Sample → why it cannot be used; decodes each, several at once, and keeps none."""
    with ThreadPoolExecutor(THREADS) as pool:
        reasons = track(say, pool.map(_reason, samples), f"looking for bad {what} images", len(samples))
        return {name: reason for name, reason in zip(by_name(samples), reasons, strict=True) if reason}


def _reason(sample: Sample) -> str:
    try:
        same_size(sample.name, sample.image(), sample.label())
    except DataError as error:
        return error.message
    return ""


def skipped_lines(skipped: Mapping[str, Mapping[str, str]]) -> list[str]:
    """For the end of a command: each split's skipped images, a few of many, with their reasons."""
    lines = []
    for split, images in skipped.items():
        lines.append(f"skipped {len(images)} {split} image{'' if len(images) == 1 else 's'}:")
        lines += [f"  {name}: {reason}" for name, reason in list(images.items())[:SHOWN]]
        if len(images) > SHOWN:
            lines.append(f"  and {len(images) - SHOWN} more, see {DATA} in the run")
    return lines


SHOWN = 20
"""Images that are named of many."""
