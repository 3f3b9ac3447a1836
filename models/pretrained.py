"""The trained weights that ship with the project: results/NAME/NETWORK-*.weights.h5, with its JSON beside it."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).resolve().parent.parent / "results"


def pretrained(network: str) -> dict[str, Path]:
    """Name, that of the dataset they were trained on → weights of the network; {} where none ship."""
    return {path.parent.name: path for path in sorted(WEIGHTS.glob(f"*/{network}-*.weights.h5"))}
