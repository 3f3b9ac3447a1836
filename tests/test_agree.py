"""Keras and the file: that the layer where they part is found. On a trained network: test_demo."""

import numpy as np
import pytest
from conftest import noise_images, ranges_of, scrambled

from pipeline.agree import compare
from pipeline.convert import tflite_bytes
from pipeline.fold import fold
from pipeline.nouns.preprocessing import Preprocessing


@pytest.mark.parametrize(
    ("name", "changed", "layer", "per_tensor"),
    [
        ("fast-scnn", "gfe2_1_project_bn", "gfe2_1_project_bn", False),
        ("fast-scnn", "fusion_low_bn", "fusion_low_bn", True),
        ("fastfcn8", "score16_pw", "score16_pw", False),
    ],
)
def test_the_layer_that_differs_is_found_and_those_before_it_are_not(name, changed, layer, per_tensor):
    model, ranges = scrambled(name), ranges_of(name)
    data = tflite_bytes(fold(model, ranges, per_tensor=per_tensor), "int8", "uint8", per_tensor)
    images = np.rint(noise_images(model, 1) * 255).astype(np.uint8)
    where = Preprocessing(*model.input_shape[1:3])
    before = compare(model, ranges, per_tensor, data, "x.tflite", where, images)
    assert before.parts is None and before.close_percent > 99.9
    assert {x.layer for x in before.layers} >= {layer, before.layers[-1].layer, *list(ranges)[:3]}
    shift = np.zeros(model.get_layer(changed).weights[1].shape, np.float32)
    shift[1] = 9 * ranges[layer].scale
    model.get_layer(changed).weights[1].assign_add(shift)  # a batch norm's beta, or a bias
    after = compare(model, ranges, per_tensor, data, "x.tflite", where, images)
    differing = [b.layer for a, b in zip(before.layers, after.layers, strict=True) if a != b]
    assert differing[0] == layer
    (found,) = [x for x in after.layers if x.layer == layer]
    assert found.worst_steps >= 3 and found.worst_at[3] == 1  # 9 steps, where the range does not end before
