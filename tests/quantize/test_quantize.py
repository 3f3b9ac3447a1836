"""The plan of the quantized graph, and the TFMOT network built from it."""

import errno
import importlib
import os

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import models
from calib.ranges import measure
from pipeline.core.errors import BadSpec, RunError
from pipeline.core.file_spec import FLOAT32
from pipeline.core.ranges import Range
from pipeline.core.spec import ModelSpec
from pipeline.quantize import network as quantize
from pipeline.quantize import plan as planning
from pipeline.quantize.to_tflite import to_tflite
from tests.conftest import noise_images, ranges_of, scrambled, small_size, still
from tests.support.variants import BARE, VARIANTS


def pairs(name, **options):
    """What follows what in a network: kind of layer, whether it has a bias, kind of layer that reads it."""
    model = models.build(ModelSpec(name, *small_size(name), 5, alpha=0.02, **options))
    readers = planning.readers_of(model)
    return {
        (type(layer), getattr(layer, "use_bias", None), type(reader))
        for layer in model.layers
        for reader in readers[layer.name] or [None]
    }


def test_the_variants_left_out_have_nothing_of_their_own():
    kept = set().union(*(pairs(name, **options) for name, options in VARIANTS))
    for name in models.networks():
        assert pairs(name, **BARE) <= kept, f"add ({name!r}, BARE) to VARIANTS"
    assert not pairs("fast-scnn", **BARE) <= pairs("fast-scnn")


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_every_activation_an_integer_op_writes_has_a_range(name, options):
    model = still(name, **options)
    planned = planning.plan(model)
    readers = planning.readers_of(model)
    for layer in model.layers:
        fused = readers[layer.name] and isinstance(readers[layer.name][0], planning.FUSED)
        keeps = isinstance(layer, (*planning.PRESERVING, tf_keras.layers.InputLayer))
        assert (layer.name in planned.points) == (not fused and not keeps), layer.name


@pytest.mark.parametrize(("fails", "match"), [("once", "could not write"), ("for good", "No space left on device")])
def test_a_full_temporary_folder_makes_no_other_file(monkeypatch, fails, match):
    """TensorFlow's converter would go another way then, and name the input and other tensors otherwise."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(importlib.import_module("tensorflow.python.saved_model.save"), "save", full)
    if fails == "for good":
        monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(OSError, match=match):
        to_tflite(still("fast-scnn"), None, FLOAT32)


def test_a_concatenation_and_all_its_inputs_share_one_range():
    planned = planning.plan(still("fast-scnn"))
    members = {name for name, first in planned.group.items() if first == planned.group["ppm_concat"]}
    assert members == {"gfe3_3_add", "ppm_concat", *(f"ppm_conv{b}_relu" for b in (1, 2, 3, 6))}
    shared = planned.share({name: Range(-i, i + 1.0) for i, name in enumerate(planned.points)})
    assert len({shared[m] for m in members}) == 1
    last = max(planned.points.index(m) for m in members)
    assert shared["ppm_concat"] == Range(-last, last + 1.0)
    assert shared["ltd_conv_relu"] == Range(0, 1.0)


def test_a_layer_without_a_rule_is_named():
    image = tf_keras.layers.Input((8, 8, 3))
    model = tf_keras.Model(image, tf_keras.layers.LeakyReLU(name="leaky")(image))
    with pytest.raises(BadSpec, match="'leaky'.*LeakyReLU.*Conv2D"):
        planning.plan(model)


@pytest.mark.parametrize(("shape", "axis"), [((3, 3, 4, 8), 3), ((3, 3, 6, 1), 2), ((4, 4, 5, 7), 2)])
def test_weights_are_rounded_per_output_channel(shape, axis):
    kernel = np.random.default_rng(0).normal(size=shape).astype(np.float32) * 10
    rounded = quantize.WeightRounding(axis)(tf.constant(kernel), True, {}).numpy()
    for channel in range(shape[axis]):
        w = np.take(kernel, channel, axis)
        scale = np.abs(w).max() / 127
        expected = np.clip(np.rint(w / scale), -127, 127) * scale
        assert np.abs(np.take(rounded, channel, axis) - expected).max() <= 1e-5 * scale + 1e-6


def test_gradients_pass_through_rounding():
    kernel = tf.Variable(np.random.default_rng(0).normal(size=(1, 1, 2, 3)).astype(np.float32))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(quantize.WeightRounding(3)(kernel, True, {}) * 3)
    assert tape.gradient(loss, kernel).numpy() == pytest.approx(np.full((1, 1, 2, 3), 3.0))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_tfmot_takes_every_layer_and_gives_its_weights_back(name, options):
    model, ranges = scrambled(name, **options), ranges_of(name, **options)
    images = noise_images(model)
    trained = quantize.quantization_aware(model, ranges)
    assert all(layer.name.startswith(quantize.PREFIX) for layer in trained.layers[1:])
    reference, quantized = model(images).numpy(), trained(images).numpy()
    assert np.abs(quantized - reference).max() > 0
    assert np.corrcoef(quantized.ravel(), reference.ravel())[0, 1] > 0.95
    weights_before = [w.numpy() for w in model.weights]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(trained(images, training=True)))
    gradients = tape.gradient(loss, trained.trainable_variables)
    assert all(g is not None for g in gradients)
    assert len(gradients) == len(model.trainable_variables)
    for variable, gradient in zip(trained.trainable_variables, gradients, strict=True):
        variable.assign_sub(0.01 * gradient)
    quantize.copy_weights(model, trained)
    assert (
        sum(not np.array_equal(a, b.numpy()) for a, b in zip(weights_before, model.weights, strict=True))
        > len(weights_before) / 3
    )
    outputs = quantize.quantization_aware(model, ranges)(images).numpy()
    assert np.array_equal(outputs, trained(images).numpy())


def test_measured_ranges_are_the_extremes_over_all_images():
    model = still("fcn8")
    points = ["block1_conv1_relu", "score8", "fuse8"]
    images = noise_images(model, 3)
    ranges = measure(model, points, lambda: (x[None] for x in images))
    for name in points:
        values = tf_keras.Model(model.input, model.get_layer(name).output)(images).numpy()
        assert ranges[name].low == pytest.approx(min(0, values.min()), abs=1e-5)
        assert ranges[name].high == pytest.approx(max(0, values.max()), rel=1e-5)


def test_a_range_holds_zero_and_is_not_empty():
    for low, high in ((0.5, 1), (-2, -1), (0, 0), (float("nan"), 1)):
        with pytest.raises(RunError, match="cannot be quantized"):
            Range(low, high)
    chosen = Range(-1.0, 4.1)
    assert chosen.scale == pytest.approx(5.1 / 255)
    assert chosen.zero_point == -78


def test_weights_per_tensor_are_rounded_as_they_will_be_folded():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 16, 6)).astype(np.float32)
    norm = tf_keras.layers.BatchNormalization()
    norm.build((None, 8, 8, 6))
    norm.gamma.assign(rng.uniform(0.1, 4, 6))
    norm.moving_variance.assign(rng.uniform(0.5, 2, 6))
    rounding = quantize.WeightRounding(3, per_tensor=True)
    rounding.norm = norm
    rounded = rounding(tf.constant(kernel), True, {}).numpy()
    gain = norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
    folded = kernel * gain
    scale = np.abs(folded).max() / 127
    assert rounded * gain == pytest.approx(np.clip(np.rint(folded / scale), -127, 127) * scale, abs=1e-5)
    assert len(np.unique(np.rint(rounded * gain / scale))) > 100


def test_ranges_learn_together_and_never_leave_zero():
    model = scrambled("fast-scnn")
    planned, ranges = planning.plan(model), ranges_of("fast-scnn")
    learned = quantize.LearnedRanges(planned, ranges)
    network = quantize.quantization_aware(model, ranges, learned=learned)
    assert learned.current().keys() == ranges.keys()
    assert all(learned.current()[p].high == pytest.approx(ranges[p].high, rel=1e-6) for p in ranges)
    held = {id(v) for v in network.trainable_variables}
    assert all(id(v) in held for v in learned.variables)
    assert len(learned.variables) == 2 * len(set(planned.group.values()))
    image = noise_images(model)[:1]
    output_before = network(image).numpy()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(network(image)))
    gradients = [g for g in tape.gradient(loss, learned.variables) if g is not None]
    assert sum(float(tf.abs(g)) > 0 for g in gradients) > len(learned.variables) / 4
    for variable in learned.variables:
        variable.assign_sub(0.7)
    narrow = learned.current()
    assert all(r.low <= 0 <= r.high and r.high <= ranges[p].high for p, r in narrow.items())
    assert narrow["ppm_concat"] == narrow["gfe3_3_add"] != ranges["ppm_concat"]
    assert not np.array_equal(output_before, network(image).numpy())
    pinned = quantize.quantization_aware(model, narrow)(image).numpy()
    assert np.abs(pinned - network(image).numpy()).max() <= ranges["head_logits"].scale


def test_a_layer_that_only_gives_zero_still_has_a_range():
    image = tf_keras.layers.Input((4, 4, 3))
    x = tf_keras.layers.Conv2D(2, 1, bias_initializer=tf_keras.initializers.Constant(-9), name="dead")(image)
    model = tf_keras.Model(image, tf_keras.layers.ReLU(name="dead_relu")(x))
    dead = measure(model, ["dead_relu"], lambda: [np.zeros((1, 4, 4, 3), np.float32)])["dead_relu"]
    assert 0 == dead.low < dead.high < 0.1


def test_a_layer_without_its_range_is_named():
    model, ranges = still("fast-scnn"), dict(ranges_of("fast-scnn"))
    first = next(iter(ranges))
    del ranges[first]
    with pytest.raises(BadSpec, match=f"no range for 1 of the network's layers, the first of them '{first}'"):
        quantize.quantization_aware(model, ranges)
