"""The integer arithmetic that the quantization-aware network is given for a comparison: bit by bit that of LiteRT."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter, OpResolverType

import models
from models.blocks import BilinearResize
from pipeline.core.file_spec import FileSpec
from pipeline.core.preprocessing import Preprocessing
from pipeline.core.ranges import Range
from pipeline.measure.agree import compare
from pipeline.quantize import imitate
from pipeline.quantize.to_tflite import tflite_bytes
from pipeline.rewrites.apply import rewrite
from pipeline.targets import target
from tests.conftest import file_of, noise_images, ranges_of, still
from tests.support.variants import BARE


def multiplied_by_c(value: int, mantissa: int, exponent: int) -> int:
    """MultiplyByQuantizedMultiplier as its C is written, in Python's integers."""
    product = (value << max(exponent, 0)) * mantissa
    nudge = (1 << 30) if product >= 0 else 1 - (1 << 30)
    high = abs(product + nudge) // (1 << 31) * (1 if product + nudge >= 0 else -1)  # C's division truncates
    right = max(-exponent, 0)
    mask = (1 << right) - 1
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0))


@pytest.mark.parametrize("real", [3.1e-4, 0.0078125, 0.4999999, 0.75, 1.7])
def test_fixed_point_multiplication_is_that_of_the_c_code(real):
    mantissa, exponent = imitate.fixed_point(np.array([real]))
    assert mantissa[0] / 2**31 * 2.0 ** exponent[0] == pytest.approx(real, rel=1e-9)
    values = np.concatenate([np.arange(-3000, 3000), np.random.default_rng(0).integers(-(2**22), 2**22, 5000)])
    product = imitate.multiply(tf.constant(values[:, None], tf.int64), mantissa, exponent).numpy()[:, 0]
    expected = [multiplied_by_c(int(v), int(mantissa[0]), int(exponent[0])) for v in values]
    assert product.tolist() == expected
    assert np.abs(product - values * real).max() <= 1  # it is that product, and rounded twice


def on_reference_kernels(
    layer: tf_keras.layers.Layer, shape: tuple[int, int, int], input_range: Range, codes: np.ndarray
):
    """What the int8 op that ``layer`` converts to gives for int8 codes [1, h, w, c]."""
    image = tf_keras.layers.Input(shape, batch_size=1)
    pin = lambda x: tf.quantization.fake_quant_with_min_max_args(x, input_range.low, input_range.high)  # noqa: E731
    data = tflite_bytes(tf_keras.Model(image, pin(layer(pin(image)))), FileSpec(io="int8"))
    run = Interpreter(model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    run.allocate_tensors()
    run.set_tensor(run.get_input_details()[0]["index"], codes)
    run.invoke()
    return run.get_tensor(run.get_output_details()[0]["index"])


INPUT_RANGE = Range(-2.0, 3.1)


@pytest.mark.parametrize("convention", ["align_corners", "half_pixel"])
@pytest.mark.parametrize("size", [(40, 60), (37, 23), (3, 5)])
def test_a_resize_has_the_reference_kernels_positions(size, convention):
    codes = np.random.default_rng(1).integers(-128, 128, (1, 5, 9, 3), dtype=np.int8)
    real = tf.constant((codes.astype(np.float32) - INPUT_RANGE.zero_point) * np.float32(INPUT_RANGE.scale))
    layer = BilinearResize(size[0], size[1], convention)
    expected = on_reference_kernels(layer, (5, 9, 3), INPUT_RANGE, codes)
    codes = np.rint(imitate.Resize(layer, INPUT_RANGE)(real).numpy() / INPUT_RANGE.scale) + INPUT_RANGE.zero_point
    assert np.array_equal(codes, expected)
    plain = np.rint(layer(real).numpy() / INPUT_RANGE.scale) + INPUT_RANGE.zero_point
    assert not np.array_equal(plain, expected) or size == (3, 5)


@pytest.mark.parametrize("window", [(2, 2), (3, 2), (5, 4)])
def test_an_average_rounds_halves_away_from_zero(window):
    codes = np.random.default_rng(2).integers(-128, 128, (1, 20, 12, 3), dtype=np.int8)
    real = tf.constant((codes.astype(np.float32) - INPUT_RANGE.zero_point) * np.float32(INPUT_RANGE.scale))
    pool = tf_keras.layers.AveragePooling2D(window)
    expected = on_reference_kernels(pool, (20, 12, 3), INPUT_RANGE, codes)
    means = imitate.Mean(window[0] * window[1], INPUT_RANGE)(pool(real)).numpy()
    assert np.array_equal(np.rint(means / INPUT_RANGE.scale) + INPUT_RANGE.zero_point, expected)


VARIANTS = [(name, i % 2 == 0, i % 2 == 0) for i, name in enumerate(sorted(models.networks())) if name != "fast-scnn"]


@pytest.mark.parametrize(
    ("name", "batch_norm", "per_tensor"),
    [("fast-scnn", True, False), ("fast-scnn", False, True), *VARIANTS],
)
def test_every_layer_is_the_files_bit_by_bit(name, batch_norm, per_tensor):
    options = {} if batch_norm else BARE
    model, ranges = still(name, **options), ranges_of(name, **options)
    data = file_of(name, FileSpec(per_tensor=per_tensor), **options)
    if name == "fast-scnn" and not per_tensor:
        data, applied = rewrite(data, dataclasses.replace(target("nnapi"), rules=target("cpu").rules))
        assert {a.rewrite for a in applied} == {"mean", "depthwise"}
    images = np.rint(noise_images(model, 1) * 255).astype(np.uint8)
    comparison = compare(model, ranges, per_tensor, data, "x.tflite", Preprocessing(*model.input_shape[1:3]), images)
    assert len(comparison.layers) >= len(ranges)
    assert {layer.layer: layer.same_percent for layer in comparison.layers if layer.same_percent < 99.99} == {}
    assert comparison.in_training_close_percent > 90
