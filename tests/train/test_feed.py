import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from pipeline.core.dataset import IGNORE, Sample
from pipeline.core.errors import DataError
from pipeline.data.decoded import Allowance, Decoded, kept_note
from pipeline.train.feed import Augmentation, Feed, augment, paste

NO_AUGMENTATION = Augmentation(scale=(1.0, 1.0), flip=False, colour=0.0)


def samples(count, height=12, width=18):
    """Image i is i everywhere in red; its label marks where the image's green is high."""

    def make(i):
        rng = np.random.default_rng(i)
        label = rng.integers(0, 2, (height // 3, width // 3)).repeat(3, 0).repeat(3, 1).astype(np.uint8)
        image = np.stack([np.full_like(label, i), 100 * label, np.full_like(label, 50)], -1)
        return Sample(str(i), lambda: image, lambda: label)

    return [make(i) for i in range(count)]


def test_decoded_reads_once_and_keeps_within_its_bytes():
    calls = []
    image, label = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)

    def read():
        calls.append(1)
        return image

    sample = Sample("x", read, lambda: label)
    kept = Decoded([sample, sample], cache_bytes=64)
    for _ in range(3):
        kept[0], kept[1]
    assert len(calls) == 1 + 3


def test_all_splits_share_what_is_free(monkeypatch):
    image_bytes = 12 * 18 * 4
    for most, free, kept in ((10, 1000, 10), (100, 8, 4), (100, 1000, 16)):  # in images; a half of what is free
        allowance = Allowance(most * image_bytes, itertools.repeat(free * image_bytes).__next__)
        monkeypatch.setattr("pipeline.data.decoded.SHARED", allowance)
        first, second = Decoded(samples(8)), Decoded(samples(8))
        for split in (first, second):
            for i in range(8):
                split[i]
        assert (first.kept_images, second.kept_images) == (min(8, kept), max(0, kept - 8))
        assert first.kept_bytes == first.kept_images * image_bytes
        note = kept_note(first, second)
        assert note is None if kept == 16 else f"{kept} of 16 decoded images are kept in memory" in note
        del first, split  # what it held is free again
        third = Decoded(samples(8))
        for i in range(8):
            third[i]
        assert third.kept_images == min(8, kept - second.kept_images)


def test_the_free_memory_is_looked_up_again_as_the_cache_grows(monkeypatch):
    monkeypatch.setattr("pipeline.data.decoded.LOOK_BYTES", 12 * 18 * 4 * 2)
    left = iter([1000, 1000, 2])  # something else takes memory
    monkeypatch.setattr("pipeline.data.decoded.SHARED", Allowance(1 << 30, lambda: next(left) * 12 * 18 * 4))
    decoded = Decoded(samples(8))
    for i in range(8):
        decoded[i]
    assert decoded.kept_images == 4


def test_no_augmentation_is_the_identity():
    image, label = (read() for read in (samples(1)[0].image, samples(1)[0].label))
    pixels, ids = augment(image, label, tf.constant([1, 2]), 12, 18, NO_AUGMENTATION)
    assert np.abs(pixels.numpy() - image / 255).max() < 1e-6
    assert (ids.numpy() == label).all()


@pytest.mark.parametrize("seed", range(8))
def test_image_and_label_move_together(seed):
    sample = samples(1, 60, 90)[0]
    how = Augmentation(scale=(0.5, 2.0), colour=0.0)
    pixels, ids = augment(sample.image(), sample.label(), tf.constant([seed, 0]), 60, 90, how)
    green, ids = pixels.numpy()[..., 1] * 255 / 100, ids.numpy()
    known = ids != IGNORE
    assert known.mean() > 0.15
    flat = np.abs(green - np.rint(green)) < 0.02  # away from edges, where bilinear mixes two classes
    assert (np.rint(green)[known & flat] == ids[known & flat]).mean() > 0.995
    assert (known & flat).mean() > 0.1


def test_zooming_out_pads_and_ignores_the_padding():
    sample = samples(1, 60, 90)[0]
    _, ids = augment(sample.image(), sample.label(), tf.constant([0, 0]), 60, 90, Augmentation((0.5, 0.5), False, 0.0))
    assert 0.7 < (ids.numpy() == IGNORE).mean() < 0.8


def test_a_window_is_moved_to_rare_pixels():
    label = np.zeros((60, 90), np.uint8)
    label[50:52, 10:12] = 2
    image = np.repeat(label[..., None] * 100, 3, 2)
    how = Augmentation((3.0, 3.0), False, 0.0, balance=1.0)
    shown = lambda how, rare: np.array(  # noqa: E731
        [(augment(image, label, tf.constant([seed, 0]), 60, 90, how, rare)[1].numpy() == 2).sum() for seed in range(60)]
    )
    always, half = shown(how, (1, 2)), shown(dataclasses.replace(how, balance=0.5), (2,))
    assert (always > 0).all() and 0.3 < (half > 0).mean() < 0.8
    never = shown(dataclasses.replace(how, balance=0.0), (2,))
    assert (never > 0).mean() < 0.25 and np.array_equal(shown(how, (1,)), never), "no pixel to look at"
    wide = dataclasses.replace(how, scale=(0.5, 0.5))
    assert np.array_equal(shown(wide, (2,)), shown(dataclasses.replace(wide, balance=0.0), (2,)))


def test_colour_changes_pixels_but_stays_in_range():
    sample = samples(1)[0]
    pixels, ids = augment(sample.image(), sample.label(), tf.constant([3, 4]), 12, 18, Augmentation((1, 1), False, 0.5))
    assert np.abs(pixels.numpy() - sample.image() / 255).max() > 0.01
    assert pixels.numpy().min() >= 0 and pixels.numpy().max() <= 1
    assert (ids.numpy() == sample.label()).all()


@pytest.mark.parametrize(
    ("how", "darkest", "lightest"),
    [
        (Augmentation((1, 1), False, 0.0, exposure=1.2), 0.3012, 1.4918),
        (Augmentation((1, 1), False, 0.0, gamma=0.5), 0.6065, 1.6487),
    ],
)
def test_light_is_drawn_from_its_interval_and_leaves_the_labels(how, darkest, lightest):
    image, label = np.full((4, 4, 3), 100, np.uint8), np.ones((4, 4), np.uint8)
    found = []
    for seed in range(200):
        pixels, ids = augment(image, label, tf.constant([seed, 7]), 4, 4, how)
        assert (ids.numpy() == 1).all() and np.ptp(pixels.numpy()) == 0
        value = float(pixels.numpy()[0, 0, 0])
        found.append(value / (100 / 255) if how.exposure else np.log(value) / np.log(100 / 255))
    assert darkest <= min(found) < 1.1 * darkest and lightest / 1.1 < max(found) <= lightest
    assert how.as_setting() != Augmentation((1, 1), False, 0.0).as_setting()


def test_chosen_classes_are_pasted_from_the_next_image():
    rng = np.random.default_rng(0)
    images = rng.random((4, 5, 6, 3)).astype(np.float32)
    labels = rng.choice([0, 1, 2, IGNORE], (4, 5, 6)).astype(np.uint8)
    chosen = np.zeros((4, 256), bool)
    chosen[0, 1] = chosen[1, [0, 2]] = chosen[3, 0] = True  # nothing upon image 2
    pixels, ids = paste(tf.constant(images), tf.constant(labels), tf.constant(chosen))
    for place in np.ndindex(3, 5, 6):
        n, *at = place
        source = n + int(chosen[n, labels[n + 1, *at]])
        assert (pixels.numpy()[place] == images[source, *at]).all() and ids.numpy()[place] == labels[source, *at]


def test_rare_classes_are_pasted_as_often_as_was_asked():
    """Every image is one class alone, so that a pasted image is another image."""

    def sample(i):
        return Sample(str(i), lambda: np.full((4, 4, 3), i, np.uint8), lambda: np.full((4, 4), i, np.uint8))

    images = [sample(i) for i in range(4)]
    how = dataclasses.replace(NO_AUGMENTATION, paste=0.25)
    plain, pasted = (
        np.concatenate(
            [labels[:, 0, 0] for _, labels in Feed(Decoded(images), (4, 4), 8, one, 0, rare=(1, 3)).batches(0, 100)]
        )
        for one in (NO_AUGMENTATION, how)
    )
    changed = plain[:-1] != pasted[:-1]
    assert (pasted[:-1][changed] == plain[1:][changed]).all() and set(pasted[:-1][changed]) == {1, 3}
    rare_follows = np.isin(plain[1:], (1, 3)) & (plain[1:] != plain[:-1])
    assert 0.19 < changed[rare_follows].mean() < 0.31


def test_what_earlier_versions_did_not_have_is_no_other_setting_while_it_is_off():
    assert Augmentation().as_setting() == {"scale": [0.6, 1.8], "flip": True, "colour": 0.25}


def first_red(batches):
    return [np.rint(images.numpy()[:, 0, 0, 0] * 255).astype(int).tolist() for images, _ in batches]


def test_every_epoch_sees_every_image_in_its_own_order():
    decoded = Decoded(samples(6))
    order = list(itertools.chain(*first_red(Feed(decoded, (12, 18), 3, NO_AUGMENTATION, 5).batches(0, 4))))
    assert sorted(order[:6]) == sorted(order[6:]) == list(range(6))
    assert order[:6] != order[6:]


def test_a_resumed_run_meets_the_same_batches():
    feed = Feed(Decoded(samples(7)), (12, 18), 2, Augmentation(paste=0.5), 5, rare=(0, 1, 2))
    batches, rest = list(feed.batches(0, 9)), list(feed.batches(4, 9))
    assert len(rest) == 5
    for (a, b), (c, d) in zip(batches[4:], rest, strict=True):
        assert (a.numpy() == c.numpy()).all() and (b.numpy() == d.numpy()).all()


def test_an_unreadable_image_is_reported_as_itself():
    def broken():
        raise DataError("image x.png cannot be decoded")

    decoded = Decoded([Sample("x", broken, broken)])
    with pytest.raises(tf.errors.OpError, match="image x.png cannot be decoded"):
        list(Feed(decoded, (12, 18), 1, NO_AUGMENTATION, 0).batches(0, 1))
    assert isinstance(decoded.error, DataError) and str(decoded.error) == "image x.png cannot be decoded"
