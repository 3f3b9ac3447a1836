"""The Edge TPU's rules against its real compiler: models that Coral published beside what its compiler made of them.

edgetpu_twins.txt has what was read from those files: a line per op, '+' where the compiler mapped it and '-' where it
left it to the CPU, its version, what it reads (an op's number, or a tensor: '=' for a constant, type, shape, '*' the
number of its scales '@' their axis, ':' its values), what it writes and its options. After a model's name: the bytes of
parameters in the compiled file. Those of google-coral/test_data came with compiler 16.0 (release Grouper, July 2021).
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.compilers.twin import verdicts_of_twin
from pipeline.core.graph import Graph, Op, Tensor
from pipeline.targets import target
from pipeline.targets.edgetpu import SOFTMAX_TABLE_BYTES, stored_bytes
from pipeline.tflite.apply_rules import apply_rules
from pipeline.tflite.partitions import after_partitioning

RULES = target("edgetpu").rules
WIDTH = {"int8": 1, "uint8": 1, "int16": 2, "int32": 4, "float32": 4}
FUSED = "fusedActivationFunction"
SIZES_KNOWN_ABOUT = {"bodypix_mobilenet_v1_075_512_512_16_quant_decoder", "movenet_single_pose_lightning_ptq"}
SIZES_UNKNOWN = {"keras_lstm_mnist_ptq", "split_concat"}
"""How an LSTM's kernels are laid out, and 192 bytes of a model that has no kernels."""


def tensor_of(text, name):
    constant, text = text.startswith("="), text.lstrip("=")
    text, _, values = text.partition(":")
    text, _, scales = text.partition("*")
    dtype, _, shape = text.partition(",")
    count, _, axis = scales.partition("@")
    shape = tuple(int(n) for n in shape.split("x")) if shape else ()
    elements = 1
    for n in shape:
        elements *= n
    quantized = dtype in ("int8", "uint8", "int16")
    return Tensor(
        name,
        shape,
        False,
        dtype,
        (0.1,) * (int(count or 1) if quantized else 0),
        (0,) if quantized else (),
        int(axis or 0),
        constant,
        elements * WIDTH[dtype] if constant else 0,
        values=tuple(int(v) for v in values.split("/")) if values else None,
    )


def option(text):
    key, _, value = text.partition("=")
    return key, value == "True" if value in ("True", "False") else int(value) if value.isdigit() else value


def graphs():
    """Model → its graph, whether each op was mapped, the bytes of parameters."""
    parts = {}
    for line in (Path(__file__).parents[1] / "support" / "edgetpu_twins.txt").read_text().splitlines():
        if line.startswith("model "):
            _, repository, name, stored = line.split()
            tensors: list[Tensor] = []
            ops: list[Op] = []
            mapped: list[bool] = []
            places: dict[str, int] = {}
            name = name if repository.endswith("test_data") else f"{name}, older"
            parts[name] = (tensors, ops, mapped, int(stored))
            continue
        head, reads, writes, written = (part.strip() for part in line.split("|"))
        status, op, *more = head.split()
        inputs = []
        for text in reads.split():
            if text in places or text == "-":
                inputs.append(places.get(text, -1))
            else:
                inputs.append(len(tensors))
                tensors.append(tensor_of(text, f"t{len(tensors)}"))
        outputs = []
        texts = writes.split()
        for k, text in enumerate(texts):
            places[f"{len(ops)}.{k}" if len(texts) > 1 else str(len(ops))] = len(tensors)
            outputs.append(len(tensors))
            tensors.append(tensor_of(text, f"t{len(tensors)}"))
        known: dict[str, Any] = {"dilationHFactor": 1, "dilationWFactor": 1, FUSED: "NONE", "axis": 3}
        options = {**known, **dict(option(text) for text in written.split())}
        ops.append(Op(len(ops), op, int(more[-1]), tuple(inputs), tuple(outputs), options, "custom" in more))
        mapped.append(status == "+")
    return {
        name: (Graph(tuple(ops), tuple(tensors), (), (), {}), mapped, stored)
        for name, (tensors, ops, mapped, stored) in parts.items()
    }


GRAPHS = graphs()


def test_the_models_are_many_and_have_both_answers():
    answers = Counter(yes for _, mapped, _ in GRAPHS.values() for yes in mapped)
    kinds = {op.name for graph, _, _ in GRAPHS.values() for op in graph.ops}
    assert len(GRAPHS) == 14 and answers == {True: 697, False: 79} and len(kinds) >= 25


@pytest.mark.parametrize("name", GRAPHS)
def test_the_rules_map_what_the_compiler_mapped(name):
    graph, mapped, _ = GRAPHS[name]
    verdicts = after_partitioning(graph, apply_rules(graph, RULES), RULES)
    wrong = [
        f"{v.op} {graph.ops[v.op].name}: by rule {v.outcome} ({v.reason}), in truth {'' if yes else 'not '}mapped"
        for v, yes in zip(verdicts, mapped, strict=True)
        if (v.outcome == "accelerated") != yes
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", [name for name in GRAPHS if name not in SIZES_UNKNOWN])
def test_the_parameters_take_the_bytes_that_the_compiler_laid_out(name):
    graph, mapped, stored = GRAPHS[name]
    ours = sum(stored_bytes(op, graph) for op, yes in zip(graph.ops, mapped, strict=True) if yes)
    if name.endswith("older") and any(op.name == "SOFTMAX" for op in graph.ops):
        ours -= SOFTMAX_TABLE_BYTES  # the compiler before 16.0 needed none
    assert ours == pytest.approx(stored, rel=0.004 if name in SIZES_KNOWN_ABOUT else 0)


def test_a_custom_op_that_the_model_had_before_is_left_to_the_cpu():
    """PosenetDecoderOp stands in the compiled file beside the compiler's own custom op."""
    image, middle, end = (tensor_of("uint8,1x8x8x4", name) for name in ("image", "made", "end"))
    ops = (Op(0, "CONV_2D", 1, (0,), (1,)), Op(1, "PosenetDecoderOp", 1, (1,), (2,), custom=True))
    compiled = (Op(0, "edgetpu-custom-op", 1, (0,), (1,), custom=True), ops[1])
    graph, twin = (Graph(these, (image, middle, end), (0,), (2,), {}) for these in (ops, compiled))
    assert [v.outcome for v in verdicts_of_twin(graph, twin, {}, "it")] == ["accelerated", "falls back"]
