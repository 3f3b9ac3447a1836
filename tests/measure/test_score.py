"""Scores against their definition, written out in NumPy pixel set by pixel set."""

import numpy as np
import pytest

from pipeline.core.dataset import IGNORE
from pipeline.heads.full_size import mask_of
from pipeline.measure.confusion import PixelAgreement, believed, confusion, confusions, expected_confusion, gain
from pipeline.measure.score import score
from pipeline.report.score import show_score

CLASSES = ("a", "b", "c", "d")


def iou_from_definition(pairs, klass):
    both = either = 0
    for label, mask in pairs:
        counted = label != IGNORE
        truth, guess = (label == klass) & counted, (mask == klass) & counted
        both += np.logical_and(truth, guess).sum()
        either += np.logical_or(truth, guess).sum()
    return None if either == 0 else 100 * both / either


def random_pairs(seed, classes):
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(3):
        shape = rng.integers(5, 40, 2)
        label = rng.choice([*classes, IGNORE], shape).astype(np.uint8)
        mask = np.where(rng.random(shape) < 0.5, label, rng.choice(classes, shape)).astype(np.uint8)
        mask[mask == IGNORE] = classes[0]
        pairs.append((label, mask))
    return pairs


def test_masks_of_one_class_are_named(capsys):
    for masks, labels, name in (
        ([2, 2, 2, 0], [0, 1, 2, IGNORE], "c"),  # the ignored pixel does not count
        ([2, 2, 1, 2], [0, 1, 2, IGNORE], None),
        ([0, 0, 0, 0], [0, 0, 0, IGNORE], None),  # all that there is to find
        ([1, 1, 1, 1], [0, 0, 0, IGNORE], None),
    ):
        scored = score([(np.array([labels], np.uint8), np.array([masks], np.uint8))], CLASSES)
        assert scored.one_class == name and ("one_class" in scored.to_json()) == (name is not None)
        show_score(scored, "x")
        assert ("one class, 'c'" in " ".join(capsys.readouterr().out.split())) == (name is not None)


@pytest.mark.parametrize("seed", range(5))
def test_score_is_its_definition(seed):
    pairs = random_pairs(seed, [0, 1, 2, 3])
    got = score(pairs, CLASSES)
    expected = {name: iou_from_definition(pairs, k) for k, name in enumerate(CLASSES)}
    assert got.iou_percent == pytest.approx(expected)
    assert got.miou_percent == pytest.approx(np.mean(list(expected.values())))
    right = sum(((label == mask) & (label != IGNORE)).sum() for label, mask in pairs)
    counted = sum((label != IGNORE).sum() for label, _ in pairs)
    assert got.pixel_accuracy_percent == pytest.approx(100 * right / counted)
    assert got.images == 3


def test_a_class_in_neither_is_left_out_and_named_but_a_wrong_guess_counts():
    label = np.array([[0, 0, 1, IGNORE]], np.uint8)
    mask = np.array([[0, 2, 1, 3]], np.uint8)
    got = score([(label, mask)], CLASSES)
    assert got.absent == ("d",)
    assert got.iou_percent == {"a": 50.0, "b": 100.0, "c": 0.0}
    assert got.miou_percent == 50.0


def test_a_gain_and_its_standard_error_are_those_of_resampled_images():
    rng = np.random.default_rng(3)
    labels = [np.kron(rng.integers(0, 4, (4, 4)), np.ones((5, 5), int)).astype(np.uint8) for _ in range(30)]

    def wrong(share):
        return [np.where(rng.random(x.shape) < share * rng.random(), (x + 1) % 4, x).astype(np.uint8) for x in labels]

    before, after = (list(zip(labels, wrong(share), strict=True)) for share in (0.5, 0.3))
    points, error = gain(confusions(before, 4), confusions(after, 4))
    assert points == pytest.approx(score(after, CLASSES).miou_percent - score(before, CLASSES).miou_percent)
    differences = []
    for _ in range(300):
        drawn = rng.integers(0, 30, 30)
        first, second = (score([pairs[i] for i in drawn], CLASSES).miou_percent for pairs in (before, after))
        differences.append(second - first)
    assert error == pytest.approx(np.std(differences), rel=0.15)
    assert gain(confusions(before, 4), confusions(before, 4)) == (0.0, 0.0)


def test_agreement_counts_all_pixels_of_all_pairs():
    a = np.zeros((2, 2), np.uint8)
    b = np.array([[0, 1], [0, 0]], np.uint8)
    c = np.ones((1, 4), np.uint8)
    agreement = PixelAgreement()
    agreement.add(a, b)
    agreement.add(c, c)
    assert agreement.percent == pytest.approx(100 * 7 / 8)


def test_argmax_takes_the_lowest_class_on_ties():
    output = np.array([[[[1, 3, 3], [2, 2, 2]]]], np.int8)
    assert mask_of(output, 1, 2).tolist() == [[1, 0]]


def bilinear_from_definition(x, height, width):
    """Half-pixel centres, one output pixel at a time."""
    h, w, c = x.shape
    out = np.zeros((height, width, c))
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * h / height - 0.5, 0), h - 1)
            z = min(max((j + 0.5) * w / width - 0.5, 0), w - 1)
            y0, z0 = int(y), int(z)
            y1, z1 = min(y0 + 1, h - 1), min(z0 + 1, w - 1)
            top = x[y0, z0] * (1 - (z - z0)) + x[y0, z1] * (z - z0)
            low = x[y1, z0] * (1 - (z - z0)) + x[y1, z1] * (z - z0)
            out[i, j] = top * (1 - (y - y0)) + low * (y - y0)
    return out


@pytest.mark.parametrize("size", [(5, 7), (13, 20), (3, 30), (9, 4)])
def test_logits_of_another_size_are_interpolated_before_the_argmax(size):
    logits = np.random.default_rng(3).normal(size=(1, 5, 7, 4)).astype(np.float32)
    expected = bilinear_from_definition(logits[0], *size).argmax(-1)
    assert (mask_of(logits, *size) == expected).mean() > 0.999


def test_a_mask_of_another_size_takes_the_nearest_pixel():
    mask = np.arange(6, dtype=np.int32).reshape(1, 2, 3)
    assert mask_of(mask, 4, 6).tolist() == np.kron(mask[0], np.ones((2, 2), int)).tolist()


def test_class_weights_are_divided_out_of_what_a_network_believes():
    rng = np.random.default_rng(3)
    truth = rng.dirichlet(np.ones(4), (5, 7))
    weights = [0.2, 1.0, 3.0, 0.5]
    logits = np.log(truth * np.array(weights))[None].astype(np.float32)
    assert np.allclose(believed(logits, 5, 7, weights), truth, atol=1e-3)
    leaning = truth * np.array(weights)
    leaning /= leaning.sum(-1, keepdims=True)
    assert np.allclose(believed(logits, 5, 7, None), leaning, atol=1e-3)
    assert believed(logits, 10, 14, weights).shape == (10, 14, 4)


def test_an_expected_confusion_counts_each_pixel_by_its_probability():
    rng = np.random.default_rng(4)
    label, mask = rng.integers(0, 4, (2, 6, 9), dtype=np.uint8)
    assert np.array_equal(expected_confusion(np.eye(4)[label], mask), confusion(label, mask, 4))
    shares = rng.dirichlet(np.ones(4), (6, 9))
    draws = [confusion(np.array([[rng.choice(4, p=p) for p in row] for row in shares]), mask, 4) for _ in range(300)]
    assert np.allclose(expected_confusion(shares, mask), np.mean(draws, 0), atol=0.8)
