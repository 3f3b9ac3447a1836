"""Reads a plan and the images that its networks train on and leave out."""

from __future__ import annotations

import concurrent.futures
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.side_by_side.network import fresh
from benchmarks.side_by_side.update import Many, Plan
from pipeline.core.dataset import IGNORE

CLASSES = 11
SETTINGS = {
    "learning_rate": 2e-3,
    "weight_decay": 0.1,
    "average": 20.0,
    "jaccard": 0.5,
    "auxiliary": 0.4,
    "hard": 0.7,
    "dropout": 0.1,
    "scale_from": 0.5,
    "scale_to": 2.5,
    "colour": 0.3,
    "exposure": 0.6,
    "gamma": 0.3,
    "paste": 0.25,
    "paste_all": 0.0,
    "cut": 0.0,
    "distil": 0.0,
}
"""What `train` does on CamVid by default; a network of a plan has those that it does not name.

paste_all: as paste, for the classes that are not rare; cut: how often a window of another image is pasted (CutMix, Yun
et al., arXiv 1905.04899); distil: weight of the distance to the mean of its group's running means.
"""


def read(folder: Path, size: tuple[int, int]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, images and labels of CamVid's train and val: uint8 [n, *size, 3] and [n, *size]."""
    files = [file for split in ("train", "val") for file in sorted((folder / split).iterdir())]

    def one(file: Path) -> tuple[np.ndarray, np.ndarray]:
        image: Image.Image = Image.open(file).convert("RGB")
        label: Image.Image = Image.open(folder / f"{file.parent.name}annot" / f"{file.stem}.png")
        if image.size[::-1] != size:
            image = image.resize(size[::-1], Image.Resampling.BILINEAR)
            label = label.resize(size[::-1], Image.Resampling.NEAREST)
        ids = np.asarray(label)
        return np.asarray(image), np.where(ids < CLASSES, ids, IGNORE).astype(np.uint8)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        images, labels = zip(*pool.map(one, files), strict=True)
    return [file.stem for file in files], np.stack(images), np.stack(labels)


def left_out_of(networks: list[dict[str, Any]], names: list[str]) -> np.ndarray:
    """Which images each network leaves out, in the parts that it is scored on: bool [networks, parts, n]."""
    parts = max(1, *(len(network["left_out"]) for network in networks))
    out = np.zeros((len(networks), parts, len(names)), bool)
    for n, network in enumerate(networks):
        for part, prefixes in enumerate(network["left_out"]):
            out[n, part] = [name.startswith(tuple(prefixes)) for name in names]
    return out


def plan_of(plan: dict[str, Any], labels: np.ndarray, trained_on: list[np.ndarray]) -> Plan:
    """``trained_on``: indices of each network's images."""
    networks = plan["networks"]
    weights = np.stack([class_weights_of(labels[on]) for on in trained_on])
    settings = {name: [net.get(name, value) for net in networks] for name, value in SETTINGS.items()}
    chosen = {name: np.array(values, np.float32) for name, values in settings.items()}
    shares = np.zeros((len(networks), IGNORE + 1), np.float32)
    for n, each in enumerate(weights):
        shares[n, :CLASSES] = np.where(each > each.mean(), chosen["paste"][n], chosen["paste_all"][n])
    groups = [network.get("group") for network in networks]
    taught = np.array([n for n, group in enumerate(groups) if group is not None], np.int32)
    takes = np.array([[groups[r] == groups[s] for s in taught] for r in taught], np.float32)
    takes = takes.reshape(len(taught), len(taught))
    takes /= np.maximum(1, takes.sum(1, keepdims=True))
    seeds = np.array([network.get("seed", 0) for network in networks], np.int32)
    return Plan(CLASSES, tuple(plan["size"]), plan["batch"], chosen, weights, shares, seeds, taught, takes)


def class_weights_of(labels: np.ndarray) -> np.ndarray:
    """As ``pipeline.train.balance`` has them; float32 [classes]."""
    counts = np.bincount(labels.reshape(-1), minlength=IGNORE + 1)[:CLASSES]
    weights = 1 / np.log(1.02 + counts / counts.sum())
    return (weights / weights.mean()).astype(np.float32)


def begun(networks: list[dict[str, Any]], size: tuple[int, int]) -> Many:
    """The weights that the networks begin with: those of the .npz that "start" names, others fresh."""
    inits = []
    for network in networks:
        init = fresh(size, CLASSES, network.get("init_seed", network.get("seed", 0)))
        if "start" in network:
            init |= dict(np.load(network["start"]))
        inits.append(init)
    return {name: np.stack([init[name] for init in inits]) for name in inits[0]}


def chosen_of(indices: np.ndarray, seed: int, first: int, rows: int, batch: int) -> np.ndarray:
    """The images of each step's batch and the two after it: int32 [rows, batch + 2]."""
    at = (first + np.arange(rows))[:, None] * batch + np.arange(batch + 2)
    epochs, places = np.divmod(at, len(indices))
    chosen = np.zeros(at.shape, np.int32)
    for epoch in np.unique(epochs):
        order = np.random.default_rng((seed, epoch)).permutation(len(indices))
        chosen[epochs == epoch] = indices[order[places[epochs == epoch]]]
    return chosen


def loaded(path: Path) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads(path.read_text())
    return plan
