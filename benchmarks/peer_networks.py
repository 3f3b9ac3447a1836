"""The networks that benchmarks/peers.py compares: ours as .tflite files, and from the float one the peers' own."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

CALIBRATION_IMAGES = 100
CLASSES = 19
"""Cityscapes', for the network with random weights."""
SEED = 0
HEADS = ("logits", "stride8", "mask")
WRITER = Path(__file__).resolve().parent.parent / "pipeline" / "drivers" / "openvino_ir_worker.py"


@dataclasses.dataclass(frozen=True)
class Networks:
    """Files in ``folder``: ours are <float32|int8|int8-amx|int8-openvino-ir>-<mask|logits|stride8>.tflite, the last as
    .xml too; the peers' see peer_build.py.

    Attributes:
      images: uint8 [n, h, w, 3] at the network's size.
      labels: uint8 [n, h0, w0] as the dataset has them; None without data.
      classes: how many.
    """

    folder: Path
    images: np.ndarray
    labels: Sequence[np.ndarray] | None
    classes: tuple[str, ...]


def networks(folder: Path, size: str, data: str | None, parent: Path | None, peers_python: Path) -> Networks:
    """Raises the errors of datasets and checkpoints."""
    import models
    from pipeline.core.preprocessing import Preprocessing
    from pipeline.core.spec import ModelSpec
    from pipeline.data import open_dataset
    from pipeline.weights import checkpoint

    height, width = map(int, size.split("x"))
    fit = Preprocessing(height, width).fit
    if data is None or parent is None:
        from benchmarks.coverage import network

        model, _ = network("fast-scnn", size, 1.0, CLASSES)
        calibration = np.random.default_rng(0).integers(0, 256, (1, height, width, 3)).astype(np.uint8)
        result = Networks(folder, calibration, None, tuple(map(str, range(CLASSES))))
    else:
        dataset = open_dataset(data)
        model = models.build(ModelSpec("fast-scnn", height, width, len(dataset.classes)))
        checkpoint.load(model, parent)
        samples = dataset.splits["train"]
        chosen = sorted(np.random.default_rng(SEED).permutation(len(samples))[:CALIBRATION_IMAGES])
        calibration = np.stack([fit(samples[i].image()) for i in chosen])
        scored = dataset.splits["val"]
        images = np.stack([fit(sample.image()) for sample in scored])
        result = Networks(folder, images, [sample.label() for sample in scored], dataset.classes)
    folder.mkdir(parents=True, exist_ok=True)
    ours(model, calibration, folder)
    for head in HEADS:  # as `convert --target openvino-ir` does, in the OpenVINO that the peer's file runs in
        file = folder / f"int8-openvino-ir-{head}.tflite"
        command = [str(peers_python), "-P", str(WRITER), "write", str(file), str(file.with_suffix(".xml"))]
        subprocess.run(command, input=b"{}", check=True)
    np.save(folder / "calibration.npy", calibration)
    if not (folder / "versions.json").is_file():
        click.echo("quantizing for the peers with their own tools", err=True)
        network_file, script = folder / "float32-logits.tflite", Path(__file__).with_name("peer_build.py")
        subprocess.run(
            [str(peers_python), str(script), str(network_file), str(folder / "calibration.npy"), str(folder)],
            check=True,
        )
    return result


def ours(model: Any, calibration: np.ndarray, folder: Path) -> None:
    """Writes our files, converted as `convert --method ptq` does for `cpu`, `cpu-amx` and `openvino-ir`."""
    from calib.ranges import measure
    from pipeline.core.target import FLOAT
    from pipeline.quantize.plan import plan
    from pipeline.quantize.quantize import finish, quantize
    from pipeline.quantize.to_tflite import to_tflite
    from pipeline.targets import target

    planned = plan(model)
    ranges = planned.share(
        measure(model, planned.points, lambda: (x[None].astype(np.float32) * np.float32(1 / 255) for x in calibration))
    )
    for head in HEADS:
        output, stride = ("mask" if head == "mask" else "logits"), 8 if head == "stride8" else 1
        spec = FLOAT.file_spec(output, stride)  # type: ignore[arg-type]
        (folder / f"float32-{head}.tflite").write_bytes(quantize(model, None, FLOAT, spec).data)
        spec = target("cpu").file_spec(output, stride)  # type: ignore[arg-type]
        data = to_tflite(model, ranges, spec)
        for name, part in (("cpu", ""), ("cpu-amx", "-amx"), ("openvino-ir", "-openvino-ir")):
            file = folder / f"int8{part}-{head}.tflite"
            file.write_bytes(finish(data, ranges, target(name), spec).data)
