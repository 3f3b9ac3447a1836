"""Keras and the file: that the layer where they part is found. On a trained network: test_demo."""

import functools

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

import models
from pipeline.core.file_spec import FileSpec
from pipeline.core.graph import Graph, Op, Tensor
from pipeline.core.preprocessing import Preprocessing
from pipeline.measure.agree import compare, tallies_of
from pipeline.quantize.plan import rounded_at
from pipeline.rewrites.apply import rewrite
from pipeline.targets import targets
from pipeline.tflite.read import read
from tests.conftest import file_of, noise_images, quantized_of, ranges_of, scrambled, still


def saturated_by_hand(data, agreement, image):
    """Share of each layer's codes that are 127, or −128 where that is not the code of 0, from LiteRT itself."""
    interpreter = Interpreter(
        model_content=data,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    ops = read(data).ops
    percents = {}
    for layer in agreement.layers:
        index = ops[int(layer.op.split()[0])].outputs[0]
        (detail,) = (each for each in interpreter.get_tensor_details() if each["index"] == index)
        codes, zero = interpreter.get_tensor(index), detail["quantization"][1]
        percents[layer.layer] = pytest.approx(100 * ((codes == 127) | ((codes == -128) & (zero != -128))).mean())
    return percents


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
    data = file_of(name, FileSpec(per_tensor=per_tensor))
    images = np.rint(noise_images(model, 1) * 255).astype(np.uint8)
    where = Preprocessing(*model.input_shape[1:3])
    before = compare(model, ranges, per_tensor, data, "x.tflite", where, images)
    assert {x.layer: x.saturated_percent for x in before.layers} == saturated_by_hand(data, before, images[0])
    assert max(x.saturated_percent for x in before.layers) > 0
    assert before.diverges_at is None and before.close_percent > 99.9
    assert {x.layer for x in before.layers} >= {layer, before.layers[-1].layer, *list(ranges)[:3]}
    shift = np.zeros(model.get_layer(changed).weights[1].shape, np.float32)
    shift[1] = 9 * ranges[layer].scale
    model.get_layer(changed).weights[1].assign_add(shift)  # a batch norm's beta, or a bias
    after = compare(model, ranges, per_tensor, data, "x.tflite", where, images)
    differing = [b.layer for a, b in zip(before.layers, after.layers, strict=True) if a != b]
    assert differing[0] == layer
    (edited,) = [x for x in after.layers if x.layer == layer]
    assert edited.worst_steps >= 3 and edited.worst_at[3] == 1  # 9 steps, where the range does not end before


INTEGER = sorted(name for name, target in targets().items() if target.weights == "int8")
MOST_APART = {"mean": 1, "depthwise": 1, "products": 2}
"""Steps by which a rewrite may differ from the op: see ``Rewrite.steps``; the layers after it inherit them."""


@functools.cache
def compared(name, data):
    """As ``compare`` says; it leaves the quantization-aware network as it was, so that all files share one."""
    model, quantized = still(name), quantized_of(name)
    image = np.rint(noise_images(model, 1) * 255).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.quantize.network.quantization_aware", lambda *_, per_tensor: quantized)
        return compare(model, ranges_of(name), False, data, "x.tflite", Preprocessing(*model.input_shape[1:3]), image)


@pytest.mark.parametrize("target", INTEGER)
@pytest.mark.parametrize("name", sorted(models.networks()))
def test_what_is_written_for_any_integer_target_is_compared_layer_by_layer(name, target):
    file = file_of(name, FileSpec())
    data, applied = rewrite(file, targets()[target])
    plain, agreement = compared(name, file), compared(name, data)
    model = still(name)
    assert {x.layer for x in plain.layers} == set(rounded_at(model)) and plain.not_compared == ()
    assert {x.layer for x in agreement.layers} | {layer for layer, _ in agreement.not_compared} == set(
        rounded_at(model)
    )
    assert (
        len(agreement.layers) >= len(plain.layers) - len(applied)
        and agreement.layers[-1].layer == plain.layers[-1].layer
    )
    sizes = {x.layer: x.values for x in plain.layers}
    assert all(
        x.values == sizes[x.layer] == np.prod(model.get_layer(x.layer).output_shape[1:]) for x in agreement.layers
    )
    assert agreement.diverges_at is None and agreement.close_percent > 99.9 and agreement.same_class_percent > 99
    assert agreement.codes > 50
    if not {each.rewrite for each in applied} & set(MOST_APART):
        assert all(x.close_percent > 99.9 for x in agreement.layers)


def test_of_a_layer_that_the_file_has_in_another_form_it_is_said_why():
    def tensor(name, shape=(1, 4, 6, 8), dtype="int8"):
        return Tensor(name, shape, False, dtype, (0.5,), (3,), 0, False, 0)

    tensors = [
        tensor("n/a/Conv2D/repeats/wide"),
        tensor("n/a/Conv2D"),
        tensor("n/b/Relu/products/rows"),
        tensor("n/b/Relu", (1, 6, 4, 8)),
        tensor("n/c/Add", dtype="float32"),
        tensor("n/d;n/e/x", (1, 4, 6, 8)),
    ]
    ops = [Op(i, "OP", 1, (), (i,)) for i in range(len(tensors))]
    graph = Graph(tuple(ops), tuple(tensors), (), (), {})
    names = {name: name for name in "abcdf"}
    tallies, missing = tallies_of(graph, names, dict.fromkeys(names, (4, 6, 8)))
    assert {layer: tally.tensor for layer, tally in tallies.items()} == {"a": 1, "d": 5}
    assert missing == {
        "b": "it has shape 6x4x8 in the file and 4x6x8 in Keras",
        "c": "it is float32 in the file",
        "f": "no tensor has its name",
    }
