"""Samsung's Exynos NPUs, compiled ahead of time by AI LiteCore through LiteRT's plugin."""

from __future__ import annotations

from pathlib import Path

from pipeline.targets.litert_aot import Vendor, folder_of, installed, target_of

PACKAGE = "ai-edge-litert-sdk-samsung"
SOCS = ("E9965",)
"""ai_edge_litert/aot/vendors/samsung/target.py; the Exynos 2600."""


def libraries(soc: str) -> tuple[Path, ...]:
    """The folders under PACKAGE that hold shared libraries: it is not on PyPI, so its layout is not known here."""
    package = folder_of("ai_edge_litert_sdk_samsung")
    return tuple(sorted({file.parent for file in package.rglob("*.so")})) if package else ()


def ready(soc: str) -> str | None:
    if libraries(soc):
        return None
    return f"Samsung's AI LiteCore SDK as the Python package {PACKAGE}: ask Samsung, as PyPI has none"


VENDOR = Vendor(
    manufacturer="Samsung", plugin="samsung", libraries=libraries, ready=ready,
    by=lambda: f"Samsung AI LiteCore ({PACKAGE} {installed(PACKAGE)})",
)  # fmt: skip
SAMSUNG = target_of(
    VENDOR, "samsung", "Samsung Exynos NPU", SOCS, "LiteRT's plugin for Samsung, which asks its SDK", None
)
