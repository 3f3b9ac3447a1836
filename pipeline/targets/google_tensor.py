"""Google's Tensor, compiled ahead of time by its ML SDK through LiteRT's plugin."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.targets.litert_aot import Vendor, folder_of, installed, target_of

PACKAGE = "ai-edge-litert-sdk-google-tensor"
VARIABLE = "GOOGLE_TENSOR_COMPILER_LIB"
"""Names the folder of the compiler where PACKAGE is not installed, as LiteRT itself has it."""
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
    manufacturer="Google", plugin="google_tensor", libraries=libraries, ready=ready,
    by=lambda: f"Google Tensor ML SDK ({f'{PACKAGE} {installed(PACKAGE)}' if installed(PACKAGE) else VARIABLE})",
)  # fmt: skip
GOOGLE_TENSOR = target_of(
    VENDOR, "google-tensor", "Google Tensor TPU", SOCS, "LiteRT's plugin for Google Tensor, which asks its SDK", None
)
