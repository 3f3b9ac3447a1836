"""Weights between a Keras file and the .npz of ``benchmarks.side_by_side``; runs where TensorFlow is.

    python -m benchmarks.side_by_side.keras_file FROM.weights.h5 TO.npz
    python -m benchmarks.side_by_side.keras_file OUT/weightsN.npz TO.weights.h5 --name NETWORK

The second takes a part of the class weights' logarithm off the logits and notes what is left of it, as ``train`` does
with what it keeps; OUT/results.json has the class weights and the input size.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import tf_keras

import models
from pipeline.cli.options import quiet_tensorflow
from pipeline.core.spec import ModelSpec
from pipeline.train.balance import adjusted
from pipeline.weights import checkpoint

CLASSES, ANY_SIZE = 11, (360, 480)


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--name")
def main(source: Path, target: Path, name: str | None) -> None:
    """Copies the weights of Fast-SCNN from one kind of file to the other."""
    quiet_tensorflow()
    if name is None:
        to_arrays(source, target)
    else:
        to_keras(source, target, name)


def network(height: int, width: int) -> tuple[tf_keras.Model, dict[str, Any]]:
    """Fast-SCNN, and its variables by name."""
    model = models.build(ModelSpec("fast-scnn", height, width, CLASSES))
    return model, {variable.name.removesuffix(":0"): variable for variable in model.weights}


def to_arrays(source: Path, target: Path) -> None:
    model, variables = network(*ANY_SIZE)
    checkpoint.load(model, source)
    np.savez(target, **{name: variable.numpy() for name, variable in variables.items()})


def to_keras(source: Path, target: Path, name: str) -> None:
    results, arrays = json.loads((source.parent / "results.json").read_text()), np.load(source)
    model, variables = network(*results["plan"]["size"])
    for each, variable in variables.items():
        variable.assign(arrays[f"{name}:{each}"])
    names = [network["name"] for network in results["plan"]["networks"]]
    with adjusted(model, np.array(results["class_weights"][names.index(name)], np.float32)) as left:
        checkpoint.write(model, target, class_weights=left.tolist())


if __name__ == "__main__":
    main()
