"""A run with all that a report shows, made in seconds: files as `convert` writes them, and what other commands keep."""

from __future__ import annotations

import dataclasses
import json

from pipeline.core.agreement import Agreement, LayerAgreement
from pipeline.core.device import DeviceOptions
from pipeline.core.measurement import FileMeasurement, Head, HeadsMeasurement, Latency, Ratio
from pipeline.core.profile import OpTime, Peaks, Profile
from pipeline.core.recipe import Checkpoint, Origin
from pipeline.core.run import open_run
from pipeline.devices import devices
from pipeline.measure.gates import with_gates
from pipeline.measure.inspect import inspect
from pipeline.measure.on_device import bench_on
from pipeline.measure.saved import AGREE, INSPECT, PROFILE, keep, save
from pipeline.targets import targets
from pipeline.tflite import artifact as artifacts
from tests.conftest import ranges_of
from tests.support.small_run import small_run

MACHINE = {"device": "host", "cpu": "a CPU of a test", "cores": 2, "runtime": "LiteRT 0"}


def measured_run(home):
    """The run in ``home``/run with one artifact, and its measurement, saved."""
    plan = small_run(home)
    config = plan.run.config
    origin = Origin(config.model, config.classes, (), "folder", "ptq", Checkpoint("float/best.weights.h5", "0" * 64))
    recipe = dataclasses.replace(plan.artifact.recipe, origin=origin, ranges=ranges_of("fast-scnn"))
    artifact = artifacts.write(plan.artifact.path, plan.artifact.path.read_bytes(), recipe)
    plan = dataclasses.replace(plan, artifact=artifact)
    host = devices()["host"]
    measured = with_gates(bench_on(plan, host, "host", host.connect("", DeviceOptions()), lambda text: None), 90, 0.001)
    save(plan.run, measured)
    return plan.run, artifact, measured


def add_the_rest(run, artifact):
    """What profile, agree, inspect and a training leave."""
    ops = (
        OpTime(0, "CONV_2D", "first", "input", ("Conv",), 1.25, 0.5, 2_000_000, 4000, 0.5),
        OpTime(1, "ADD", "second", "fusion", (), 0.75, 0.3, 0, 2000, 0.125),
    )
    peaks = Peaks(1e6, 1e5, {1 << 20: 1e6})
    profile = Profile(str(artifact.path), artifact.sha256, MACHINE, 1, 10, 2.5, 0.5, 2.375, ops, peaks)
    keep(PROFILE, artifact.path, profile.to_json())
    layer = next(iter(artifact.recipe.ranges))
    layers = (LayerAgreement(layer, "3 CONV_2D", 100, 99.0, 100.0, 1, (0, 1, 2, 3), 0.125),)
    agreement = Agreement(artifact.path.name, 2, "reference", 99.5, 99.0, 98.0, 97.0, 60, 5, None, layers)
    keep(AGREE, artifact.path, agreement.to_json())
    keep(INSPECT, artifact.path, inspect(artifact.path, targets()["cpu"], compiler=False).to_json(), "cpu")
    latency = Latency(4.25, 4.5, 4.0, 5.0, 4.75, 5.0, 9, 3, 3, 1, True, 1, 1.0, 1.0, 0.0, ())
    way = FileMeasurement("logits of stride 8, exact mask in C", "0" * 64, 10, "a runtime", None, latency, None)
    head = Head("logits", 8, "a mask", True, way, Ratio(1.125, 1.0625, 1.25, 99.0))
    heads = HeadsMeasurement(
        "2026-01-02T03:04:05+00:00", "cpu", {}, MACHINE, {}, "folder", "val", 5,
        artifact=artifact.path.name, artifact_sha256=artifact.sha256, heads=(head,), notes=("of a test",),
    )  # fmt: skip
    save(run, heads)
    history = [{"step": 10, "loss": 2.5, "miou_percent": 10.0, "seconds": 1.0}]
    history.append({"step": 20, "loss": 1.5, "miou_percent": 20.5, "seconds": 2.0})
    run.float_dir.mkdir(exist_ok=True)
    result = {"best_val_miou_percent": 20.5, "last_val_miou_percent": 20.5, "seconds": 2.0, "history": history}
    (run.float_dir / "result.json").write_text(json.dumps(result))
    qat = {"val_miou_percent": 21.25, "seconds": 3.0, "kept_step": 0, "history": history}
    run.qat_dir.mkdir(exist_ok=True)
    (run.qat_dir / "result.json").write_text(json.dumps(qat))


def with_names(run, names, colours=None):
    """The same run whose classes are called so, in run.json alone."""
    file = run.path / "run.json"
    data = json.loads(file.read_text())
    file.write_text(json.dumps({**data, "classes": list(names), "colours": colours or data["colours"]}))
    return open_run(run.path)
