"""Coral's Edge TPU. Its compiler (16.0, the last one) takes no op version newer than those below."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from pipeline.nouns.errors import CompilerError
from pipeline.nouns.target import Compiled, Target

COMPILER = "edgetpu_compiler"
TIMEOUT_SECONDS = 600
SMALLEST_RESULT_BYTES = 4096
"""A failed run can leave a stub of about 1 KB and still exit 0."""

OP_VERSIONS = {
    "ADD": 2, "ARG_MAX": 2, "AVERAGE_POOL_2D": 2, "CONCATENATION": 2, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3,
    "DEQUANTIZE": 2, "FULLY_CONNECTED": 4, "LOGISTIC": 2, "MAX_POOL_2D": 2, "MEAN": 2, "MUL": 2, "PAD": 2,
    "QUANTIZE": 2, "RELU": 2, "RELU6": 2, "RESHAPE": 1, "RESIZE_BILINEAR": 2, "RESIZE_NEAREST_NEIGHBOR": 2,
    "SOFTMAX": 2, "STRIDED_SLICE": 2, "TRANSPOSE_CONV": 3,
}  # fmt: skip


def compile_edgetpu(artifact: Path) -> Compiled:
    """Runs edgetpu_compiler when it is on PATH; raises CompilerError when it fails."""
    compiler = shutil.which(COMPILER)
    command = f"{COMPILER} -s -o {artifact.parent} {artifact}"
    if compiler is None:
        return Compiled(
            None,
            f"not compiled: {COMPILER} is not on PATH. Install Coral's Debian package edgetpu-compiler (x86-64 Linux)"
            f" and run this command again, or run `{command}` where it is.",
        )
    result = artifact.with_name(f"{artifact.stem}_edgetpu.tflite")
    with tempfile.TemporaryDirectory(dir=artifact.parent, prefix=".edgetpu-") as scratch:
        try:
            done = subprocess.run(
                [compiler, "-s", "-o", scratch, str(artifact)],
                capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CompilerError(f"{COMPILER} did not finish ({error}); the uncompiled file is {artifact}.") from None
        made = Path(scratch) / result.name
        whole = made.is_file() and made.stat().st_size >= SMALLEST_RESULT_BYTES
        if done.returncode != 0 or not whole:
            said = (done.stdout + done.stderr).strip().splitlines() or ["nothing"]
            last = next((line for line in said if "rror" in line or "ailed" in line or "nvalid" in line), said[-1])
            raise CompilerError(
                f"{COMPILER} ended with exit code {done.returncode} and {'a' if whole else 'no'} compiled file; it"
                f" said: {last.strip()} The uncompiled file is {artifact}."
            )
        log = made.with_suffix(".log")
        if log.is_file():
            log.replace(result.with_suffix(".log"))
        made.replace(result)
    return Compiled(result, f"compiled by {COMPILER}: {result.name}")


EDGETPU = Target(
    name="edgetpu",
    title="Coral Edge TPU",
    weights="int8",
    io=("int8", "uint8"),
    source="edgetpu_compiler 16.0.384591198; google-coral/edgetpu issues #631, #845",
    op_versions=OP_VERSIONS,
    compile=compile_edgetpu,
    compiled_suffix="_edgetpu.tflite",
)
