"""The float parent's probabilities of the images held out: the same whether they are kept or computed again."""

import numpy as np
import tf_keras

from pipeline.core.dataset import Sample
from pipeline.data.decoded import Decoded
from pipeline.measure.confusion import believed
from pipeline.train import held_out
from pipeline.train.held_out import ParentProbabilities
from pipeline.train.train import keras_logits


def test_probabilities_are_the_same_whether_kept_or_not(monkeypatch):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (40, 30, 3), np.uint8) for _ in range(3)]
    label = np.zeros((40, 30), np.uint8)
    decoded = Decoded([Sample(str(i), image.copy, label.copy) for i, image in enumerate(images)])
    tf_keras.utils.set_random_seed(1)
    parent = tf_keras.Sequential([tf_keras.layers.Input((8, 12, 3)), tf_keras.layers.Conv2D(4, 1)])
    of_one = 40 * 30 * 4 * 2
    monkeypatch.setattr(held_out, "PROBABILITY_BYTES", 2 * of_one)
    probabilities = ParentProbabilities(parent, decoded, (1.0, 2.0, 0.5, 0.5))
    first, again = ([probabilities[i] for i in range(3)] for _ in range(2))
    assert [a is b for a, b in zip(first, again, strict=True)] == [True, True, False]
    logits = keras_logits(parent)
    for image, *each in zip(images, first, again, strict=True):
        for seen in each:
            assert seen.dtype == np.float16
            assert np.array_equal(seen, believed(logits(image), 40, 30, (1.0, 2.0, 0.5, 0.5)))


def test_bands_of_rows_make_the_whole():
    logits = np.random.default_rng(2).normal(size=(1, 9, 7, 5)).astype(np.float32)
    seen = believed(logits, 50, 33, None).astype(np.float64)
    rows, columns = (np.clip((np.arange(n) + 0.5) * m / n - 0.5, 0, m - 1) for n, m in ((50, 9), (33, 7)))
    at = [np.minimum(x.astype(int), m - 2) for x, m in ((rows, 9), (columns, 7))]
    share = [x - low for x, low in zip((rows, columns), at, strict=True)]
    down = logits[0][at[0]] + (logits[0][at[0] + 1] - logits[0][at[0]]) * share[0][:, None, None]
    wide = down[:, at[1]] + (down[:, at[1] + 1] - down[:, at[1]]) * share[1][None, :, None]
    odds = np.exp(wide - wide.max(-1, keepdims=True))
    assert np.abs(seen - odds / odds.sum(-1, keepdims=True)).max() < 1e-3
