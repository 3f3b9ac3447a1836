"""Rewrites: in LiteRT's reference kernels each gives what the op gave, and its target then takes it."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from pipeline.core.errors import ContractViolation
from pipeline.core.file_spec import FileSpec
from pipeline.core.ranges import Range
from pipeline.rewrites.apply import rewrite
from pipeline.rewrites.camera import BYTES_THROUGH_FLOAT, PIXELS_AS_CHANNELS
from pipeline.rewrites.convolutions import DILATED_AS_DENSE, TRANSPOSED_AS_VALID, TRANSPOSED_WITHOUT_ACTIVATION
from pipeline.rewrites.padding import PADDING_FOLDED
from pipeline.rewrites.pools import POOL_AS_DEPTHWISE, POOL_AS_MEAN
from pipeline.rewrites.resizes import PIXEL_AS_CONVOLUTIONS, RESIZE_AS_PRODUCTS, RESIZE_CHAIN
from pipeline.targets import target, targets
from pipeline.tflite.apply_rules import apply_rules
from pipeline.tflite.edit import GraphEdit
from pipeline.tflite.read import read
from tests.support.single_ops import RELU, VALID, Data, conv, model, plain, pool, resize, transposed


def moved(case, zero_point):
    """The case with another zero point, as after a ReLU."""
    inputs = tuple(dataclasses.replace(d, zero_point=zero_point) if d.values is None else d for d in case.inputs)
    return dataclasses.replace(
        case,
        name=f"{case.name} {zero_point}",
        inputs=inputs,
        output=dataclasses.replace(case.output, zero_point=zero_point),
    )


def camera(name, zero_point=-128, scale=1 / 255):
    """A camera's uint8 into int8, as the converter writes it."""
    case = plain(name, "QUANTIZE", "uint8", output=Data((1, 16, 16, 8), "int8", scale=1 / 255, zero_point=zero_point))
    data = dataclasses.replace(case.inputs[0], scale=scale, zero_point=0)
    return dataclasses.replace(case, version=1, inputs=(data,))


CASES = [
    (conv("first", size=(17, 24), channels=(3, 8), stride=2), PIXELS_AS_CHANNELS),
    (moved(conv("first relu", size=(16, 16), channels=(3, 8), stride=2, fused=RELU), -20), PIXELS_AS_CHANNELS),
    (moved(conv("grey", size=(8, 8), channels=(1, 6), stride=2), -128), PIXELS_AS_CHANNELS),
    (conv("one scale", size=(8, 12), channels=(4, 8), stride=2, per_tensor=True), PIXELS_AS_CHANNELS),
    (camera("camera"), BYTES_THROUGH_FLOAT),
    (camera("clipped", 17), BYTES_THROUGH_FLOAT),
    (moved(pool("halves", "AVERAGE_POOL_2D", (6, 8), (6, 7), size=(12, 15)), -128), POOL_AS_DEPTHWISE),
    (moved(pool("overlapping", "AVERAGE_POOL_2D", (5, 4), (3, 2), size=(17, 20)), -20), POOL_AS_DEPTHWISE),
    (moved(pool("whole", "AVERAGE_POOL_2D", (16, 16), (16, 16)), -128), POOL_AS_MEAN),
    (moved(pool("12x15", "AVERAGE_POOL_2D", (12, 15), (12, 15), size=(12, 15)), -20), POOL_AS_MEAN),
    (moved(resize("fusion", (12, 15), (45, 60), align=True), -128), RESIZE_AS_PRODUCTS),
    (pool("whole", "AVERAGE_POOL_2D", (16, 16), (16, 16)), POOL_AS_MEAN),
    (pool("12x15", "AVERAGE_POOL_2D", (12, 15), (12, 15), size=(12, 15)), POOL_AS_MEAN),
    (pool("halves", "AVERAGE_POOL_2D", (6, 8), (6, 7), size=(12, 15)), POOL_AS_DEPTHWISE),
    (pool("overlapping", "AVERAGE_POOL_2D", (5, 4), (3, 2), size=(17, 20)), POOL_AS_DEPTHWISE),
    (pool("large", "AVERAGE_POOL_2D", (16, 32), (16, 32), size=(32, 64)), POOL_AS_DEPTHWISE),
    (resize("from 3x3", (3, 3), (12, 15), align=True), RESIZE_AS_PRODUCTS),
    (resize("from 1x2", (1, 2), (12, 15), align=True), RESIZE_AS_PRODUCTS),
    (resize("fusion", (12, 15), (45, 60), align=True), RESIZE_AS_PRODUCTS),
    (resize("half pixel", (12, 15), (45, 60), half=True), RESIZE_AS_PRODUCTS),
    (resize("legacy", (9, 7), (25, 24)), RESIZE_AS_PRODUCTS),
    (resize("down", (25, 24), (9, 7), align=True), RESIZE_AS_PRODUCTS),
    (resize("one pixel", (1, 1), (12, 15), align=True), PIXEL_AS_CONVOLUTIONS),
    (moved(resize("one pixel", (1, 1), (7, 1), half=True), -128), PIXEL_AS_CONVOLUTIONS),
    (resize("one pixel nearest", (1, 1), (3, 9), op="RESIZE_NEAREST_NEIGHBOR"), PIXEL_AS_CONVOLUTIONS),
    (conv("dilated", op="DEPTHWISE_CONV_2D", dilation=4, size=(32, 32)), DILATED_AS_DENSE),
    (transposed("x2"), TRANSPOSED_AS_VALID),
    (moved(transposed("x3", 3, 5), -20), TRANSPOSED_AS_VALID),
    (transposed("x8", 8, 16), TRANSPOSED_AS_VALID),
    (transposed("relu", fused=RELU), TRANSPOSED_WITHOUT_ACTIVATION),
]


def run(data, image):
    """On the reference kernels."""
    interpreter = Interpreter(model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def rewritten(data, replacement, per_tensor=False):
    edit = GraphEdit(data)
    ops = replacement.make(edit, 0, per_tensor)
    if ops is None:
        return None
    edit.replace(0, ops)
    return edit.to_bytes()


def of_case(case, replacement):
    """Its bytes; a fused ReLU is one that the output's range does already."""
    if replacement is TRANSPOSED_WITHOUT_ACTIVATION:
        case = dataclasses.replace(case, output=dataclasses.replace(case.output, zero_point=-128, scale=3.0))
    return model(case)


@pytest.mark.parametrize("per_tensor", [False, True], ids=["per-channel", "per-tensor"])
@pytest.mark.parametrize(
    ("case", "replacement"), CASES, ids=[f"{replacement.name} {case.name}" for case, replacement in CASES]
)
def test_a_rewrite_gives_what_the_op_gave(case, replacement, per_tensor):
    data = of_case(case, replacement)
    new = rewritten(data, replacement, per_tensor)
    graph, new_graph = read(data), read(new)
    assert new_graph.ops[0] != graph.ops[0]
    (old_out,), (new_out,) = graph.outputs, new_graph.outputs
    assert graph.tensors[old_out] == new_graph.tensors[new_out]
    rng = np.random.default_rng(5)
    worst, spread = 0, set()
    for _ in range(8):
        shape = graph.tensors[graph.inputs[0]].shape
        levels = rng.integers(-128, 128, shape[-1])  # so that means lie everywhere
        levels[0] = 127
        image = np.clip(levels + rng.integers(-60, 61, shape), -128, 127).astype(np.int8)
        if graph.tensors[graph.inputs[0]].dtype == "uint8":
            image = rng.permutation(np.resize(np.arange(256), np.prod(shape))).reshape(shape).astype(np.uint8)
        before, after = run(data, image), run(new, image)
        worst = max(worst, int(np.abs(before.astype(int) - after).max()))
        spread |= set(np.unique(before).tolist())
    assert worst <= replacement.tolerance_steps and len(spread) > 20


def test_a_resize_in_products_is_the_interpolation_of_the_definition():
    data = rewritten(model(resize("fusion", (12, 15), (45, 60), align=True)), RESIZE_AS_PRODUCTS)
    image = np.random.default_rng(0).integers(-128, 128, (1, 12, 15, 8), dtype=np.int8)
    rows, columns = np.linspace(0, 11, 45), np.linspace(0, 14, 60)
    expected = np.empty((45, 60, 8))
    for channel in range(8):
        over_rows = np.stack([np.interp(rows, np.arange(12), image[0, :, x, channel]) for x in range(15)], 1)
        expected[..., channel] = [np.interp(columns, np.arange(15), row) for row in over_rows]
    assert np.abs(run(data, image)[0] - expected).max() <= 2.5


@pytest.mark.parametrize(
    ("case", "replacement"),
    [
        (pool("same", "AVERAGE_POOL_2D", (4, 4), (2, 2), 0), POOL_AS_DEPTHWISE),
        (pool("float", "AVERAGE_POOL_2D", (4, 4), (2, 2), dtype="float32"), POOL_AS_DEPTHWISE),
        (pool("part", "AVERAGE_POOL_2D", (4, 4), (2, 2)), POOL_AS_MEAN),
        (resize("float", (3, 3), (12, 15), dtype="float32"), RESIZE_AS_PRODUCTS),
        (resize("two pixels", (1, 2), (12, 15), align=True), PIXEL_AS_CONVOLUTIONS),
        (conv("not dilated", op="DEPTHWISE_CONV_2D"), DILATED_AS_DENSE),
        (conv("multiplier", op="DEPTHWISE_CONV_2D", channels=(8, 16), dilation=2), DILATED_AS_DENSE),
        (transposed("another range", fused=RELU), TRANSPOSED_WITHOUT_ACTIVATION),
        (transposed("no activation", padding=VALID), TRANSPOSED_WITHOUT_ACTIVATION),
        (transposed("no padding", padding=VALID), TRANSPOSED_AS_VALID),
        (conv("odd rows", size=(16, 18), channels=(3, 8), stride=2), PIXELS_AS_CHANNELS),
        (conv("stride 1", channels=(3, 8)), PIXELS_AS_CHANNELS),
        (conv("many channels", stride=2), PIXELS_AS_CHANNELS),
        (conv("5x5", channels=(3, 8), stride=2, kernel=5), PIXELS_AS_CHANNELS),
        (conv("no padding", channels=(3, 8), stride=2, padding=VALID), PIXELS_AS_CHANNELS),
        (conv("float", "float32", channels=(3, 8), stride=2), PIXELS_AS_CHANNELS),
        (camera("another range", scale=1 / 200), BYTES_THROUGH_FLOAT),
        (plain("within int8", "QUANTIZE"), BYTES_THROUGH_FLOAT),
    ],
    ids=lambda value: str(getattr(value, "name", value)),
)
def test_what_does_not_fit_is_left_alone(case, replacement):
    assert rewritten(model(case), replacement) is None


IN_ONE_PIECE = dataclasses.replace(target("cpu"), rewrites=(POOL_AS_MEAN, POOL_AS_DEPTHWISE))
"""XNNPACK takes all of this; it is slower, so `cpu` does not do it."""
NETWORKS = [
    ("in one piece", "fast-scnn", {"AVERAGE_POOL_2D"}),
    ("cpu", "fcn8", set()),
    ("ethos-u55", "fast-scnn", {"RESIZE_BILINEAR"}),
    ("edgetpu", "fast-scnn", {"RESIZE_BILINEAR"}),
    ("ethos-u65", "fcn8", {"RESIZE_BILINEAR"}),
    ("ethos-u85", "fast-scnn", {"RESIZE_BILINEAR"}),
    ("qualcomm", "fcn8", {"TRANSPOSE_CONV"}),
]


@pytest.mark.parametrize(
    ("name", "network", "kinds"), NETWORKS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_network_is_rewritten_where_its_target_refuses_an_op_and_only_there(name, network, kinds):
    from pipeline.quantize.fold import INPUT_RANGE
    from pipeline.tflite.verify import specification, verify
    from tests.conftest import file_of, noise_images, ranges_of, still

    data, chosen = file_of(network, FileSpec(io="int8")), target(name) if name in targets() else IN_ONE_PIECE
    new, applied = rewrite(data, chosen)
    refused = [v for v in apply_rules(read(data), chosen.rules) if v.outcome != "accelerated"]
    assert {a.op for a in applied} == kinds and len(applied) == len(refused)
    written = {tensor.name for tensor in read(data).tensors}
    assert all(a.why and any(a.output in name for name in written) for a in applied)
    assert {a.rewrite for a in applied} <= {each.name for each in chosen.rewrites}
    assert all(v.outcome == "accelerated" for v in apply_rules(read(new), chosen.rules))
    assert (new == data) == (not kinds)
    assert list(specification(read(new))) == []
    verify(read(new), chosen, [INPUT_RANGE, *ranges_of(network).values()])
    image = np.rint(noise_images(still(network))[:1] * 255 - 128).astype(np.int8)
    before, after = run(data, image), run(new, image)
    assert len(np.unique(before)) > 20
    assert (np.abs(before.astype(int) - after) <= 2).mean() > 0.999
    assert (before.argmax(-1) == after.argmax(-1)).mean() > 0.98


def test_every_rewrite_of_every_target_is_tested_here():
    tested = {replacement for _, replacement in CASES} | {PADDING_FOLDED}
    used = {replacement for name in targets().values() for replacement in name.rewrites}
    assert {replacement.name for replacement in used} <= {replacement.name for replacement in tested} and len(
        {replacement.name for replacement in tested}
    ) == len(tested)


def test_what_is_not_equal_is_never_made_unasked():
    assert all(replacement.exact for name in targets().values() for replacement in name.rewrites)
    asked_for = {replacement for name in targets().values() for replacement in name.approximations}
    assert asked_for == {RESIZE_CHAIN} and not RESIZE_CHAIN.exact


# A chain of resizes, which is not equal


def doubled(x):
    """Half-pixel centres, by hand: between two samples lie one at 1/4 and one at 3/4; borders are repeated."""
    for axis in (0, 1):
        x = np.moveaxis(x, axis, 0)
        before, after = np.concatenate([x[:1], x[:-1]]), np.concatenate([x[1:], x[-1:]])
        x = np.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], 1).reshape(-1, *x.shape[1:])
        x = np.moveaxis(x, 0, axis)
    return x


@pytest.mark.parametrize("times", [2, 3, 4])
def test_a_chain_is_doublings_and_not_the_resize(times):
    data = model(resize("last", (6, 7), (6 << times, 7 << times), half=True))
    new = rewritten(data, RESIZE_CHAIN)
    assert [op.name for op in read(new).ops] == ["RESIZE_BILINEAR"] * times
    assert all(op.options["halfPixelCenters"] and not op.options["alignCorners"] for op in read(new).ops)
    image = np.random.default_rng(0).integers(-128, 128, (1, 6, 7, 8), dtype=np.int8)
    expected = image[0].astype(float)
    for _ in range(times):
        expected = doubled(expected)
    chained = run(new, image)[0]
    assert np.abs(chained - expected).max() <= 0.5 * times + 0.1  # each rounds once
    assert np.abs(chained.astype(int) - run(data, image)[0]).max() > 10


@pytest.mark.parametrize(
    ("case", "replacement"),
    [
        (resize("aligned", (6, 7), (48, 56), align=True), RESIZE_CHAIN),
        (resize("aligned doublings", (6, 7), (41, 49), align=True), RESIZE_CHAIN),
        (resize("legacy", (6, 7), (48, 56)), RESIZE_CHAIN),
        (resize("x2", (6, 7), (12, 14), half=True), RESIZE_CHAIN),
        (resize("x6", (6, 7), (36, 42), half=True), RESIZE_CHAIN),
        (resize("x4 by x8", (6, 7), (24, 56), half=True), RESIZE_CHAIN),
        (resize("down", (48, 56), (6, 7), half=True), RESIZE_CHAIN),
        (resize("float", (6, 7), (48, 56), half=True, dtype="float32"), RESIZE_CHAIN),
    ],
    ids=lambda value: str(getattr(value, "name", value)),
)
def test_a_resize_without_a_chain_of_its_own_convention_is_left_alone(case, replacement):
    assert rewritten(model(case), replacement) is None


@pytest.mark.parametrize(
    ("then", "version", "table", "last"),
    [("RELU", 2, "", False), ("SOFTMAX", 2, "SoftmaxOptions", True), ("ARG_MAX", 2, "ArgMaxOptions", True)],
)
def test_only_the_last_resize_becomes_a_chain(then, version, table, last):
    edit = GraphEdit(model(resize("last", (6, 7), (24, 28), half=True)))
    op = edit.op(0)
    resized = edit.like(op.inputs[0], "made", (1, 24, 28, 8))
    edit.replace(
        0,
        [
            edit.new_op("RESIZE_BILINEAR", 3, op.inputs, [resized], "ResizeBilinearOptions", halfPixelCenters=True),
            edit.new_op(then, version, [resized], op.outputs, table),
        ],
    )
    assert (rewritten(edit.to_bytes(), RESIZE_CHAIN) is not None) == last


# Padding


def after_padding(case, rows, columns):
    """The case's op, which pads nothing itself, behind a PAD of ((top, bottom), (left, right))."""
    edit = GraphEdit(model(case))
    op = edit.op(0)
    data = int(op.inputs[0])
    batch, height, width, channels = edit.tensor(data).shape
    padded = edit.like(data, "padded", (batch, height, width, channels))
    edit.tensor(data).shape = [batch, height - sum(rows), width - sum(columns), channels]
    borders = edit.constant("borders", np.array([(0, 0), rows, columns, (0, 0)], np.int32))
    pad = edit.new_op("PAD", 2, [data, borders], [padded], "PadOptions")
    op.inputs = [padded, *op.inputs[1:]]
    edit.replace(0, [pad, op])
    return edit.to_bytes()


DEPTHWISE: dict[str, Any] = {"op": "DEPTHWISE_CONV_2D", "padding": VALID}
FOLDED = [
    (conv("3x3", padding=VALID), (1, 1), (1, 1)),
    (conv("1x3", kernel=1, padding=VALID), (0, 0), (0, 0)),
    (conv("7x7 stride 2 odd", kernel=7, stride=2, padding=VALID, size=(39, 41)), (3, 3), (3, 3)),
    (conv("dilated 2", dilation=2, padding=VALID, size=(20, 20)), (2, 2), (2, 2)),
    (conv("depthwise stride 2 even", stride=2, size=(17, 19), **DEPTHWISE), (0, 1), (0, 1)),
    (conv("depthwise stride 2 odd", stride=2, size=(19, 21), **DEPTHWISE), (1, 1), (1, 1)),
    (conv("more than is read", stride=2, size=(18, 20), **DEPTHWISE), (0, 2), (0, 2)),
    (moved(pool("maximum", "MAX_POOL_2D", (3, 3), (2, 2), size=(17, 19)), -128), (0, 1), (0, 1)),
]
NOT_FOLDED = [
    (conv("symmetric, stride 2, even", stride=2, size=(18, 20), **DEPTHWISE), (1, 1), (1, 1)),
    (conv("too little", padding=VALID), (1, 0), (1, 1)),
    (conv("too much", padding=VALID), (2, 2), (1, 1)),
    (conv("in front", stride=2, size=(17, 19), **DEPTHWISE), (1, 0), (1, 0)),
    (pool("maximum of negative numbers", "MAX_POOL_2D", (3, 3), (2, 2), size=(17, 19)), (0, 1), (0, 1)),
    (moved(pool("average", "AVERAGE_POOL_2D", (3, 3), (2, 2), size=(17, 19)), -128), (0, 1), (0, 1)),
    (conv("pads itself, too", op="DEPTHWISE_CONV_2D"), (1, 1), (1, 1)),
    (conv("float", "float32", padding=VALID), (1, 1), (1, 1)),
]


@pytest.mark.parametrize(("case", "rows", "columns"), FOLDED, ids=lambda value: str(getattr(value, "name", "")))
def test_padding_is_folded_where_the_op_adds_the_same(case, rows, columns):
    case = moved(case, -128 if case.op == "MAX_POOL_2D" else -20)
    data = after_padding(case, rows, columns)
    new, applied = rewrite(data, target("cpu"))
    assert [op.name for op in read(new).ops] == [case.op] and [(a.rewrite, a.op) for a in applied] == [("fold", "PAD")]
    assert read(new).ops[0].options["padding"] == "SAME"
    rng = np.random.default_rng(0)
    for _ in range(4):
        image = rng.integers(-128, 128, read(data).tensors[read(data).inputs[0]].shape, dtype=np.int8)
        before = run(data, image)
        assert np.array_equal(before, run(new, image)) and len(np.unique(before)) > 20


@pytest.mark.parametrize(("case", "rows", "columns"), NOT_FOLDED, ids=lambda value: str(getattr(value, "name", "")))
def test_padding_that_the_op_would_not_add_so_stays(case, rows, columns):
    data = after_padding(case, rows, columns)
    assert rewrite(data, target("cpu")) == (data, ())


def test_padding_that_another_op_reads_too_stays():
    data = after_padding(conv("3x3", padding=VALID), (1, 1), (1, 1))
    edit = GraphEdit(data)
    shown = edit.like(edit.op(0).outputs[0], "shown", edit.tensor(edit.op(0).outputs[0]).shape)
    edit.replace(1, [edit.op(1), edit.new_op("RELU", 2, edit.op(0).outputs, [shown])])
    edit.graph.outputs = [*edit.graph.outputs, shown]
    data = edit.to_bytes()
    assert rewrite(data, target("cpu")) == (data, ())


def test_padding_stays_where_the_target_would_then_not_take_its_reader():
    """Vela takes a stride of 4 where nothing is padded."""
    data = after_padding(conv("stride 4", kernel=7, stride=4, padding=VALID, size=(35, 35)), (1, 2), (1, 2))
    assert [a.rewrite for a in rewrite(data, target("cpu"))[1]] == ["fold"]
    assert rewrite(data, target("ethos-u55")) == (data, ())


def test_a_rewrite_whose_result_the_target_refuses_is_not_made():
    nothing = target("ethos-u55")
    rules = dataclasses.replace(nothing.rules, ops={k: v for k, v in nothing.rules.ops.items() if k != "TRANSPOSE"})
    data = model(resize("fusion", (12, 15), (45, 60), align=True))
    assert rewrite(data, dataclasses.replace(nothing, rules=rules)) == (data, ())
    assert rewrite(data, nothing)[1] != ()
    assert rewrite(data, target("ethos-u85")) == (data, ())  # the last resize of a graph stays as it is there


def test_types_change_at_the_border_and_not_inside():
    from pipeline.tflite.edit import GraphEdit
    from pipeline.tflite.verify import verify

    graph = read(rewritten(model(camera("camera")), BYTES_THROUGH_FLOAT))
    assert [op.name for op in graph.ops] == ["DEQUANTIZE", "QUANTIZE"] and all(map(graph.at_border, graph.ops))
    edit = GraphEdit(model(camera("camera")))
    (source,), (result,) = edit.op(0).inputs, edit.op(0).outputs
    a, b = (edit.like(result, name, (1, 16, 16, 8)) for name in "ab")
    f, g, h = (edit.float_like(source, name) for name in "fgh")
    steps = [(source, f), (f, a), (a, g), (g, b), (b, h), (h, result)]
    names = ["DEQUANTIZE", "QUANTIZE"] * 3
    edit.replace(
        0, [edit.new_op(n, 2, [x], [y], f"{n.title()}Options") for n, (x, y) in zip(names, steps, strict=True)]
    )
    graph = read(edit.to_bytes())
    assert [graph.at_border(op) for op in graph.ops] == [True, True, False, False, True, True]
    with pytest.raises(ContractViolation, match="op 2 DEQUANTIZE .*changes the range inside.*op 3 QUANTIZE"):
        verify(graph, target("cpu"), [Range(0.0, 1.0)])
    edit = GraphEdit(model(camera("camera")))
    a, b, c = (edit.like(result, name, (1, 16, 16, 8)) for name in "abc")
    steps = [(source, a), (a, b), (b, c), (c, result)]
    edit.replace(0, [edit.new_op("QUANTIZE", 2, [x], [y], "QuantizeOptions") for x, y in steps])
    graph = read(edit.to_bytes())
    assert [graph.at_border(op) for op in graph.ops] == [True, False, False, True]


def test_what_is_only_slow_is_rewritten_for_the_target_that_is_faster_without_it():
    data = model(conv("first", size=(16, 24), channels=(3, 8), stride=2))
    assert rewrite(data, target("cpu")) == (data, ())
    only_refused = dataclasses.replace(target("cpu"), rewrites=(dataclasses.replace(PIXELS_AS_CHANNELS, always=""),))
    assert rewrite(data, only_refused) == (data, ())
    new, (applied,) = rewrite(data, target("cpu-amx"))
    assert (applied.op, applied.rewrite) == ("CONV_2D", "groups") and "AMX" in applied.why
    assert [op.name for op in read(new).ops] == ["RESHAPE", "CONV_2D", "RESHAPE"]
    assert rewrite(new, target("cpu-amx")) == (new, ())
