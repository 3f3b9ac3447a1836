"""Moves batch norm's statistics a part of the way to those of the training images as they are.

    python -m benchmarks.side_by_side.settle OUT CAMVID NAME SHARE

While training, the statistics are of images that are zoomed, padded, lit and pasted upon. Reads network NAME from OUT,
which ``python -m benchmarks.side_by_side`` wrote, and writes OUT/settled.npz with it. The images are those that the
network trained on, and the same mirrored.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.side_by_side.network import Layers, Weights, logits_of
from benchmarks.side_by_side.plan import CLASSES, left_out_of, loaded, read


@jax.jit
def statistics_of(weights: Weights, images: Any) -> dict[str, Any]:
    """Of a batch, uint8 [n, h, w, 3]."""
    layers = Layers(weights, True, jax.random.key(0))
    logits_of(layers, images.astype(jnp.float32) / 255, CLASSES, auxiliary=False)
    return layers.statistics


def settled(weights: Weights, images: np.ndarray, share: float, batch: int = 8) -> dict[str, np.ndarray]:
    """The weights with statistics that took over ``share`` of those of ``images`` and of their mirror images."""
    order = np.random.default_rng(0).permutation(len(images))
    batches = [images[order[at : at + batch]] for at in range(0, len(images) - batch + 1, batch)]
    seen = [statistics_of(weights, each) for part in batches for each in (part, part[:, :, ::-1])]
    result = {name: np.asarray(x) for name, x in weights.items()}
    for name in seen[0]:
        mean = np.mean([np.asarray(each[name]) for each in seen], 0)
        result[name] = (share * mean + (1 - share) * result[name]).astype(np.float32)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.side_by_side.settle")
    parser.add_argument("out", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("name")
    parser.add_argument("share", type=float)
    options = parser.parse_args()
    spec = loaded(options.out / "results.json")["plan"]
    names, images, _ = read(options.data, tuple(spec["size"]))
    networks = [network["name"] for network in spec["networks"]]
    out = left_out_of(spec["networks"], names)[networks.index(options.name)].any(0)
    kept = {name: x for file in sorted(options.out.glob("weights*.npz")) for name, x in np.load(file).items()}
    prefix = f"{options.name}:"
    weights = {name.removeprefix(prefix): x for name, x in kept.items() if name.startswith(prefix)}
    result = settled(weights, images[~out], options.share)
    arrays: dict[str, Any] = {prefix + name: x for name, x in result.items()}
    np.savez(options.out / "settled.npz", **arrays)


if __name__ == "__main__":
    main()
