"""The built-in scenes: repeatable, labelled exactly, and not to be told by colour."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.dataset import Dataset, Sample
from pipeline.core.errors import DataError
from pipeline.data import open_dataset, synthetic
from pipeline.data.scenery import HEIGHT, WIDTH
from tests.support.colour_classifier import colour_classifier_miou

TRAIN_SCENES = 64
RARE = ("pedestrian", "sign")
RARE_SHARE = 0.025
"""Under 1/4 of an even share among nine classes."""

Pair = tuple[np.ndarray, np.ndarray]


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()


def pair(sample: Sample) -> Pair:
    return sample.image(), sample.label()


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return open_dataset("synthetic")


@pytest.fixture(scope="module")
def pairs(dataset: Dataset) -> dict[str, list[Pair]]:
    return {
        "train": [pair(s) for s in dataset.splits["train"][:TRAIN_SCENES]],
        "val": [pair(s) for s in dataset.splits["val"]],
    }


@pytest.fixture(scope="module")
def labels(pairs: dict[str, list[Pair]]) -> np.ndarray:
    return np.stack([label for split in pairs.values() for _, label in split])


def test_images_and_labels_have_the_stated_form(dataset: Dataset, pairs: dict[str, list[Pair]]) -> None:
    splits = {**dataset.splits, "test": dataset.open_test()}
    assert {s: len(samples) for s, samples in splits.items()} == synthetic.SPLIT_SIZES
    assert len(dataset.classes) == len(dataset.colours) >= 8
    for split in pairs.values():
        for image, label in split:
            assert image.shape == (HEIGHT, WIDTH, 3)
            assert label.shape == (HEIGHT, WIDTH)
            assert image.dtype == label.dtype == np.uint8


def test_a_scene_is_the_same_when_drawn_again(dataset: Dataset) -> None:
    sample = dataset.splits["val"][5]
    first = digest(*pair(sample))
    synthetic.render.cache_clear()
    for other in dataset.splits["train"][:2]:  # what was drawn before must not matter
        other.image()
    assert digest(*pair(sample)) == first


def test_a_scene_is_the_same_in_another_process(dataset: Dataset) -> None:
    code = (
        "import hashlib; from pipeline.data.synthetic import render;"
        "print(hashlib.sha256(b''.join(a.tobytes() for a in render('train', 0))).hexdigest())"
    )
    root = Path(synthetic.__file__).parents[2]
    process = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == digest(*pair(dataset.splits["train"][0]))


def test_image_and_label_of_a_sample_are_drawn_once(dataset: Dataset) -> None:
    synthetic.render.cache_clear()
    pair(dataset.splits["val"][0])
    assert synthetic.render.cache_info().misses == 1


def test_no_scene_occurs_twice(pairs: dict[str, list[Pair]]) -> None:
    digests = [digest(image) for split in pairs.values() for image, _ in split]
    assert len(set(digests)) == len(digests)


def test_names_are_unique(dataset: Dataset) -> None:
    for samples in dataset.splits.values():
        assert len({s.name for s in samples}) == len(samples)


def test_labels_hold_known_ids_and_ignored_pixels(dataset: Dataset, labels: np.ndarray) -> None:
    assert set(np.unique(labels)) == {*range(len(dataset.classes)), 255}
    assert (labels == 255).mean() < 0.05


def test_every_class_occurs_in_both_splits(dataset: Dataset, pairs: dict[str, list[Pair]]) -> None:
    for split in pairs.values():
        scenes = [np.isin(np.arange(len(dataset.classes)), label) for _, label in split]
        assert np.mean(scenes, axis=0).min() > 0.4, "each class stands in two scenes of five at least"


@pytest.mark.parametrize("name", RARE)
def test_rare_classes_are_rare(dataset: Dataset, labels: np.ndarray, name: str) -> None:
    assert 0.002 < (labels == dataset.classes.index(name)).mean() < RARE_SHARE


def test_poles_are_thin(dataset: Dataset, labels: np.ndarray) -> None:
    """A row of a pole is what lies between two changes of the mask; lamp arms and poles side by side are wider."""
    mask = np.pad(labels == dataset.classes.index("pole"), ((0, 0), (0, 0), (1, 1))).astype(np.int8)
    steps = np.diff(mask, axis=2).ravel()
    widths = np.flatnonzero(steps < 0) - np.flatnonzero(steps > 0)
    assert 6 <= np.median(widths) <= 14
    assert np.mean(widths <= 20) > 0.85


def test_colour_alone_does_not_tell_the_classes(dataset: Dataset, pairs: dict[str, list[Pair]]) -> None:
    assert colour_classifier_miou(pairs["train"], pairs["val"], len(dataset.classes)) < 35


def test_the_colour_classifier_finds_classes_that_do_differ_in_colour(pairs: dict[str, list[Pair]]) -> None:
    """The oracle itself: perfect where each class has its own colour, lost where the colours are swapped."""
    colours = (28 * np.arange(256))[:, None].repeat(3, 1).astype(np.uint8)
    painted = [(colours[label], label) for _, label in pairs["val"][:4]]
    assert colour_classifier_miou(painted, painted, 9, bins=(64,)) == pytest.approx(100)
    swapped = [(colours[(label + 1) % 9], label) for _, label in pairs["val"][:4]]
    assert colour_classifier_miou(painted, swapped, 9, bins=(64,)) < 1


def test_a_folder_is_refused() -> None:
    with pytest.raises(DataError, match="write synthetic"):
        open_dataset("synthetic:/somewhere")
