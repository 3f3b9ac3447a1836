"""What a class weighs in the loss, and what of that is taken back before a checkpoint is scored and written."""

import numpy as np
import pytest
import tf_keras

import models
from models.blocks import BilinearResize, logits_bias_of
from pipeline.core.dataset import IGNORE, Sample
from pipeline.core.spec import ModelSpec
from pipeline.data.census import count_pixels
from pipeline.data.decoded import Decoded
from pipeline.train.balance import TAKEN_BACK, adjusted, class_weights, frequencies_of, rare_classes

WEIGHTS = np.array([0.25, 0.75, 2.0], np.float32)


@pytest.mark.parametrize("network", ["fast-scnn", "fastfcn8", "unet"])
def test_half_of_the_logarithm_comes_off_the_logits_while_it_lasts(network):
    model = models.build(ModelSpec(network, 192, 192, 3, alpha=0.25))
    image = np.random.default_rng(0).random((1, 192, 192, 3)).astype(np.float32)
    before = model(image).numpy()
    with pytest.raises(KeyError), adjusted(model, WEIGHTS) as left:
        within = model(image).numpy()
        raise KeyError
    assert TAKEN_BACK == 0.5 and np.allclose(left, np.sqrt(WEIGHTS))
    assert np.abs(within - (before - np.log(np.sqrt(WEIGHTS)))).max() < 1e-4
    assert (model(image).numpy() == before).all()


@pytest.mark.parametrize(
    "end",
    [
        lambda x: tf_keras.layers.Conv2D(3, 1, use_bias=False)(x),
        lambda x: tf_keras.layers.Conv2D(3, 1, activation="softmax")(x),
        lambda x: BilinearResize(8, 8)(tf_keras.layers.ReLU()(tf_keras.layers.Conv2D(3, 1)(x))),
    ],
    ids=["no bias", "probabilities", "an activation"],
)
def test_a_network_that_does_not_end_in_a_bias_stays_as_it_is(end):
    x = tf_keras.layers.Input((4, 4, 3))
    model = tf_keras.Model(x, end(x))
    before = model.get_weights()
    with adjusted(model, WEIGHTS) as left:
        assert left is WEIGHTS
        assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert logits_bias_of(model) is None


def test_class_weights_are_their_formula():
    image = np.zeros((2, 5, 3), np.uint8)
    label = np.array([[0, 0, 0, 0, IGNORE], [1, 1, 0, 0, IGNORE]], np.uint8)
    pixels = count_pixels(Decoded([Sample("x", lambda: image, lambda: label)] * 2), 3, "training", print)
    assert pixels.tolist() == [[6, 2, 0]] * 2
    frequencies = frequencies_of(pixels)
    assert frequencies.tolist() == [0.75, 0.25, 0.0]
    raw = 1 / np.log(1.02 + np.array([0.75, 0.25, 0.0]))
    assert class_weights(frequencies) == pytest.approx(raw / raw.mean())


def test_classes_that_weigh_more_than_the_mean_are_rare():
    assert rare_classes(np.array([0.5, 1.2, 0.9, 1.4], np.float32)) == (1, 3)
