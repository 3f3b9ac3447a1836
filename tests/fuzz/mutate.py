"""Changes a file so that most of it still makes sense: bytes, fields of a flatbuffer, values of a JSON text."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

WORDS = (0, 1, 2, 3, 4, 7, 0xFF, 0xFFFF, 0x40000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFE, 0xFFFFFFFF)
NAMES = (
    "",
    "[/]",
    "[red]a[/blue]",
    "\x1b[2J",
    "\x1b]0;x\x07",
    "\u202eb",
    "a" * 100_000,
    "\n",
    ";",
    "//;",
    "a\0b",
    "../../x",
)
SIZES = (0, -1, -2, 1, 2, 3, 255, 65536, 1_000_003, 2**31 - 1, -(2**31))
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 5, 0.5, -0.0, 1e-45, 1e308, -1e308, 2**31, 2**63, 2**127, "", "x", *NAMES, "1",
    "nan", [], {}, [1], [1, 2], ["a", "b"], [[]], [[1, 2, 3]], {"a": 1}, {"": None},
)  # fmt: skip


def mutant(seed: bytes, rng: random.Random) -> bytes:
    """``seed`` changed in one of the ways, which the kind of file allows."""
    ways = [_bits, _bytes, _cut, _more, _words, _copied]
    if seed[4:8] == b"TFL3":
        ways += [_words, _words, _fields, _fields, _fields, _fields]
    elif seed[:1] == b"{":
        ways += [_value, _value, _value, _value, _value]
    return rng.choice(ways)(seed, rng)


def _bits(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _bytes(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    first, last = rng.choice(((0, min(2000, len(data))), (max(0, len(data) - 2000), len(data))))
    for _ in range(rng.choice((1, 2, 4))):
        changed[rng.randrange(first, last)] = rng.randrange(256)
    return bytes(changed)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.choice((0, 1, 8, len(data) - 1, rng.randrange(len(data))))]


def _more(data: bytes, rng: random.Random) -> bytes:
    return data + rng.choice((b"\0", b"\xff" * 64, rng.randbytes(1000), data))


def _copied(data: bytes, rng: random.Random) -> bytes:
    """A piece of it stands in place of another."""
    length = rng.randrange(1, max(2, len(data) // 4))
    start, to = rng.randrange(len(data)), rng.randrange(len(data))
    return data[:to] + data[start : start + length] + data[to + length :]


def _words(data: bytes, rng: random.Random) -> bytes:
    """Offsets and lengths: aligned words that could be one."""
    changed = bytearray(data)
    if len(changed) < 16:
        return _bits(data, rng)
    at = rng.randrange(0, (len(changed) - 4) // 4) * 4
    around = range(max(0, at - 4000) // 4 * 4, min(len(changed) - 4, at + 4000), 4)
    places = [i for i in around if 0 < struct.unpack_from("<I", changed, i)[0] < len(changed)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        i = rng.choice(places or [at])
        old = struct.unpack_from("<I", changed, i)[0]
        near = (old + 4, old - 4, old * 2, len(changed), len(changed) - 4, rng.getrandbits(32))
        struct.pack_into("<I", changed, i, rng.choice((*WORDS, *near)) & 0xFFFFFFFF)
    return bytes(changed)


def _value(data: bytes, rng: random.Random) -> bytes:
    """A value of a JSON text, or a key, becomes another."""
    content = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place, key = content, None
        while isinstance(place, dict | list) and place:
            key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))  # type: ignore[arg-type]
            if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.3:
                break
            place = place[key]
        if key is None or not isinstance(place, dict | list):
            continue
        what = rng.random()
        if what < 0.15 and isinstance(place, dict):
            del place[key]
        elif what < 0.25 and isinstance(place, dict):
            place[rng.choice(NAMES)] = place[key]
        else:
            place[key] = rng.choice(VALUES)
    text = json.dumps(content)
    if rng.random() < 0.1:
        text = text.replace("0", rng.choice(("NaN", "1e999", "Infinity", "9" * 5000, "[" * 5000)), 1)
    return text.encode()


def _fields(data: bytes, rng: random.Random) -> bytes:
    """Fields of the schema's objects; the file stays a flatbuffer."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice((_tensor, _tensor, _op, _op, _code, _model))(model, rng)
    builder = flatbuffers.Builder(len(data) + 65536)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(model: Any, rng: random.Random) -> None:
    tensor = rng.choice(model.subgraphs[0].tensors)
    what = rng.choice(("size", "rank", "type", "buffer", "name", "scale", "zero", "axis", "signature"))
    if tensor.quantization is None:
        tensor.quantization = schema.QuantizationParametersT()
    if what == "size":
        shape = [1] if tensor.shape is None or not len(tensor.shape) else list(tensor.shape)
        shape[rng.randrange(len(shape))] = rng.choice(SIZES)
        tensor.shape = shape
    elif what == "rank":
        tensor.shape = [rng.choice((1, 2, 65536, 2**31 - 1))] * rng.choice((0, 1, 2, 3, 5, 9, 40, 254, 300))
    elif what == "type":
        tensor.type = rng.randrange(24)
    elif what == "buffer":
        tensor.buffer = rng.choice((0, 1, len(model.buffers) - 1, len(model.buffers), 2**32 - 1))
    elif what == "name":
        tensor.name = rng.choice((*NAMES, b"\xff\xfe", None))
    elif what == "scale":
        scales: tuple[list[float], ...] = (
            [],
            [0.0],
            [float("nan")],
            [float("inf")],
            [-1.0],
            [1e-45] * 3,
            [1e38] * 1000,
        )
        tensor.quantization.scale = np.asarray(rng.choice(scales), np.float32)
    elif what == "zero":
        tensor.quantization.zeroPoint = np.asarray(rng.choice(([], [2**63 - 1], [-(2**63)], [300])), np.int64)
    elif what == "axis":
        tensor.quantization.quantizedDimension = rng.choice((-1, 4, 99, 2**31 - 1))
    else:
        tensor.shapeSignature = [rng.choice((-1, 1, 8))] * rng.choice((0, 1, 4, 5))


def _op(model: Any, rng: random.Random) -> None:
    graph = model.subgraphs[0]
    if not graph.operators:
        return
    op, count = rng.choice(graph.operators), len(graph.tensors)
    what = rng.choice(("inputs", "inputs", "outputs", "option", "option", "options", "code", "order", "twice"))
    if what == "inputs":
        op.inputs = rng.choice(([], [-1], [-1] * 3, [0], [-2], [count], [0] * 5000, None, [rng.randrange(count)] * 4))
    elif what == "outputs":
        op.outputs = rng.choice(([], [-1], [0], [count], None, [0] * 3, [rng.randrange(count)]))
    elif what == "option" and op.builtinOptions is not None and vars(op.builtinOptions):
        key = rng.choice(list(vars(op.builtinOptions)))
        old = getattr(op.builtinOptions, key)
        new = not old if isinstance(old, bool) else rng.choice((0, -1, 1, 100, 127)) if isinstance(old, int) else old
        setattr(op.builtinOptions, key, rng.choice((0.0, float("nan"), -1e30)) if isinstance(old, float) else new)
    elif what == "options":
        kinds = ((0, None), (schema.BuiltinOptions.SkipGramOptions, schema.SkipGramOptionsT()))
        op.builtinOptionsType, op.builtinOptions = rng.choice(kinds)
    elif what == "code":
        op.opcodeIndex = rng.choice((0, 1, len(model.operatorCodes), 2**32 - 1))
    elif what == "order":
        rng.shuffle(graph.operators)
    elif what == "twice":
        graph.operators = [*graph.operators, op]


def _code(model: Any, rng: random.Random) -> None:
    if not model.operatorCodes:
        return
    code = rng.choice(model.operatorCodes)
    what = rng.choice(("known", "known", "unknown", "custom", "version"))
    if what == "known":
        code.builtinCode = rng.randrange(210)
        code.deprecatedBuiltinCode = min(127, code.builtinCode)
    elif what == "unknown":
        code.builtinCode = rng.choice((500, 2**31 - 1, -1, -5))
    elif what == "custom":
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = rng.choice((*NAMES, "edgetpu-custom-op", "DISPATCH_OP", b"\xff"))
    else:
        code.version = rng.choice((0, -1, 1, 2, 99, 2**31 - 1))


def _model(model: Any, rng: random.Random) -> None:
    graph, count = model.subgraphs[0], len(model.subgraphs[0].tensors)
    what = rng.choice(("inputs", "outputs", "graphs", "far", "odd", "metadata", "recipe", "no ops"))
    if what in ("inputs", "outputs"):
        setattr(graph, what, rng.choice(([], [-1], [0], [count], None, [0] * 1000)))
    elif what == "graphs":
        model.subgraphs = [graph] * rng.choice((1, 3))
    elif what == "far":
        buffer = rng.choice(model.buffers)
        buffer.data, buffer.offset = None, rng.choice((2, 2**40, 2**64 - 1))
        buffer.size = rng.choice((0, 1, 2**40, 2**64 - 1))
    elif what == "odd":
        rng.choice(model.buffers).data = np.zeros(rng.choice((1, 2, 3, 5, 7, 15)), np.uint8)
    elif what == "no ops":
        graph.operators = []
    else:
        texts = (b"[]", b"5", b"null", b"{", b"\xff", b"[" * 100_000, b'{"schema": 1, "target": 5}', b'"abc"', b"")
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(rng.choice(texts), np.uint8)
        model.buffers = [*model.buffers, buffer]
        known = "segquant.recipe" if what == "recipe" else rng.choice(("", None, b"\xff", "TFLITE_METADATA"))
        entry.name, entry.buffer = known, rng.choice((len(model.buffers) - 1, len(model.buffers) - 1, 0, 2**32 - 1))
        model.metadata = [entry]
