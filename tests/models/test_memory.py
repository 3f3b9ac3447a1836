"""What cannot fit into memory is refused before it is tried, with what would fit."""

import pytest
import tf_keras

import models
from models import memory
from pipeline.core.errors import BadSpec
from pipeline.core.spec import ModelSpec
from tests.conftest import still


@pytest.fixture
def free(monkeypatch):
    def set_free(count):
        monkeypatch.setattr(memory, "free_bytes", lambda: count)

    return set_free


def small():
    """100 x 100 pixels: 30,000 floats in the input, 80,000 in the layer, and 8 * 28 weights."""
    image = tf_keras.layers.Input((100, 100, 3))
    return tf_keras.Model(image, tf_keras.layers.Conv2D(8, 3, padding="same")(image))


def test_a_layer_is_counted_with_what_it_reads(free):
    free(int(4 * 110_000 * memory.SLACK))
    memory.check_inference(small(), "it")
    free(int(4 * 110_000 * memory.SLACK) - 8)
    with pytest.raises(BadSpec, match="it does not fit into memory: one image in its largest layer need"):
        memory.check_inference(small(), "it")


def test_the_batch_that_fits_is_named_and_fits(free):
    network = small()
    free(int((6 * 4 * 224 + 7.5 * 4 * 110_000) * memory.SLACK))
    with pytest.raises(BadSpec, match=r"8 images in all layers .* are free. Take --batch 7, or"):
        memory.check_training(network, 8)
    memory.check_training(network, 7)
    with pytest.raises(BadSpec, match="Take --batch 4, or"):
        memory.check_training(network, 7, teacher=network)
    free(1000)
    with pytest.raises(BadSpec, match="Take a smaller --size or --alpha, or"):
        memory.check_training(network, 1)
    free(None)  # not known
    memory.check_training(network, 1 << 40)


def test_weights_are_counted_before_there_are_any(free):
    free(1 << 20)
    built = []

    def build(_):
        built.append(wide())
        return built[0]

    with pytest.raises(BadSpec, match="tiny of alpha 2 does not fit into memory: its weights need about"):
        memory.check_weights(ModelSpec("tiny", 8, 8, 3, alpha=2.0), build)
    assert built[0].count_params() == 1024 * 1025
    with pytest.raises(TypeError, match="out of scope"):  # it describes weights and has none
        built[0].weights[0].numpy()
    memory.check_weights(ModelSpec("tiny", 8, 8, 3, alpha=1.0), None)


def wide():
    image = tf_keras.layers.Input((8, 8, 1024))
    return tf_keras.Model(image, tf_keras.layers.Conv2D(1024, 1)(image))


def test_a_network_of_a_size_that_does_not_fit_is_refused(free):
    free(1 << 20)
    with pytest.raises(BadSpec, match="fast-scnn at 192x256 does not fit into memory"):
        models.build(ModelSpec("fast-scnn", 192, 256, 3))


def test_the_networks_of_tests_fit():
    memory.check_inference(still("fast-scnn"), "it")
    memory.check_training(still("fast-scnn"), 2, still("fast-scnn"))
