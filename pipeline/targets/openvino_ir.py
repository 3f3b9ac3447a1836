"""OpenVINO itself, without LiteRT: its own file (IR), for CPUs of x86 and ARM.

OpenVINO reads .tflite files, int8 ones with their ranges, but computes depthwise convolutions in bfloat16, because it
does not see that their kernels are int8 (see ``openvino_ir_worker``). Written down as it wants them they run in int8:
Fast-SCNN to the logits of stride 8 at 360x480 then takes 0.7 of the time (a Xeon with AMX, one thread, in turns).
results/peers.json has it beside LiteRT. It rounds in its own places, so its numbers are not LiteRT's; `bench --device
host-openvino` measures the file itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.nouns.errors import CompilerError
from pipeline.nouns.rules import Rule, Rules, Verdict
from pipeline.nouns.said import how_it_ended, why_it_failed
from pipeline.nouns.target import Answer, Compiled, Target
from pipeline.nouns.tflite import Graph, read
from pipeline.targets.checks import not_both_resize_modes
from pipeline.targets.litert_aot import installed
from pipeline.targets.openvino import ANYTHING, INSTALL, no_int16
from pipeline.targets.rewrites import PADDING_FOLDED

SUFFIX = "_openvino.xml"
WORKER = Path(__file__).with_name("openvino_ir_worker.py")
TIMEOUT_SECONDS = 600
SOURCE = "OpenVINO 2026.3.1, asked op by op; openvino/src/frontends/tensorflow_lite/src/op_table.cpp"
PLAIN = (
    "ABS ADD ADD_N ARG_MAX ARG_MIN AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_TO CAST CEIL CONCATENATION"
    " CONV_2D COS DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV ELU EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV"
    " FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GELU GREATER GREATER_EQUAL HARD_SWISH L2_NORMALIZATION LEAKY_RELU LESS"
    " LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM"
    " MIRROR_PAD MUL NEG NOT_EQUAL ONE_HOT PACK PAD PADV2 POW PRELU RANGE REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN"
    " REDUCE_PROD RELU RELU6 RELU_0_TO_1 RESHAPE REVERSE_V2 ROUND RSQRT SCATTER_ND SELECT SELECT_V2 SIGN SIN SLICE"
    " SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB"
    " SUM TANH TILE TOPK_V2 TRANSPOSE TRANSPOSE_CONV UNPACK WHERE ZEROS_LIKE"
).split()


RULES = Rules(
    ops={
        **{op: Rule(ANYTHING, SOURCE) for op in PLAIN},
        "QUANTIZE": Rule(ANYTHING, SOURCE, checks=(no_int16,)),
        "RESIZE_BILINEAR": Rule(ANYTHING, SOURCE, checks=(not_both_resize_modes,)),
        "RESIZE_NEAREST_NEIGHBOR": Rule(ANYTHING, SOURCE, checks=(not_both_resize_modes,)),
    },
    source=SOURCE,
    partitions="whole",
)


def missing() -> str | None:
    return None if installed("openvino") else f"`{INSTALL}`"


def by() -> str:
    return f"OpenVINO {installed('openvino')}"


def worker(*arguments: str, given: str = "") -> str:
    """What ``openvino_ir_worker`` prints; raises CompilerError with the last line that OpenVINO said."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(WORKER), *arguments], input=given, capture_output=True, text=True,
            errors="replace", timeout=TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CompilerError(f"{by()} did not end in {TIMEOUT_SECONDS} s.") from None
    if done.returncode:
        raise CompilerError(f"{by()}: {why_it_failed(done.stderr)} ({how_it_ended(done.returncode)}).")
    return done.stdout


def refusals(files: Sequence[Path]) -> list[str | None]:
    """Of each file what OpenVINO says where it does not take it, else None; raises CompilerError."""
    return [json.loads(line) for line in worker("check", *map(str, files)).splitlines()]


def ask(file: Path, graph: Graph) -> Answer:
    """It takes a file as a whole or not at all."""
    if command := missing():
        return Answer(None, f"OpenVINO is not installed; it needs {command}")
    try:
        (refused,) = refusals([file])
    except CompilerError as error:
        return Answer(None, str(error))
    if refused is None:
        return Answer(tuple(Verdict(op.index, "accelerated", "", by(), by()) for op in graph.ops), by())
    return Answer(tuple(Verdict(op.index, "refused", refused, by(), by()) for op in graph.ops), by())


def compile_file(artifact: Path) -> Compiled:
    """Writes the IR beside the artifact, whose recipe goes into it; raises CompilerError with what OpenVINO said."""
    if command := missing():
        return Compiled(None, f"not compiled: OpenVINO is not installed. It needs {command}. Then repeat this command.")
    graph = read(artifact.read_bytes(), str(artifact))
    result = graph.tensors[graph.outputs[0]]
    scale, zero_point = (result.scale[0], result.zero_point[0]) if result.scale else (0.0, 0)
    kept = {"recipe": json.dumps(graph.recipe()), "output_scale": repr(scale), "output_zero_point": repr(zero_point)}
    made = artifact.with_name(f"{artifact.stem}{SUFFIX}")
    with tempfile.TemporaryDirectory(prefix=".openvino-", dir=artifact.parent) as scratch:
        written = Path(scratch) / made.name
        worker("write", str(artifact), str(written), given=json.dumps(kept))
        for suffix in (".bin", ".xml"):  # the one that is opened last
            os.replace(written.with_suffix(suffix), made.with_suffix(suffix))
    return Compiled(made, f"written by {by()}: {made.name}, its weights in {made.with_suffix('.bin').name}")


OPENVINO_IR = Target(
    name="openvino-ir",
    title="OpenVINO itself, on CPUs",
    weights="int8",
    io=("uint8", "int8", "float32"),
    source=SOURCE,
    rules=RULES,
    rewrites=(PADDING_FOLDED,),
    ask=ask,
    missing=missing,
    compile=compile_file,
    compiled_suffix=SUFFIX,
    companions=(".bin",),
    exact_mask=True,
)
