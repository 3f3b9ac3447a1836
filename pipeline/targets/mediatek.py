"""MediaTek's APUs, compiled ahead of time by NeuroPilot through LiteRT's plugin."""

from __future__ import annotations

from pathlib import Path

from pipeline.targets.litert_aot import Vendor, folder_of, installed, target_of

PACKAGE = "ai-edge-litert-sdk-mediatek"
SOCS = (
    "MT6989", "MT6853", "MT6877", "MT6878", "MT6879", "MT6886", "MT6893", "MT6895", "MT6897", "MT6983", "MT6985",
    "MT6991", "MT6993", "MT8171", "MT8188", "MT8189",
)  # fmt: skip
"""ai_edge_litert/aot/vendors/mediatek/target.py; MT6989 is the Dimensity 9300."""
NEWEST = ("MT6993",)
"""Those that need version 9 of NeuroPilot: map_soc_to_np_version in the same file."""


def libraries(soc: str) -> tuple[Path, ...]:
    """Where PACKAGE puts what it downloads (its path_to_sdk_libs)."""
    package = folder_of("ai_edge_litert_sdk_mediatek")
    if package is None:
        return ()
    found = package / "data" / ("v9_0_3" if soc in NEWEST else "v8_0_10") / "host" / "lib"
    return (found,) if found.is_dir() else ()


def ready(soc: str) -> str | None:
    return None if libraries(soc) else f"`pip install {PACKAGE}`, which downloads MediaTek's NeuroPilot"


VENDOR = Vendor(
    manufacturer="MediaTek", plugin="mediatek", libraries=libraries, ready=ready,
    by=lambda: f"MediaTek NeuroPilot ({PACKAGE} {installed(PACKAGE)})", soc_name=str.lower,
    flags=lambda soc: ("--mediatek_sdk_version_type=version9",) if soc in NEWEST else (),
)  # fmt: skip
MEDIATEK = target_of(
    VENDOR, "mediatek", "MediaTek APU", SOCS, "LiteRT's plugin for MediaTek, which partitions with NeuroPilot", None
)
