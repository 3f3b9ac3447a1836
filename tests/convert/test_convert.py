"""What comes out of the converter, for every network, output and target."""

import collections
import re

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import models
from pipeline.core.errors import ArtifactError, ContractViolation
from pipeline.core.file_spec import FLOAT32, FileSpec
from pipeline.core.ranges import Range
from pipeline.core.target import FLOAT
from pipeline.measure.inspect import inspect
from pipeline.quantize import plan as planning
from pipeline.quantize.fold import INPUT_RANGE, fold
from pipeline.quantize.to_tflite import to_tflite
from pipeline.targets import target, targets
from pipeline.tflite.read import read, with_recipe
from pipeline.tflite.verify import verify
from tests.conftest import file_of, noise_images, quantized_of, ranges_of, still
from tests.support.recipes import recipe
from tests.support.single_ops import RELU, transposed
from tests.support.single_ops import model as single_op
from tests.support.variants import VARIANTS

NETWORKS = sorted(models.networks())
INT8 = FileSpec(io="int8")


def run(data, image):
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.set_tensor(source["index"], image.astype(source["dtype"]))
    interpreter.invoke()
    return interpreter.get_tensor(result["index"]), result


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_folding_keeps_the_function(name, options):
    model = still(name, **options)
    image = noise_images(model)[:1]
    expected = model(image).numpy()
    assert np.abs(fold(model)(image).numpy() - expected).max() < 1e-4 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_float_file_agrees_with_keras(name):
    model = still(name)
    image = noise_images(model)[:1]
    got, _ = run(file_of(name, FLOAT32), image)
    expected = model(image).numpy()
    assert np.abs(got - expected).max() < 1e-4 * max(1, np.abs(expected).max())


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_the_int8_file_keeps_its_contract_and_its_function(name, options, tmp_path):
    model, ranges, data = still(name, **options), ranges_of(name, **options), file_of(name, INT8, **options)
    graph = read(data)
    for each in ("cpu", "nnapi", "edgetpu"):
        verify(graph, target(each), [INPUT_RANGE, *ranges.values()])
    (tmp_path / "x.tflite").write_bytes(data)
    seen = inspect(tmp_path / "x.tflite", target("cpu"))
    assert seen.real is not None and seen.disagreements == (), seen.disagreements
    assert seen.coverage.partitions == seen.real_coverage.partitions
    counts = collections.Counter(op.name for op in graph.ops)
    assert counts["QUANTIZE"] == counts["DEQUANTIZE"] == counts["MUL"] == 0
    convolutions = [x for x in model.layers if isinstance(x, planning.WEIGHTED)]
    assert counts["CONV_2D"] + counts["DEPTHWISE_CONV_2D"] + counts["TRANSPOSE_CONV"] == len(convolutions)
    source = graph.tensors[graph.inputs[0]]
    assert source.scale == pytest.approx((1 / 255,)) and source.zero_point == (-128,)
    for op in graph.ops:
        if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            weights = graph.tensors[op.inputs[1]]
            assert weights.dtype == "int8" and set(weights.zero_point) == {0}
            assert len(weights.scale) == weights.shape[0 if op.name == "CONV_2D" else 3]
    image = noise_images(model)[:1]
    got, result = run(data, np.rint(image * 255) - 128)
    scale, zero_point = result["quantization"]
    # Independent: the quantization-aware Keras network is another implementation of the same plan.
    expected = quantized_of(name, **options)(image).numpy()
    steps = np.abs(scale * (got.astype(np.float32) - zero_point) - expected) / scale
    assert np.median(steps) <= 2 and steps.mean() <= 4
    assert len(np.unique(got)) > 20


CASES = [
    ("cpu", "logits", "uint8"),
    ("cpu", "logits", "int8"),
    ("cpu", "logits", "float32"),
    ("cpu", "scores", "uint8"),
    ("cpu", "mask", "uint8"),
    ("edgetpu", "scores", "int8"),
    ("edgetpu", "mask", "int8"),
    ("nnapi", "logits", "int8"),
    ("ethos-u55", "logits", "int8"),
    ("ethos-u65", "scores", "int8"),
    ("ethos-u85", "mask", "int8"),
    ("gpu", "logits", "float32"),
    ("gpu-delegate", "scores", "float32"),
    ("gpu", "mask", "float32"),
    ("web", "logits", "float32"),
    ("qualcomm", "logits", "int8"),
    ("openvino", "mask", "uint8"),
    ("mediatek", "logits", "uint8"),
    ("google-tensor", "scores", "int8"),
    ("samsung", "logits", "float32"),
    ("cpu-amx", "logits", "uint8"),
    ("openvino-ir", "logits", "uint8"),
]


def test_every_target_has_a_case():
    assert {name for name, _, _ in CASES} == set(targets())


@pytest.mark.parametrize(("name", "output", "io"), CASES)
def test_every_output(name, output, io):
    model, ranges, chosen = still("fcn8"), ranges_of("fcn8"), target(name)
    data = file_of("fcn8", FileSpec(output, io=io, weights=chosen.weights))
    graph = read(data)
    verify(graph, chosen, [INPUT_RANGE, *ranges.values()])
    source, result = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    assert source.dtype == io
    assert result.dtype == ("int32" if output == "mask" else "float32" if io == "float32" else "int8")
    height, width = model.input_shape[1:3]
    assert result.shape == ((1, height, width) if output == "mask" else (1, height, width, 5))
    image = noise_images(model)[:1]
    raw = image if io == "float32" else np.rint(image * 255) - (128 if io == "int8" else 0)
    got, details = run(data, raw)
    logits = model(image).numpy()
    if output == "mask":
        top = np.sort(logits, -1)
        sure = top[..., -1] - top[..., -2] > 0.15 * (logits.max() - logits.min())
        assert sure.mean() > 0.05 and (got == logits.argmax(-1))[sure].mean() > 0.97
        return
    if output == "scores":
        real = got.astype(np.float32)
        if io != "float32":
            assert details["quantization"][0] == pytest.approx(1 / 256)
            real = (real - details["quantization"][1]) / 256
        assert np.abs(real.sum(-1) - 1).max() < 0.02
    assert (got.argmax(-1) == logits.argmax(-1)).mean() > 0.8


def test_an_op_newer_than_the_edge_tpus_compiler_is_refused_and_a_half_pixel_resize_is_not():
    graph = read(single_op(transposed("relu", fused=RELU)))
    with pytest.raises(ContractViolation, match="TRANSPOSE_CONV.*version 4.* at most"):
        verify(graph, target("edgetpu"), [])
    ranges, data = ranges_of("fcn8", resize="half_pixel"), file_of("fcn8", INT8, resize="half_pixel")
    verify(read(data), target("edgetpu"), [INPUT_RANGE, *ranges.values()])


def test_a_range_by_accident_is_found():
    ranges = ranges_of("fcn8")
    graph = read(file_of("fcn8", INT8))
    others = {**ranges, "fuse16": Range(-1.0, 777.0)}
    with pytest.raises(ContractViolation, match=r"ADD.*not a calibrated range"):
        verify(graph, target("cpu"), [INPUT_RANGE, *others.values()])


def test_a_layer_left_without_a_range_is_found():
    model, ranges = still("fcn8"), ranges_of("fcn8")
    kept = {name: r for name, r in ranges.items() if name != "block2_conv1_relu"}
    with pytest.raises(ContractViolation, match="CONV_2D .*block2_conv1_relu.* is a float op"):
        verify(read(to_tflite(model, kept, INT8)), target("cpu"), [INPUT_RANGE, *kept.values()])


def keras_file(build, batch=1):
    """A plain conversion, as somebody without this project would do it."""
    import tensorflow as tf
    import tf_keras

    image = tf_keras.layers.Input((16, 16, 4), batch_size=batch)
    converter = tf.lite.TFLiteConverter.from_keras_model(tf_keras.Model(image, build(tf_keras.layers, image)))
    return read(bytes(converter.convert()))


def test_each_leftover_is_named():
    def dilated(layers, x):
        return layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, dilation_rate=4, padding="same")(x)))

    def alone(layers, x):
        import tf_keras

        norm = layers.BatchNormalization(
            beta_initializer="ones", moving_variance_initializer=tf_keras.initializers.Constant(3)
        )
        return norm(layers.MaxPooling2D()(x))

    with pytest.raises(ContractViolation, match="SPACE_TO_BATCH_ND.*split into several ops") as error:
        verify(keras_file(dilated, batch=None), FLOAT, [])
    assert re.search(r"input_\d+:0 has a size that is not fixed \(1, 16, 16, 4\)", str(error.value))
    with pytest.raises(ContractViolation, match="MUL.*not folded") as error:
        verify(keras_file(alone), FLOAT, [])
    assert "adds a constant" in str(error.value)
    with pytest.raises(ContractViolation, match="CONV_2D.*is a float op"):
        verify(keras_file(lambda layers, x: layers.Conv2D(4, 3)(x)), target("cpu"), [])
    with pytest.raises(ContractViolation, match="is float32, not float16"):
        verify(keras_file(lambda layers, x: layers.Conv2D(4, 3)(x)), target("gpu"), [])
    verify(keras_file(lambda layers, x: layers.Conv2D(4, 3)(x)), FLOAT, [])


def test_the_recipe_travels_inside_and_changes_nothing_else():
    model, data = still("fcn8"), file_of("fcn8", FLOAT32)
    marked = with_recipe(with_recipe(data, recipe("edgetpu")), recipe())
    before, after = read(data), read(marked)
    assert before.recipe() is None and after.recipe() == recipe()
    assert (after.ops, after.inputs, after.outputs) == (before.ops, before.inputs, before.outputs)
    image = noise_images(model)[:1]
    assert np.array_equal(run(data, image)[0], run(marked, image)[0])


def test_a_broken_file_is_an_error_and_never_a_crash():
    data = file_of("fcn8", FLOAT32)
    for size in (0, 4, 8, 9, 100, 1000, len(data) // 3, len(data) // 2):
        with pytest.raises(ArtifactError, match="x.tflite"):
            read(data[:size], "x.tflite")
    with pytest.raises(ArtifactError, match="not a .tflite"):
        read(b"hello world, I am not a model", "x.tflite")


@pytest.mark.parametrize("way", ["float16", "sparse"])
def test_weights_that_an_op_unpacks_count_as_constants_on_the_cpu(way, tmp_path):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(1, 1, 64, 64)).astype(np.float32) * (rng.random((1, 1, 64, 64)) < 0.1)
    call = tf.function(lambda image: tf.nn.conv2d(image, tf.constant(kernel.astype(np.float32)), 1, "SAME"))
    concrete = call.get_concrete_function(tf.TensorSpec([1, 8, 8, 64], tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    converter.optimizations = [tf.lite.Optimize.DEFAULT if way == "float16" else tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    if way == "float16":
        converter.target_spec.supported_types = [tf.float16]
    (tmp_path / "x.tflite").write_bytes(converter.convert())
    seen = inspect(tmp_path / "x.tflite", target("cpu"))
    unpacks = "DEQUANTIZE" if way == "float16" else "DENSIFY"
    assert {name for name, _ in seen.ops} == {unpacks, "CONV_2D"}
    assert seen.real_coverage.ops_accelerated == len(seen.ops) and seen.disagreements == ()
