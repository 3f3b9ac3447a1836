"""Starts a network from weights that were trained for other classes or sizes: all but the head."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tf_keras

import models
from models.pretrained import pretrained
from pipeline.core.errors import RunError, WeightsError
from pipeline.core.files import sha256, unreadable
from pipeline.core.run import Run
from pipeline.core.spec import ModelSpec
from pipeline.weights import layers as weights
from pipeline.weights.weight_files import open_weights


def weights_file(source: str, network: str) -> Path:
    """The file that ``source`` names: a path, or the name of weights that ship; raises WeightsError."""
    shipped = pretrained(network)
    if source in shipped:
        return shipped[source]
    path = Path(source)
    if (reason := unreadable(path)) is not None:
        named = f" or one of the weights that ship for {network}: {', '.join(shipped)}" if shipped else ""
        raise WeightsError(
            f"initial weights {source}: no such weights ship, and the file {reason}. Give a file{named}."
        )
    return path


def check_started_from(run: Run, init: str) -> None:
    """Raises RunError where the run's float parent, which is trained, did not start from ``init``; WeightsError."""
    settings = run.float_training.settings() or {}
    started_from = settings.get("init")
    started_from = started_from if isinstance(started_from, dict) else {}
    if started_from.get("sha256") == sha256(weights_file(init, run.config.model.network)):
        return
    started = f"started from {started_from.get('file', 'fresh weights')}"
    how = "was given with --parent" if "parent_sha256" in settings else started
    raise RunError(
        f"--init {init}: the float parent of {run.path} is trained already, and {how}. Leave --init out, name a new"
        f" --run, or first run `python cli.py train --init {init} --force --run {run.path}`, which sets it aside."
    )


def check_encoder(run: Run, encoder_weights: str) -> None:
    """Raises RunError where the run's float parent, which is trained or begun, did not start from these weights."""
    settings = run.float_training.settings()
    if settings is None or settings.get("encoder_weights") == encoder_weights:
        return
    if "parent_sha256" in settings:
        how = "was given with --parent"
    elif (before := settings.get("encoder_weights")) is not None:
        how = f"started from those of {before}"
    else:
        how = "started without any"
    raise RunError(
        f"--encoder-weights {encoder_weights}: the float parent of {run.path} {how}. Leave --encoder-weights out, or"
        " name a new --run."
    )


def initialize(model: tf_keras.Model, spec: ModelSpec, path: Path) -> frozenset[str]:
    """Sets all layers from the file but those of the head, which keep their weights; returns the head's names.

    The head is what the number of classes shapes. It stays fresh with as many classes, too: they may be others. Raises
    WeightsError for a file that does not hold the network's other layers.
    """
    head = head_of(model, spec)
    try:
        with open_weights(path, 8 * model.count_params()) as source:  # its head may be larger
            arrays = weights.read_arrays(source, weights.layers_of(model), skip=head)
    except WeightsError as error:
        raise WeightsError(
            f"initial weights {path}: {error}. Give a .weights.h5, .h5 or .keras file of {spec.network} with alpha"
            f" {spec.alpha:g}; size and classes may differ."
        ) from None
    for layer in model.layers:
        if layer.name in arrays:
            layer.set_weights(arrays[layer.name])
    return head


def head_of(model: tf_keras.Model, spec: ModelSpec) -> frozenset[str]:
    """The layers whose weights have other shapes with one class more."""
    other = models.build(dataclasses.replace(spec, num_classes=spec.num_classes + 1))
    pairs = zip(weights.layers_of(model), weights.layers_of(other), strict=True)
    return frozenset(ours.name for ours, theirs in pairs if ours.weights != theirs.weights)


def as_setting(path: Path) -> dict[str, str]:
    """What a training keeps of the weights that it started from."""
    return {"file": str(path), "sha256": sha256(path)}
