"""Scoring overlaps decoding, inference and the metric, and changes nothing by it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipeline.core.dataset import Sample
from pipeline.core.errors import ArtifactError, DataError
from pipeline.core.preprocessing import Preprocessing
from pipeline.data.decoded import Decoded
from pipeline.drivers.litert_worker import cores
from pipeline.measure import threads
from pipeline.measure.score import masks_of, runner_infer, score_masks
from pipeline.measure.threads import in_threads
from tests.support.stand_in_runner import StandInRunner

CLASSES = ("a", "b", "c")


def samples(count):
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (count, 12, 16, 3), np.uint8)
    return [sample(str(i), image) for i, image in enumerate(images)]


def sample(name, image):
    return Sample(name, image.copy, lambda: (image[..., 1] % len(CLASSES)).astype(np.uint8))


class Channels(StandInRunner):
    """A network whose logits are the image's channels; it takes one image at a time, and more time for the first."""

    def __init__(self):
        self.busy, self.asked = threading.Lock(), 0

    def infer(self, image):
        assert self.busy.acquire(blocking=False), "a runner was given an image while it had one"
        self.asked += 1
        time.sleep(0.02 if self.asked == 1 else 0.001)
        self.busy.release()
        return image


@pytest.mark.parametrize("runners", [1, 3])
def test_masks_and_score_are_those_of_a_plain_loop(runners):
    dataset = samples(17)
    first, *twins = [Channels() for _ in range(runners)]
    infer = runner_infer(first, Preprocessing(12, 16), twins=twins)
    pairs = list(masks_of(Decoded(dataset), infer, 15))
    assert len(pairs) == 15
    for sample, (label, mask) in zip(dataset, pairs, strict=False):
        assert np.array_equal(label, sample.label()) and np.array_equal(mask, sample.image().argmax(-1))
    hits = sum((label == mask).sum() for label, mask in pairs)
    scored = score_masks(Decoded(dataset), infer, CLASSES, 15)
    assert scored.images == 15 and scored.pixel_accuracy_percent == 100 * hits / (15 * 12 * 16)


def test_several_images_are_worked_on_at_once_but_not_all():
    begun, most = [], []
    never = threading.Event()

    def work(i):
        begun.append(i)
        never.wait(0.02)
        return i

    for i, result in enumerate(in_threads(work, 40)):
        assert result == i
        most.append(len(begun) - i)
    assert sorted(begun) == list(range(40))
    assert max(most) <= 2 * len(cores()) + 1 and (len(cores()) == 1 or max(most) > 1)


def test_an_error_comes_in_its_place_and_ends_the_work():
    begun = []

    def work(i):
        begun.append(i)
        if i == 5:
            raise DataError("image 5 is broken")
        return i

    results = in_threads(work, 1000)
    values = []
    with pytest.raises(DataError, match="image 5 is broken"):
        for result in results:
            values.append(result)
    assert values == [0, 1, 2, 3, 4] and len(begun) < 6 + 4 * len(cores())


def test_a_runner_that_fails_does_not_keep_the_others_waiting():
    class Dies(Channels):
        def infer(self, image):
            raise ArtifactError("it died")

    with pytest.raises(ArtifactError, match="it died"):
        list(masks_of(Decoded(samples(9)), runner_infer(Dies(), Preprocessing(12, 16))))


def test_an_interrupt_leaves_the_rest_undone(monkeypatch):
    """What is under way ends when the threads are waited for, and not before."""
    begun, waited_for = [], threading.Event()

    class Waited(ThreadPoolExecutor):
        def __exit__(self, *raised):
            waited_for.set()
            return super().__exit__(*raised)

    def work(i):
        begun.append(i)
        if i:
            waited_for.wait()

    monkeypatch.setattr(threads, "ThreadPoolExecutor", Waited)

    results = in_threads(work, 1000)
    next(results)
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)
    assert len(begun) <= 1 + len(cores())  # of the 2 · cores + 1 that were asked for


def test_the_cache_keeps_its_bound_when_threads_ask():
    dataset = samples(60)
    image_bytes = 12 * 16 * 4
    decoded = Decoded(dataset, cache_bytes=20 * image_bytes)
    for _ in range(2):
        assert len(list(in_threads(decoded.__getitem__, 60))) == 60
    assert len(decoded._cached) == 20
