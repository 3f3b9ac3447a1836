"""An artifact beside its float parent: on which device, what comes back from it, what is kept when it goes away."""

import dataclasses
import json
import os
import tempfile
import threading
import time

import numpy as np
import pytest
from PIL import Image

from pipeline.cli.options import threads_of
from pipeline.cli.resolve import to_compare
from pipeline.core.device import Block, DeviceOptions, RunnerOptions
from pipeline.core.errors import ArtifactError, BadSpec, DataError, DeviceError, GateFailed
from pipeline.core.measurement import Measurement, Ratio
from pipeline.data import open_dataset
from pipeline.devices import devices
from pipeline.devices.host import HostRunner
from pipeline.measure import bench as benching
from pipeline.measure.alone import alone_on
from pipeline.measure.bench import bench
from pipeline.measure.gates import check_gates
from pipeline.measure.on_device import bench_on
from pipeline.measure.plan_files import path_on
from pipeline.measure.saved import save
from pipeline.report.measurement import faster
from pipeline.targets import targets
from pipeline.tflite.artifact import open_artifact
from tests.conftest import ROOT
from tests.support.recipes import with_metadata
from tests.support.single_ops import small_file
from tests.support.small_run import IMAGES, small_run

HOST = devices()["host"]


class Elsewhere:
    """This machine under another name; it goes away at the call that ``fails_at`` names."""

    def __init__(self, identity="board:1", fails_at=None, changes=False, times_ms=None):
        self.identity, self.fails_at, self.changes, self.times_ms = identity, fails_at, changes, times_ms
        self.host, self.inferences, self.closed = HOST.connect("", DeviceOptions()), 0, False

    def describe(self):
        return {"device": "board", "cpu": "a board's", "cores": 4, "frequency_mhz": 2000.0}

    def state(self):
        return {"frequency_mhz": 1500.0, "temperature_celsius": 85.0}

    def open(self, file, how):
        assert how.pinned
        return Remote(self, self.host.open(file, RunnerOptions(how.threads)))

    def close(self):
        self.closed = True


class Remote:
    def __init__(self, connection, runner):
        self.connection, self.runner, self.facts = connection, runner, runner.facts

    def infer(self, image):
        return next(self.infer_many([image]))

    def infer_many(self, images):
        for image in images:
            self.connection.inferences += 1
            if self.connection.inferences == self.connection.fails_at:
                raise DeviceError("board:1 was unplugged.")
            output = self.runner.infer(image)
            yield output + np.int8(1) if self.connection.changes and output.dtype == np.int8 else output

    def time(self, runs):
        if self.connection.fails_at == "time":
            raise DeviceError("board:1 was unplugged.")
        if self.connection.times_ms:
            return Block(runs, (self.connection.times_ms[self.facts.input_dtype],) * runs)
        return self.runner.time(runs)

    def restart(self):
        self.runner.restart()

    def peak_memory_bytes(self):
        return None

    def close(self):
        self.runner.close()


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("bench"))


def on_host(plan, say=lambda text: None):
    return bench_on(plan, HOST, "host", HOST.connect("", DeviceOptions()), say)


def test_the_host(plan):
    measured = on_host(dataclasses.replace(plan, threads=(1, 2), against=to_compare(plan.artifact.path, None, print)))
    assert measured.parent.sha256 == plan.parent.sha256 and measured.artifact.sha256 == plan.artifact.sha256
    assert measured.images == IMAGES and measured.on_host is None
    assert measured.agreement_percent == pytest.approx(agreement_by_hand(plan))
    assert measured.artifact.latency.runs >= 4 and measured.artifact.latency.first_ms > 0
    assert measured.artifact.runs_on == "XNNPACK" and measured.artifact.peak_memory_bytes > 1 << 20
    assert measured.speedup.low is None and not any("same work" in note for note in measured.notes)
    assert measured.against.score is None and 0.02 < measured.against_ratio.ratio < 50  # it is the artifact itself
    assert measured.against_ratio.low is None
    assert [s.threads for s in measured.sweep] == [2] and measured.machine["threads"] == 1
    some = on_host(dataclasses.replace(plan, images=2))
    assert some.images == some.artifact.score.images == 2 and some.of_images == measured.of_images == IMAGES
    assert len({some.images_sha256, measured.images_sha256, ""}) == 3


def agreement_by_hand(plan):
    with HostRunner(plan.parent.path, 1) as parent, HostRunner(plan.artifact.path, 1) as artifact:
        masks = []
        for sample in open_dataset(plan.run.config.data).splits["val"]:
            image = sample.image()[None]
            a = parent.infer(image.astype(np.float32) / np.float32(255))[0]
            masks.append((a.argmax(-1), artifact.infer(image)[0].argmax(-1)))
    return 100 * np.mean([np.mean(a == b) for a, b in masks])


def test_what_comes_back_from_a_device_is_what_the_host_gives(plan):
    measured = bench_on(plan, HOST, "board", Elsewhere(), lambda text: None)
    assert measured.artifact.score == on_host(plan).artifact.score
    assert measured.on_host.agreement_percent == 100 and measured.on_host.identical_outputs == IMAGES
    assert "throttled: 2000 MHz before, 1500 after, 85 °C" in measured.notes
    assert not list(plan.run.measurements.glob("unfinished/*"))


def test_a_ratio_says_how_many_times_as_long_the_other_takes(plan):
    timed = Elsewhere(times_ms={"float32": 30.0, "uint8": 10.0, "int8": 10.0})
    beside_the_float_one = dataclasses.replace(plan, against=to_compare(plan.parent.path, None, print))
    measured = bench_on(beside_the_float_one, HOST, "board", timed, lambda text: None)
    assert (measured.parent.latency.median_ms, measured.artifact.latency.median_ms) == (30.0, 10.0)
    assert measured.speedup.ratio == pytest.approx(3) and measured.against_ratio.ratio == pytest.approx(3)


def test_another_int8_output_is_told(plan):
    measured = bench_on(plan, HOST, "board", Elsewhere(changes=True), lambda text: None)
    assert measured.on_host.identical_outputs == 0
    assert any(
        f"differs from LiteRT's on this machine's CPU on {IMAGES} of {IMAGES} images" in note for note in measured.notes
    )


def test_a_network_whose_masks_have_one_class_is_named(plan, monkeypatch):
    monkeypatch.setattr(Remote, "infer_many", lambda self, images: (0 * self.runner.infer(i) for i in images))
    measured = bench_on(plan, HOST, "board", Elsewhere(), lambda text: None)
    (parent, artifact) = (note for note in measured.notes if "one class, 'a'" in note)
    assert "float32.tflite: every" in parent and "int8.tflite: every" in artifact


def test_a_device_that_goes_away_while_scoring_goes_on_where_it_stopped(plan):
    gone = Elsewhere(fails_at=IMAGES + 3)  # three images are done by both files, and one more by the parent
    with pytest.raises(DeviceError, match=r"unplugged\. 3 of 5 images are done: repeat the command"):
        bench_on(plan, HOST, "board", gone, lambda text: None)
    back = Elsewhere()
    again = bench_on(plan, HOST, "board", back, lambda text: None)
    assert back.inferences == IMAGES - 2 + 2  # three that were missing, and one of each file before timing
    assert again.artifact.score == on_host(plan).artifact.score


def test_a_device_that_goes_away_while_timing_leaves_its_scores(plan):
    measured = bench_on(plan, HOST, "board", Elsewhere(fails_at="time"), lambda text: None)
    assert measured.unfinished == "board:1 was unplugged." and measured.artifact.latency is None
    assert measured.artifact.score and measured.speedup is None
    with pytest.raises(DeviceError, match=r"unplugged\. What was measured until then is saved"):
        check_gates(measured, None, None)
    path = save(plan.run, measured, "board:1")
    assert path.endswith("-board_1.json") and json.loads(open(path).read())["unfinished"]


def test_several_devices_side_by_side_and_one_that_fails_stops_no_other(plan, monkeypatch):
    boards = {"a": Elsewhere("a"), "b": Elsewhere("b", fails_at=1), "c": Elsewhere("c")}
    monkeypatch.setattr(benching, "device", lambda name: (HOST, ""))
    monkeypatch.setattr(
        benching, "connect", lambda name, settings=None: boards.get(name) or HOST.connect("", DeviceOptions())
    )
    messages: list[str] = []
    measurements: list[Measurement] = []
    with pytest.raises(DeviceError, match="unplugged"):
        measurements.extend(iter_into(measurements, bench(plan, list(boards), DeviceOptions(), messages.append)))
    assert len(measurements) == 2 and all(each.artifact.score for each in measurements)
    assert all(each.closed for each in boards.values()) and any(text.startswith("c: scoring") for text in messages)


def iter_into(kept, measurements):
    for measurement in measurements:
        kept.append(measurement)
    return []


def test_a_lock_that_another_user_planted_is_not_followed_and_stops_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with alone_on("some:machine", print):
        (lock,) = tmp_path.iterdir()
    lock.unlink()
    os.mkfifo(lock)
    with alone_on("some:machine", print):
        lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), alone_on("some:machine", print):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_one_measurement_at_a_time_on_a_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # no other run of these tests takes the lock
    order: list[str] = []
    messages: list[str] = []
    waits = threading.Event()

    def said(message):
        messages.append(message)
        waits.set()

    with alone_on("some:machine", messages.append):
        other = threading.Thread(target=lambda: order.append(enter(said)))
        other.start()
        assert waits.wait(60)
        time.sleep(0.3)
        order.append("first")
    other.join(60)
    assert order == ["first", "second"] and messages == ["waiting: another measurement runs on some:machine"]


def enter(say):
    with alone_on("some:machine", say):
        return "second"


def test_a_device_for_compiled_files_refuses_one_that_is_not_compiled(plan):
    chip = dataclasses.replace(HOST, name="chip", runs_compiled=("cpu",))
    with pytest.raises(ArtifactError, match="not compiled, and chip runs compiled files"):
        path_on(chip, plan.artifact)
    compiled = plan.artifact.path.with_name("compiled.tflite")
    assert path_on(chip, dataclasses.replace(plan.artifact, compiled=compiled)) == compiled
    assert path_on(chip, plan.parent) == plan.parent.path


class Cautious(Elsewhere):
    """A device that says what its times are worth, and keeps which delegates it was asked for."""

    def describe(self):
        return {**super().describe(), "caution": "times of a toy"}

    def open(self, file, how):
        self.asked = [*getattr(self, "asked", []), (file.name, how.target, how.delegate)]
        return super().open(file, how)


@pytest.mark.parametrize("delegate", ["", "gpu", "xnnpack"])
def test_what_a_target_says_of_itself_is_asked_of_it_and_not_of_its_name(plan, monkeypatch, delegate):
    """A target whose name has 'cpu' in it and that no list knows: its delegate, its companions, its note."""
    new = dataclasses.replace(
        targets()["cpu"], name="no-cpu", delegate=delegate, compiled_suffix=".tflite", companions=(".crumbs",)
    )
    for module in ("notes", "plan_files"):
        monkeypatch.setattr(f"pipeline.measure.{module}.targets", lambda: {**targets(), "no-cpu": new})
    renamed = dataclasses.replace(plan.artifact, recipe=dataclasses.replace(plan.artifact.recipe, target="no-cpu"))
    plan.artifact.path.with_suffix(".crumbs").write_bytes(bytes(1000))
    plan.artifact.path.with_suffix(".bin").write_bytes(bytes(100))  # of somebody else
    device = Cautious()
    measured = bench_on(dataclasses.replace(plan, artifact=renamed, images=1), HOST, "board", device, print)
    assert device.asked == [(plan.parent.path.name, "cpu", "xnnpack"), (plan.artifact.path.name, "no-cpu", delegate)]
    assert measured.artifact.size_bytes == plan.artifact.path.stat().st_size + 1000
    assert "times of a toy" in measured.notes
    assert ("latency is of this device's CPU, not of no-cpu" in measured.notes) == (delegate != "xnnpack")


def test_a_target_counts_companions_of_compiled_files_alone(tmp_path):
    ir = targets()["openvino-ir"]
    assert ir.files_of(tmp_path / "x_openvino.xml") == (tmp_path / "x_openvino.xml", tmp_path / "x_openvino.bin")
    assert ir.files_of(tmp_path / "x.tflite") == (tmp_path / "x.tflite",)


def test_what_vs_names(plan, tmp_path):
    other = to_compare(plan.run.path, "cpu", print)
    assert other.sha256 == plan.artifact.sha256 and other.takes == plan.run.preprocessing.shape
    smaller = to_compare(small_file(tmp_path), None, print)
    measured = on_host(dataclasses.replace(plan, against=smaller, images=1))
    (note,) = (note for note in measured.notes if "same work" in note)
    assert "[1, 9, 8, 3], the artifact [1, 161, 193, 3]" in note
    for number, foreign in enumerate(('{"target": "edgetpu"}', '{"target": 5, "schema": 1}', "[1]", "{", '"x"')):
        file = tmp_path / f"foreign{number}.tflite"
        file.write_bytes(with_metadata(small_file(tmp_path).read_bytes(), foreign.encode()))
        messages: list[str] = []
        assert to_compare(file, None, messages.append).target == "cpu" and "of another program" in messages[0]
        with pytest.raises(ArtifactError, match=f"foreign{number}.tflite.*recipe"):
            open_artifact(file)
    with pytest.raises(ArtifactError, match="--vs .*none.tflite cannot be read"):
        to_compare(tmp_path / "none.tflite", None, print)
    with pytest.raises(BadSpec, match="--threads 0,2: give numbers"):
        threads_of("0,2")
    assert threads_of("1, 2,2") == (1, 2)


def test_gates_pass_at_the_limit_and_fail_beyond_it_with_a_reason(plan):
    measured = on_host(plan)
    latency = dataclasses.replace(measured.artifact.latency, median_ms=10.0)
    at = dataclasses.replace(
        measured, drop_points=0.5, artifact=dataclasses.replace(measured.artifact, latency=latency)
    )
    check_gates(at, None, None)
    check_gates(at, 0.5, 10.0)
    with pytest.raises(GateFailed, match=r"drop is 0.60 points, and the limit is 0.5") as failed:
        check_gates(dataclasses.replace(at, drop_points=0.6), 0.5, 100)
    assert "latency" not in str(failed.value)
    with pytest.raises(GateFailed, match=r"drop.*; the median latency is 10.00 ms, and the limit is 9 ms"):
        check_gates(dataclasses.replace(at, drop_points=0.6), 0.5, 9)


def test_without_labels_there_is_no_drop_that_a_gate_could_judge(tmp_path):
    plan = small_run(tmp_path)
    for path in (tmp_path / "data" / "val" / "masks").iterdir():
        Image.fromarray(np.full_like(np.asarray(Image.open(path)), 255)).save(path)
    with pytest.raises(DataError, match="no pixel of these 5 images is labelled, so there is nothing to score"):
        on_host(plan)


def test_every_field_of_the_json_is_described(plan):
    """docs/measurement.md names each as `field`, of every noun that a measurement is made of."""
    text = (ROOT / "docs" / "measurement.md").read_text()
    data = on_host(dataclasses.replace(plan, threads=(1, 2))).to_json()
    names = {f.name for noun in (Measurement,) for f in dataclasses.fields(noun)} | set(data)
    for part in (data["artifact"], data["artifact"]["latency"], data["artifact"]["score"], data["speedup"]):
        names |= set(part)
    names |= set(data["machine"]) | set(data["protocol"]) | set(data["sweep"][0])
    assert sorted(name for name in names if f"`{name}`" not in text) == []
    assert f"schema {data['schema']}" in text and len(data["artifact"]["latency"]["samples_ms"]) >= 4


def test_a_block_says_what_it_can():
    assert Block(2, (1.0, 3.0)).typical_ms == 2.0 and Block(9, summary_ms={"mean": 4.0}).typical_ms == 4.0


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (Ratio(1.374, 1.329, 1.421, 99), "1.37× faster (99 % interval 1.33 to 1.42)"),
        (Ratio(0.8, 0.64, 0.9, 99), "1.25× slower (99 % interval 1.11 to 1.56)"),
        (Ratio(1.01, 0.98, 1.04, 99), "in 0.990 of its time (99 % interval 0.962 to 1.020)"),
        (Ratio(2.0, None, None, 99), "in 0.500 of its time (no interval: that needs 4 starts)"),
    ],
)
def test_a_ratio_in_words(ratio, words):
    assert faster(ratio) == words
