"""The files that mutants are made of: small ones of every kind that a stranger may send, drawn here."""

from __future__ import annotations

import dataclasses
import io
import json

import h5py
import numpy as np

from pipeline.core.agreement import Agreement, LayerAgreement
from pipeline.core.calibration import CalibrationRecord
from pipeline.core.inspection import Coverage, Inspection
from pipeline.core.profile import OpTime, Peaks, Profile
from pipeline.core.ranges import Range
from pipeline.core.recipe import Recipe
from pipeline.core.rules import Verdict
from pipeline.core.run import RunConfig
from pipeline.core.spec import ModelSpec
from pipeline.core.training import FloatResult, HistoryEntry, QatResult
from tests.support.measurements import measured
from tests.support.recipes import origin, recipe, with_metadata
from tests.support.single_ops import cases, model
from tests.tflite.test_large_files import chain

NETWORK = ["QUANTIZE", "RELU", "SIN", "RELU6", "DEQUANTIZE", "Theirs", "LOGISTIC", "RELU"]
"""Of a graph of several ops, some of which no target knows."""
WEIGHTS = {"conv2d": (3, 3, 3, 8), "conv2d_1": (1, 1, 8, 4)}
"""Layers of the network that the weights are for → the shape of the kernel; biases are of its last size."""


def seeds() -> dict[str, list[bytes]]:
    """Reader (``tests.fuzz.readers``) → its seeds."""
    return {"tflite": tflite(), "json": [text.encode() for text in texts()], "weights": [weights()], **lists()}


def tflite() -> list[bytes]:
    """Single ops, two graphs of several, and one with a recipe."""
    single = [model(case) for case in cases()[::5]]
    graph = chain(NETWORK * 3)
    return [*single, graph, with_metadata(graph, known_recipe().dumps().encode()), chain(["RELU"] * 30, dtype=0)]


def known_recipe() -> Recipe:
    record = CalibrationRecord("min-max", "random", "train", ("x", "y"), "00")
    return recipe("cpu", ranges={"conv": Range(-1.5, 2.25)}, origin=origin(calibration=record))


def texts() -> list[str]:
    """A JSON text of each kind."""
    history = (HistoryEntry(10, 2.5, 10.0, 1.0), HistoryEntry(20, None, None, 2.0))
    config = RunConfig(ModelSpec("fast-scnn", 64, 96, 2), "synthetic", ("a", "b"), ((0, 0, 0), (1, 2, 3)), 0, "2026")
    coverage = Coverage(2, 1, 10, 5, 1, 8, "rule")
    verdicts = (Verdict(0, "accelerated", "", "a manual"), Verdict(1, "refused", "why", "a manual", remedy="so"))
    ops = (("ADD", "a"), ("MUL", "b"))
    inspection = Inspection(
        "cpu", ops, verdicts, coverage, verdicts, coverage, "", 1, None, 2, "a", 0, {"cycles": 3}, None
    )
    times = (
        OpTime(0, "ADD", "a", "a", ("Conv",), 1.5, 0.5, 2, 4, 0.5),
        OpTime(None, "", "", "", ("x",), 1, 0.5, 0, 0, 0),
    )
    profile = Profile("x", "0" * 64, {"cores": 2}, 1, 9, 3.0, 0.5, 2.5, times, Peaks(1.0, 2.0, {1024: 3.0}), ("note",))
    layers = (LayerAgreement("first", "0 CONV_2D", 10, 99.0, 100.0, 1, (0, 1, 2, 3), 0.5),)
    agreement = Agreement(
        "x.tflite", 2, "reference", 99.5, 99.0, 98.0, 97.0, 60, 5, "first", layers, (("last", "why"),)
    )
    nouns = [
        config.to_json(),
        {"schedule": {"steps": 4, "batch": 2}, "per_tensor": False},
        FloatResult(50.0, 49.0, 3.0, 0.5, history).to_json(),
        QatResult(60.0, 5.0, kept_step=20, history=history).to_json(),
        dataclasses.asdict(history[0]),
        {
            "ranges": {"conv": [-1.5, 2.25]},
            "calibration": CalibrationRecord(None, None, "train", ("x",), "00").to_json(),
        },
        known_recipe().to_json(),
        {"file": "x.tflite", "sha256": "00", "compiled": {"file": "y.tflite", "sha256": "00", "note": ""}},
        {"author": "a", "license": "b", "version": "c"},
        measured().to_json(),
        {"sha256": "00", **inspection.to_json()},
        {"sha256": "00", **profile.to_json()},
        {"sha256": "00", **agreement.to_json()},
    ]
    return [json.dumps(noun) for noun in nouns]


def weights() -> bytes:
    """A .weights.h5, as Keras writes it, with the attributes of a checkpoint of ours."""
    content = io.BytesIO()
    rng = np.random.default_rng(0)
    with h5py.File(content, "w") as file:
        for name, shape in WEIGHTS.items():
            group = file.create_group(f"layers/{name}/vars")
            group.create_dataset("0", data=rng.normal(size=shape).astype(np.float32))
            group.create_dataset("1", data=rng.normal(size=shape[-1:]).astype(np.float32))
        file.attrs["segquant_ranges"] = '{"conv2d": [-1.5, 2.25]}'
        file.attrs["segquant_class_weights"] = "[1.0, 2.5]"
    return content.getvalue()


def lists() -> dict[str, list[bytes]]:
    configuration = (
        b"run: runs/phone\ndata: folder:photos\ntrain:\n  steps: 40\nconvert:\n  - target: cpu\n  - {target: edgetpu}\n"
    )
    classes = [b"road 128 64 128\ncar 0 0 142\n", b"name,r,g,b\nroad,1,2,3\ncar,4,5,6\n", b"0 road\n1 car\n"]
    return {"configuration": [configuration], "classes": [*classes, b"road:1,2,3::\ncar:4,5,6::\n"]}
