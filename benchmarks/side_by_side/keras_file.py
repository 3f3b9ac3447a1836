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
    results: dict[str, Any] = (
        json.loads((source.parent / "results.json").read_text()) if name else {"plan": {"size": ANY_SIZE}}
    )
    height, width = results["plan"]["size"]
    model = models.build(ModelSpec("fast-scnn", height, width, CLASSES))
    variables = {variable.name.removesuffix(":0"): variable for variable in model.weights}
    if name is None:
        checkpoint.load(model, source)
        np.savez(target, **{each: variable.numpy() for each, variable in variables.items()})
        return
    arrays = np.load(source)
    for each, variable in variables.items():
        variable.assign(arrays[f"{name}:{each}"])
    names = [network["name"] for network in results["plan"]["networks"]]
    with adjusted(model, np.array(results["class_weights"][names.index(name)], np.float32)) as left:
        checkpoint.write(model, target, class_weights=left.tolist())


if __name__ == "__main__":
    main()
