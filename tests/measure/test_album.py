"""The images that `bench` keeps: which, and that their masks are those of the files. By hand, from LiteRT's outputs."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from pipeline.core.dataset import IGNORE
from pipeline.core.device import DeviceOptions
from pipeline.core.measurement import Gate
from pipeline.data import open_dataset
from pipeline.devices import devices
from pipeline.devices.host import HostRunner
from pipeline.measure.album import LONGEST_SIDE, Album, smaller
from pipeline.measure.confusion import confusion
from pipeline.measure.gates import DROP, LATENCY, with_gates
from pipeline.measure.on_device import bench_on
from tests.support.small_run import IMAGES, small_run

HOST = devices()["host"]


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("album"))


@pytest.fixture(scope="module")
def measured(plan):
    return bench_on(plan, HOST, "host", HOST.connect("", DeviceOptions()), lambda text: None)


def masks_by_hand(plan):
    """(name, label, the parent's mask, the artifact's) of each image."""
    with HostRunner(plan.parent.path, 1) as parent, HostRunner(plan.artifact.path, 1) as artifact:
        for sample in open_dataset(plan.run.config.data).splits["val"]:
            image = sample.image()[None]
            in_float = parent.infer(image.astype(np.float32) / np.float32(255))[0].argmax(-1)
            yield sample.name, sample.label(), in_float, artifact.infer(image)[0].argmax(-1)


def iou_by_hand(label, mask):
    """{class: percent} of those that occur."""
    return {
        c: 100 * ((label == c) & (mask == c)).sum() / ((label == c) | (mask == c)).sum()
        for c in range(5)
        if (label == c).any() or (mask == c).any()
    }


def test_every_image_has_its_scores_and_the_confusion_is_that_of_all_pixels(plan, measured):
    counts = np.zeros((5, 5), int)
    for score, (name, label, in_float, mask) in zip(measured.per_image, masks_by_hand(plan), strict=True):
        assert score.name == name
        assert score.miou_percent == pytest.approx(np.mean(list(iou_by_hand(label, mask).values())))
        assert score.parent_miou_percent == pytest.approx(np.mean(list(iou_by_hand(label, in_float).values())))
        assert score.agreement_percent == pytest.approx(100 * (in_float == mask).mean())
        np.add.at(counts, (label.ravel(), mask.ravel()), 1)
    assert measured.artifact.confusion == tuple(map(tuple, counts))
    assert len({score.miou_percent for score in measured.per_image}) == IMAGES, "equal scores prove no order"


def test_the_best_the_median_the_worst_and_the_worst_of_each_class_are_kept_with_their_masks(plan, measured):
    by_hand = {name: rest for name, *rest in masks_by_hand(plan)}
    scores = {name: np.mean(list(iou_by_hand(label, mask).values())) for name, (label, _, mask) in by_hand.items()}
    order = sorted(scores, key=scores.get)
    kept = {reason: shown for shown in measured.shown for reason in shown.reasons}
    for reason, name in (("worst", order[0]), ("median", order[IMAGES // 2]), ("best", order[-1])):
        assert kept[reason].score.name == name
    for index, name in enumerate("abcde"):
        of_class = {image: iou_by_hand(label, mask)[index] for image, (label, _, mask) in by_hand.items()}
        assert of_class[kept[f"worst {name}"].score.name] == min(of_class.values())
    for shown in measured.shown:
        label, in_float, mask = by_hand[shown.score.name]
        for file, expected in ((shown.label, label), (shown.parent_mask, in_float), (shown.mask, mask)):
            picture = Image.open(plan.run.path / file)
            assert picture.mode == "P" and (np.asarray(picture) == expected).all()
        assert Image.open(plan.run.path / shown.image).size == label.shape[::-1]


def test_a_second_measurement_shares_the_pictures_of_the_first(plan, measured):
    before = {file: file.read_bytes() for file in plan.run.measurements.glob("pictures/*")}
    again = bench_on(plan, HOST, "host", HOST.connect("", DeviceOptions()), lambda text: None)
    assert again.shown == measured.shown
    assert {file: file.read_bytes() for file in plan.run.measurements.glob("pictures/*")} == before


def test_large_masks_are_kept_small_and_with_the_labels_that_they_have():
    mask = np.full((1000, 2 * LONGEST_SIDE), 3, np.uint8)
    mask[:, LONGEST_SIDE:] = IGNORE
    small = smaller(mask)
    assert small.shape == (500, LONGEST_SIDE) and set(np.unique(small)) == {3, IGNORE}
    assert (small[:, : LONGEST_SIDE // 2] == 3).all() and (small[:, LONGEST_SIDE // 2 :] == IGNORE).all()
    assert smaller(np.zeros((1, 9000), np.uint8)).shape == (1, LONGEST_SIDE)


def test_images_without_a_label_are_not_chosen():
    album, empty = Album(), np.full((4, 4), IGNORE, np.uint8)
    label, mask = np.zeros((4, 4), np.uint8), np.eye(4, dtype=np.uint8)
    album.add(mask, mask, confusion(empty, mask, 2), confusion(empty, mask, 2))
    assert album.chosen("ab") == {}
    album.add(mask, mask, confusion(label, mask, 2), confusion(label, mask, 2))
    assert album.chosen("ab") == {1: ["best", "median", "worst", "largest drop", "worst a"]}
    assert album.scores("xy")[0].miou_percent is None and album.scores("xy")[0].agreement_percent == 100


def test_of_images_in_which_a_class_is_all_wrong_the_one_with_most_of_it_is_kept():
    album, mask = Album(), np.zeros((4, 4), np.uint8)
    for rows in (1, 3, 2):
        label = np.zeros((4, 4), np.uint8)
        label[:rows] = 1
        album.add(mask, mask, confusion(label, mask, 2), confusion(label, mask, 2))
    (kept,) = (i for i, reasons in album.chosen("ab").items() if "worst b" in reasons)
    assert kept == 1


def test_gates_that_were_asked_for_are_kept_with_what_came(measured):
    latency = dataclasses.replace(measured.artifact.latency, median_ms=10.0)
    at = dataclasses.replace(
        measured, drop_points=0.5, artifact=dataclasses.replace(measured.artifact, latency=latency)
    )
    assert with_gates(at, None, None).gates == ()
    assert with_gates(at, 0.5, 9.0).gates == (Gate(DROP, 0.5, 0.5, True), Gate(LATENCY, 10.0, 9.0, False))
    assert with_gates(dataclasses.replace(at, drop_points=float("nan")), 1, None).gates[0].passed is False
