"""Opens every image and label of a dataset, and reports what is in them and what is wrong with them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.check.facts import REACH, Facts, edge_fits, facts_of
from pipeline.check.findings import Finding, Level, findings, pixels_of
from pipeline.core.dataset import IGNORE, Dataset, Sample
from pipeline.core.errors import DataError
from pipeline.core.progress import track
from pipeline.core.say import Say
from pipeline.data.decode import is_turned
from pipeline.data.decoded import same_size
from pipeline.data.divide import shared_sequences
from pipeline.measure.threads import over

EDGES_OF = 48
"""Images whose edges are compared with their labels' boundaries, evenly spread."""


@dataclasses.dataclass(frozen=True)
class SplitFacts:
    """What a split holds.

    Attributes:
      sizes: (height, width) → how many images.
      pixels: of each class, over all labels; unlabelled_pixels are of none.
      images_with: how many images hold each class.
    """

    images: int
    sizes: dict[tuple[int, int], int]
    pixels: tuple[int, ...]
    unlabelled_pixels: int
    images_with: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Checked:
    """What a dataset holds, and what is to be said of it.

    Attributes:
      unusable: split → image → why it cannot be used.
    """

    data: str
    classes: tuple[str, ...]
    how_split: str
    splits: dict[str, SplitFacts]
    findings: tuple[Finding, ...]
    unusable: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

    @property
    def usable(self) -> bool:
        return all(finding.level != "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        data = dataclasses.asdict(self)
        for split in data["splits"].values():
            split["sizes"] = {f"{h}x{w}": n for (h, w), n in split["sizes"].items()}
        return data


def check(dataset: Dataset, say: Say, *, skip_bad_images: bool = False) -> Checked:
    """Decodes each image and label once, several at a time; keeps none of them. What cannot be used becomes a finding.

    ``skip_bad_images``: of images that cannot be used it only warns. Raises nothing for the files' sake.
    """
    splits: dict[str, list[Facts]] = {}
    faults: dict[str, list[tuple[Sample, str]]] = {}
    unusable: dict[str, dict[str, str]] = {split: {} for split in dataset.splits}
    fits = np.zeros((3, 2 * REACH + 1, 2 * REACH + 1))
    compared = 0
    for split, samples in dataset.splits.items():
        chosen = set(np.linspace(0, len(samples) - 1, EDGES_OF // len(dataset.splits)).astype(int).tolist())

        def look(
            numbered: tuple[int, Sample], chosen: set[int] = chosen
        ) -> tuple[Facts | None, np.ndarray | None, str]:
            index, sample = numbered
            try:
                image, label = sample.image(), sample.label()
                same_size(sample.name, image, label)
                turned = bool(sample.files) and is_turned(sample.files[0])
            except DataError as error:
                return None, None, error.message
            return facts_of(sample.name, image, label, turned), edge_fits(image, label) if index in chosen else None, ""

        splits[split] = []
        looks = track(say, over(look, enumerate(samples)), f"opened {split}", len(samples))
        for sample, (facts, fit, fault) in zip(samples, looks, strict=True):
            if facts is None:
                unusable[split][sample.name] = fault
                faults.setdefault(_nameless(fault, sample), []).append((sample, fault))
                continue
            splits[split].append(facts)
            if fit is not None:
                fits, compared = fits + fit, compared + 1
    known = [Finding("note", text) for text in dataset.notes()]
    seen = [
        *(_fault(alike, "warning" if skip_bad_images else "error") for alike in faults.values()),
        *(_nothing_usable(splits) or findings(splits, dataset.classes, fits / max(1, compared), dataset.text)),
        *_same_sequences(dataset),
    ]
    return Checked(
        dataset.text,
        dataset.classes,
        dataset.how_split,
        {split: _summary(facts, len(dataset.classes)) for split, facts in splits.items()},
        tuple(sorted([*seen, *known], key=lambda f: ("error", "warning", "note").index(f.level))),
        unusable,
    )


def _nameless(fault: str, sample: Sample) -> str:
    """The same for the same fault of several files."""
    for name in (*map(str, sample.files), sample.name):
        fault = fault.replace(name, "…")
    return fault


def _fault(alike: Sequence[tuple[Sample, str]], level: Level) -> Finding:
    """One finding for all that have the same fault: a wrong export has it in each of its thousand masks."""
    (_, first), *others = alike
    if not others:
        return Finding(level, first)
    return Finding(level, f"{first} The same of {len(others)} more", tuple(sample.name for sample, _ in others))


def _nothing_usable(splits: Mapping[str, Sequence[Facts]]) -> list[Finding]:
    """Of a split without an image that can be used nothing more is to be said."""
    return [
        Finding("error", f"no image of the {split} split can be used") for split, facts in splits.items() if not facts
    ]


def _same_sequences(dataset: Dataset) -> Iterator[Finding]:
    if shared := shared_sequences(dataset):
        yield Finding(
            "warning",
            f"val has frames of {len(shared)} sequence(s) that train has, too, by their names, so the score flatters:"
            f" --hold-out {shared[0]} makes a whole sequence the validation",
            shared,
        )


def _summary(facts: list[Facts], num_classes: int) -> SplitFacts:
    pixels = pixels_of(facts, num_classes)
    return SplitFacts(
        len(facts),
        dict(Counter((f.height, f.width) for f in facts).most_common()),
        tuple(pixels.sum(0).tolist()),
        int(sum(f.pixels[IGNORE] for f in facts)),
        tuple((pixels > 0).sum(0).tolist()),
    )
