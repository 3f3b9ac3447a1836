"""Google's Tensor, compiled ahead of time by its ML SDK through LiteRT's plugin.

The rules say what the plugin passes to the SDK: all ops but a list. They follow its source, and are tested against the
plugin with a stand-in for the SDK (tests/targets/test_vendor_plugins.py). The SDK itself was not available.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.compilers.litert_aot import Vendor, folder_of, installed, target_of
from pipeline.core.graph import TYPE_BITS
from pipeline.core.rules import Rule, Rules
from pipeline.tflite.read import OP_NAMES

PACKAGE = "ai-edge-litert-sdk-google-tensor"
VARIABLE = "GOOGLE_TENSOR_COMPILER_LIB"
"""Environment variable with the folder of the compiler, which LiteRT reads where PACKAGE is not installed."""
COMPILER = "liblitert_plugin_compiler.so"
SOCS = ("Tensor_G5", "Tensor_G3", "Tensor_G4", "Tensor_G6")
"""ai_edge_litert/aot/vendors/google_tensor/target.py."""


def libraries(soc: str) -> tuple[Path, ...]:
    package = folder_of("ai_edge_litert_sdk_google_tensor")
    folders = [package / "data" if package else None, Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None]
    return tuple(folder for folder in folders if folder and (folder / COMPILER).is_file())


def ready(soc: str) -> str | None:
    if libraries(soc):
        return None
    return f"`pip install {PACKAGE}`, which downloads Google's SDK, or {VARIABLE} set to the folder of {COMPILER}"


VENDOR = Vendor(
    aliases=("pixel", "tensor"),
    manufacturer="Google",
    plugin="google_tensor",
    libraries=libraries,
    ready=ready,
    by=lambda: f"Google Tensor ML SDK ({f'{PACKAGE} {installed(PACKAGE)}' if installed(PACKAGE) else VARIABLE})",
)
SOURCE = "litert/vendors/google_tensor/compiler/compiler_plugin.cc, kUnSupportedOps"
CAVEAT = "The rules are those of LiteRT's plugin for Google Tensor; Google's SDK may refuse more ops"
NOT_TAKEN = (
    "ASSIGN_VARIABLE BIDIRECTIONAL_SEQUENCE_LSTM BROADCAST_ARGS BUCKETIZE CALL_ONCE COMPLEX_ABS CONV_3D_TRANSPOSE"
    " DENSIFY FAKE_QUANT HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE IMAG LOCAL_RESPONSE_NORMALIZATION"
    " MATRIX_DIAG MATRIX_SET_DIAG MULTINOMIAL NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 RANDOM_STANDARD_NORMAL"
    " RANDOM_UNIFORM RANK READ_VARIABLE REAL REDUCE_PROD REVERSE_SEQUENCE RFFT2D SEGMENT_SUM SHAPE SPARSE_TO_DENSE"
    " SVDF UNIDIRECTIONAL_SEQUENCE_RNN UNIQUE UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_PROD"
    " UNSORTED_SEGMENT_SUM VAR_HANDLE WHERE CUSTOM STABLEHLO_SCATTER STABLEHLO_REDUCE_WINDOW"
    " STABLEHLO_COMPOSITE"  # it takes three of these, for language models
).split()
RULES = Rules(
    ops={name: Rule(tuple(TYPE_BITS), SOURCE) for name in OP_NAMES.values() if name not in NOT_TAKEN},
    source=SOURCE,
    caveat=CAVEAT,
)
GOOGLE_TENSOR = target_of(
    VENDOR, "google-tensor", "Google Tensor TPU", SOCS, "LiteRT's plugin for Google Tensor, which asks its SDK", RULES
)
