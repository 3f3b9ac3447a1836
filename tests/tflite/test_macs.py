"""Multiply-accumulates: every op of the schema is decided, and each formula counts the products of the definition."""

import dataclasses
import itertools

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from pipeline.convert.convert_all import TargetOutcome
from pipeline.core.graph import Graph, Op, Tensor
from pipeline.core.inspection import Coverage
from pipeline.core.rules import Verdict
from pipeline.measure.inspect import coverage, inspect
from pipeline.report.inspection import show_inspection, show_outcomes
from pipeline.targets import target
from pipeline.tflite.macs import FORMULAS, UNCOUNTED, macs
from pipeline.tflite.read import OP_NAMES, read
from tests.support.single_ops import Case, Data, model


def test_every_op_of_the_schema_is_counted_or_said_to_have_none():
    every = {name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    assert every == set(OP_NAMES.values()) and len(every) > 200
    without = [name for names in UNCOUNTED.values() for name in names]
    assert len(without) == len(set(without)) and not set(without) & set(FORMULAS)
    assert set(without) | set(FORMULAS) == every


def counted(op, shapes, output, **options):
    """A graph of one op whose tensors have these shapes, None for an input that is absent."""
    tensors = [Tensor("t", s, False, "float32", (), (), 0, False, 0) for s in (*(x for x in shapes if x), output)]
    places = iter(range(len(tensors)))
    inputs = tuple(next(places) if shape else -1 for shape in shapes)
    graph = Graph((Op(0, op, 1, inputs, (len(tensors) - 1,), options),), tuple(tensors), (0,), (), {})
    return macs(graph.ops[0], graph)


def products_of_matmul(a, b, adj_x=False, adj_y=False):
    """Each value of NumPy's own product of ones is how many products it is the sum of."""
    left, right = np.ones(a), np.ones(b)
    return int(np.matmul(left.swapaxes(-1, -2) if adj_x else left, right.swapaxes(-1, -2) if adj_y else right).sum())


@pytest.mark.parametrize(
    ("a", "b", "output", "adj_x", "adj_y"),
    [
        ((4, 8), (8, 5), (4, 5), False, False),
        ((2, 4, 8), (2, 8, 5), (2, 4, 5), False, False),
        ((2, 8, 4), (2, 8, 5), (2, 4, 5), True, False),
        ((2, 4, 8), (2, 5, 8), (2, 4, 5), False, True),
        ((2, 3, 8, 4), (3, 5, 8), (2, 3, 4, 5), True, True),
        ((1, 4, 8), (6, 8, 5), (6, 4, 5), False, False),
    ],
)
def test_products_of_two_activations(a, b, output, adj_x, adj_y):
    options = {"adjX": adj_x, "adjY": adj_y}
    assert counted("BATCH_MATMUL", (a, b), output, **options) == products_of_matmul(a, b, adj_x, adj_y)


def test_a_product_in_a_file_is_read_with_its_options():
    left, right, output = (Data(shape, "float32") for shape in ((2, 8, 4), (2, 8, 5), (2, 4, 5)))
    case = Case("m", "BATCH_MATMUL", 1, (left, right), output, {"adjX": True})
    graph = read(model(case))
    assert macs(graph.ops[0], graph) == 2 * 4 * 5 * 8


def products_of_convolution(data, kernel_size, stride, output, groups=1, transposed=False):
    """By walking over all places: [d, h, w, channels] each; a kernel is [d, h, w]."""
    inside = 0
    if transposed:
        return int(np.prod(data)) * int(np.prod(kernel_size)) * output[-1]
    for _ in itertools.product(*(range(n) for n in output[:-1])):
        inside += int(np.prod(kernel_size)) * data[-1] // groups * output[-1]
    return inside


def test_convolutions_of_three_dimensions():
    data, output = (4, 5, 6, 3), (2, 3, 4, 7)
    assert counted("CONV_3D", ((1, *data), (3, 3, 3, 3, 7)), (1, *output)) == products_of_convolution(
        data, (3, 3, 3), 1, output
    )
    shapes = ((5,), (2, 2, 2, 7, 3), (1, *data))
    assert counted("CONV_3D_TRANSPOSE", shapes, (1, 8, 10, 12, 7)) == products_of_convolution(
        data, (2, 2, 2), 2, (8, 10, 12, 7), transposed=True
    )


def test_stablehlo():
    dot = counted("STABLEHLO_DOT_GENERAL", ((2, 4, 8), (2, 8, 5)), (2, 4, 5), lhsContractingDimensions=np.array([2]))
    assert dot == products_of_matmul((2, 4, 8), (2, 8, 5))
    how = {
        "kernelInputFeatureDimension": 2,
        "kernelOutputFeatureDimension": 3,
        "featureGroupCount": 2,
        "lhsDilation": None,
    }
    assert counted("STABLEHLO_CONVOLUTION", ((1, 8, 8, 4), (3, 3, 2, 6)), (1, 6, 6, 6), **how) == 36 * 6 * 9 * 2
    up = {**how, "featureGroupCount": 1, "lhsDilation": np.array([2, 2])}
    assert counted("STABLEHLO_CONVOLUTION", ((1, 8, 8, 4), (2, 2, 4, 6)), (1, 16, 16, 6), **up) == 8 * 8 * 4 * 4 * 6


def steps_of(weights, batch, steps):
    """Each step multiplies each vector of the batch by each matrix: as many products as the matrix has numbers."""
    return sum(int(np.ones(shape).size) for shape in weights if shape) * batch * steps


def test_recurrences():
    inputs, units, out, batch, steps = 5, 7, 3, 2, 4
    w, r, peephole, projection = (units, inputs), (units, out), (units,), (out, units)
    state, bias = (batch, units), (units,)
    assert counted("RNN", ((batch, inputs), w, (units, units), bias, state), state) == batch * (7 * 5 + 7 * 7)
    sequence = ((batch, steps, inputs), w, (units, units), bias, state)
    assert counted("UNIDIRECTIONAL_SEQUENCE_RNN", sequence, (batch, steps, units)) == steps_of(
        [w, (7, 7)], batch, steps
    )
    lstm = [w] * 4 + [r] * 4 + [peephole] * 3 + [bias] * 4 + [projection, None, (batch, out), state]
    matrices = [w] * 4 + [r] * 4 + [peephole] * 3 + [projection]
    for op in ("LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM"):
        first = (batch, inputs) if op == "LSTM" else (batch, steps, inputs)
        assert counted(op, (first, *lstm), (batch, out)) == steps_of(matrices, batch, 1 if op == "LSTM" else steps)
    coupled = [None, *lstm[1:4], None, *lstm[5:8], *[None] * 3, None, *lstm[12:15], None, None, (batch, units), state]
    assert counted("UNIDIRECTIONAL_SEQUENCE_LSTM", ((batch, steps, inputs), *coupled), (batch, out)) == steps_of(
        [w] * 3 + [r] * 3, batch, steps
    )
    direction = [w] * 4 + [r] * 4 + [peephole] * 3 + [bias] * 4 + [projection, None]
    both = [*direction, *direction, *[(batch, out), state] * 2, *[None] * 9]
    products = counted("BIDIRECTIONAL_SEQUENCE_LSTM", ((batch, steps, inputs), *both), (batch, steps, out))
    assert products == 2 * steps_of(matrices, batch, steps)
    basic = ((batch, inputs), (batch, units), (4 * units, inputs + units), (4 * units,), state)
    assert counted("LSTM", basic, state, kernelType=1) == batch * 4 * units * (inputs + units)
    ways = [w, (units, units), bias, state]
    rnn = counted(
        "BIDIRECTIONAL_SEQUENCE_RNN", ((batch, steps, inputs), *ways, *ways, None, None, None), (batch, steps, units)
    )
    assert rnn == 2 * steps_of([w, (units, units)], batch, steps)
    svdf = ((batch, inputs), (8, inputs), (8, 6), bias, (batch, 48))
    assert counted("SVDF", svdf, (batch, 8)) == batch * (8 * inputs + 8 * 6)


def test_a_sum_of_embeddings():
    shapes = ((9,), (9, 2), (2,), (9,), (100, 16))
    assert counted("EMBEDDING_LOOKUP_SPARSE", shapes, (3, 16)) == 9 * 16


@pytest.mark.parametrize("op", sorted(FORMULAS))
def test_a_malformed_op_counts_as_none(op):
    assert counted(op, (), (1, 2)) == 0 and counted(op, (None, None, None), (1, 2)) == 0


def a_coverage(total, taken):
    return Coverage(1, 1, total, taken, 1, 0, "rule")


def test_there_is_no_percentage_of_nothing(capsys):
    assert a_coverage(0, 0).macs_accelerated_percent is None and a_coverage(8, 2).macs_accelerated_percent == 25
    show_outcomes(
        [
            TargetOutcome("one", False, "done", coverage=a_coverage(0, 0)),
            TargetOutcome("two", False, "done", coverage=a_coverage(4, 1)),
        ]
    )
    rows = [line for line in capsys.readouterr().out.splitlines() if "1 of 1" in line]
    assert "%" not in rows[0] and "25.00 %" in rows[1]


@pytest.mark.parametrize(
    ("total", "words"), [(0, "none in the graph"), (24_576, "of 24,576"), (3_000_000, "of 3.0 million")]
)
def test_what_is_counted_is_said_in_numbers_that_can_be_read(total, words, capsys, tmp_path):
    file = tmp_path / "x.tflite"
    file.write_bytes(model(Case("relu", "RELU", 1, (Data((1, 4), "float32"),), Data((1, 4), "float32"))))
    seen = inspect(file, target("cpu"), compiler=False)
    seen = dataclasses.replace(seen, coverage=dataclasses.replace(seen.coverage, macs=total, macs_accelerated=total))
    show_inspection(seen, "x.tflite", False)
    out = capsys.readouterr().out
    assert words in out and ("%" in out) == (total > 0)


def test_coverage_counts_products_of_activations():
    case = Case("m", "BATCH_MATMUL", 1, (Data((4, 8), "float32"), Data((8, 5), "float32")), Data((4, 5), "float32"))
    graph = read(model(case))
    covered = coverage(graph, [Verdict(0, "falls back", "", "")], "rule")
    assert (covered.macs, covered.macs_accelerated) == (160, 0)
