"""Layers that have stopped working are found, and reported once."""

import json

import numpy as np
import pytest
import tf_keras

from pipeline.core.dataset import Sample
from pipeline.core.errors import TrainingDiverged
from pipeline.core.training import Symptom, Training
from pipeline.data.decoded import Decoded
from pipeline.train.health import Health, described
from pipeline.train.resume import Progress


def images(count=5):
    rng = np.random.default_rng(0)

    def make(i):
        pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
        return Sample(str(i), lambda: pixels, lambda: np.zeros((8, 8), np.uint8))

    return Decoded([make(i) for i in range(count)])


def network():
    tf_keras.utils.set_random_seed(1)
    layers = tf_keras.layers
    image = layers.Input((8, 8, 3))
    twice = layers.ZeroPadding2D(0, name="twice")  # a layer of two outputs is left out
    x = layers.Conv2D(4, 3, padding="same", name="first")(twice(twice(image)))
    x = layers.ReLU(6.0, name="first_relu")(x)
    pooled = layers.ReLU(name="pooled_relu")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Add()([layers.Conv2D(4, 1, name="second")(x), pooled])
    return tf_keras.Model(image, layers.Conv2D(3, 1, name="logits")(layers.ReLU(name="second_relu")(x)))


def set_bias(model, layer, channels, value):
    kernel, bias = model.get_layer(layer).weights
    kernel.assign(np.where(np.isin(np.arange(kernel.shape[-1]), channels), 0, kernel.numpy()))
    bias.assign(np.where(np.isin(np.arange(kernel.shape[-1]), channels), value, bias.numpy()))


def found(model, one_class=None):
    return [(s.layer, s.kind, s.share) for s in Health(model, images()).look(one_class)]


def test_a_network_that_works_has_no_symptoms():
    model = network()
    set_bias(model, "first", [], 0)
    model.get_layer("first").bias.assign([1.0] * 4)
    model.get_layer("second").bias.assign([9.0] * 4)
    assert found(model) == []


def test_dead_and_saturated_channels_are_counted_layer_by_layer():
    model = network()
    model.get_layer("first").bias.assign([1.0] * 4)
    model.get_layer("second").bias.assign([9.0] * 4)
    health = Health(model, images())
    set_bias(model, "first", [1], -1.0)
    set_bias(model, "first", [0, 3], 50.0)  # after the taps were made: they see the weights of now
    assert [(s.layer, s.kind, s.share) for s in health.look(None)] == [
        ("first_relu", "dead", 0.25),
        ("first_relu", "saturated", 0.5),
    ]
    (dead, saturated) = health.look(None)
    assert "1 of 4 channels are 0 everywhere" in dead.text and "2 of 4 channels are 6.0 everywhere" in saturated.text


def test_a_constant_output_and_masks_of_one_class_are_symptoms_of_the_last_layer():
    model = network()
    model.get_layer("first").bias.assign([1.0] * 4)
    model.get_layer("second").bias.assign([9.0] * 4)
    set_bias(model, "logits", [0, 1, 2], 0.5)
    assert found(model, "road") == [("logits", "constant", 1.0), ("logits", "one class", 1.0)]
    *_, symptom = Health(model, images(1)).look("road")
    assert "one class, 'road'" in symptom.text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_stop_the_training_and_name_the_first_layer(value):
    model = network()
    model.get_layer("second").bias.assign([value] * 4)
    with pytest.raises(TrainingDiverged, match="the layer second gives values that are not finite"):
        found(model)


def test_messages_leave_out_what_is_common_and_shorten_what_is_long():
    few = Symptom("a", "dead", "1 of 64 channels are 0 everywhere", 1 / 64)
    many = [Symptom(f"l{i}", "dead", "all", 1.0) for i in range(5)]
    assert described([few]) == []
    assert described([few, *many, Symptom("z", "constant", "it is")]) == [
        "l0: all; l1: all; l2: all; and 2 layers more (see history.jsonl)",
        "z: it is",
    ]


def test_each_is_reported_once_also_after_an_interruption(tmp_path):
    def progress():
        model = tf_keras.Sequential([tf_keras.layers.Input((2,)), tf_keras.layers.Dense(1)])
        optimizer = tf_keras.optimizers.SGD()
        optimizer.build(model.trainable_variables)
        return Progress(model, model.weights, optimizer, tmp_path)

    state, dead = progress(), Symptom("a", "dead", "16 of 64", 0.25)
    assert state.new([dead]) == (dead,)
    state.add_score(1.0, (dead,))
    again = progress()
    assert again.restore() and again.new([dead]) == ()
    worse, other = Symptom("a", "dead", "64 of 64", 1.0), Symptom("b", "dead", "16 of 64", 0.25)
    assert again.new([dead, worse, other]) == (worse, other)
    (line,) = (tmp_path / "history.jsonl").read_text().splitlines()
    assert json.loads(line)["symptoms"][0]["layer"] == "a" and Training(tmp_path).history()[0].symptoms == (dead,)
