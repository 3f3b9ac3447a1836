"""Calibration and scoring in shards, on processes or on a Dask cluster: equal to one process, to the last count."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from pipeline.convert.parent import load_float
from pipeline.core.artifact import Artifact
from pipeline.core.calibration import Calibration
from pipeline.core.dataset import Sample
from pipeline.core.errors import DataError, DeviceError
from pipeline.core.file_spec import FileSpec
from pipeline.core.pool import Pool
from pipeline.core.recipe import Recipe
from pipeline.core.run import Run
from pipeline.core.say import quiet
from pipeline.data import dataset_of
from pipeline.data.decoded import Decoded
from pipeline.drivers import spread as spreading
from pipeline.measure import score_shards
from pipeline.measure.score import on_this_machine, score_masks
from pipeline.measure.score_shards import ScoreShard, count, score_shard, score_spread
from pipeline.measure.sweep import sweep
from pipeline.measure.weights_shards import score_weights_shard
from pipeline.quantize import observe as observing
from pipeline.quantize.calibrate import away, calibrate, candidates_of
from pipeline.quantize.observe import samples_for
from pipeline.tflite import artifact as artifacts
from pipeline.train.train import keras_infer
from pipeline.weights import checkpoint
from tests.conftest import ROOT, file_of, still
from tests.support.small_run import IMAGES, empty_run


class Made(NamedTuple):
    run: Run
    artifact: Artifact


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return made_in(tmp_path_factory.mktemp("shards"))


def made_in(home):
    """A run with drawn weights, and its int8 file."""
    run = empty_run(home, alpha=0.125)
    run.float_dir.mkdir()
    checkpoint.write(still("fast-scnn"), run.float_training.best)
    path = run.artifacts("cpu") / "fast-scnn-int8.tflite"
    return Made(run, artifacts.write(path, file_of("fast-scnn", FileSpec()), Recipe("cpu", FileSpec())))


@pytest.fixture
def in_this_process(monkeypatch):
    """Shards are cut and merged as for a cluster, but this process does them."""
    monkeypatch.setattr(observing, "spread", lambda work, shards, pool: (work(shard) for shard in shards))


def ranges_of(run, calibration, pool, folder=None):
    model, elsewhere = load_float(run, run.float_training.best), away(run, run.float_training.best, folder, pool)
    candidates = candidates_of(model, run, samples_for(run, folder, quiet), quiet, elsewhere)
    return calibrate(model, run, candidates, calibration, quiet, elsewhere)


@pytest.mark.parametrize(("method", "selection"), [("moving-average", "class-balanced"), ("entropy", "random")])
def test_ranges_of_shards_are_those_of_one_process(made, in_this_process, method, selection):
    """The moving average depends on the order of the images, the entropy on histograms over all of them."""
    pool = Pool(cluster="tcp://nowhere:1")
    assert len(pool.shards(range(IMAGES))) == IMAGES
    calibration = Calibration(method, selection, 4)
    assert ranges_of(made.run, calibration, pool) == ranges_of(made.run, calibration, Pool())


def of_artifact(made):
    """Its score, as one process makes it."""
    run, dataset = made.run, dataset_of(made.run)
    with on_this_machine(made.artifact.path, run.preprocessing, run.config.model.resize) as infer:
        return score_masks(Decoded(dataset.splits["val"]), infer, dataset.classes)


def test_scores_of_processes_are_those_of_one(made):
    assert score_spread(made.run, "val", made.artifact.path, None, Pool(2), quiet) == of_artifact(made)


def test_a_shard_of_other_images_or_another_file_is_refused(made):
    run, file = made.run, made.artifact.path
    shard = ScoreShard(run, "val", file, made.artifact.sha256, 0, ("0", "2"))
    with pytest.raises(DataError, match="not those that they were"):
        score_shard(shard)
    with pytest.raises(DeviceError, match="is another file"):
        score_shard(ScoreShard(run, "val", file, "0" * 64, 0, ("0",)))


def test_a_worker_that_served_a_command_before_lists_images_that_came_since(made, monkeypatch):
    """A cluster's workers stay, and what they listed with them."""
    listed = ["b"]

    def samples():
        pixels = np.zeros((2, 2), np.uint8)
        return tuple(Sample(name, lambda: np.dstack([pixels] * 3), lambda: pixels) for name in listed)

    monkeypatch.setattr(score_shards, "dataset_to_score", lambda run, split: SimpleNamespace(splits={split: samples()}))
    monkeypatch.setattr(observing, "samples_for", lambda *_: samples())
    shard = ScoreShard(made.run, "val", made.artifact.path, "", 0, ("b",))
    asked = observing.Observation(made.run, made.artifact.path, "", None, "shares", ("b",))
    for names in (["b"], ["a", "b"]):
        listed[:] = names
        total = count(dataclasses.replace(shard, names=tuple(names)), lambda image: image[..., 0])
        assert total.sum() == 4 * len(names)
        assert len(observing.observe(dataclasses.replace(asked, names=tuple(names)))) == len(names)
    score_shards._opened.cache_clear()
    observing._listed.cache_clear()


@contextlib.contextmanager
def dask_cluster(workers, environment):
    """A scheduler and worker processes: (its address, the workers)."""
    started = []

    def start(*arguments):
        command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
        log = subprocess.DEVNULL
        started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return started[-1]

    with contextlib.ExitStack() as ending:

        @ending.callback
        def end():
            for process in started:
                process.kill()
                process.wait()

        address = f"tcp://127.0.0.1:{free_port()}"
        start("dask_scheduler", "--port", address.rpartition(":")[2], "--host", "127.0.0.1", "--no-dashboard")
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", environment["TMPDIR"])
        yield address, [start("dask_worker", address, *options) for _ in range(workers)]


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.real
def test_a_cluster_of_two_workers_of_which_one_dies(tmp_path):
    """Scoring, calibration and a sweep on two Dask workers, one of them killed while it works on a shard."""
    pytest.importorskip("distributed", reason="no Dask: pip install -r requirements-cluster.txt")
    made = made_in(tmp_path)
    run = made.run
    for kind in ("images", "masks"):  # enough that one dies with shards of its own
        folder = run.path.parent / "data" / "val" / kind
        for i in range(IMAGES, 32):
            (folder / f"{i}.png").write_bytes((folder / f"{i % IMAGES}.png").read_bytes())
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(tmp_path),
    }
    expected, float_weights = of_artifact(made), run.float_training.best
    decoded, infer = Decoded(dataset_of(run).splits["val"]), keras_infer(load_float(run, float_weights))
    calibration = Calibration("entropy", "coverage", 3)
    with dask_cluster(2, environment) as (address, workers):
        pool = Pool(cluster=address)
        seen: list[object] = []

        def watched(work, shards, pool):
            for result in spreading.spread(work, shards, pool):
                if not seen:  # both are at work
                    workers[0].kill()
                seen.append(result)
                yield result

        patched = "pipeline.measure.score_shards.spread"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(patched, watched)
            assert score_spread(run, "val", made.artifact.path, None, pool, quiet) == expected
        assert workers[0].wait(timeout=10) == -signal.SIGKILL and workers[1].poll() is None
        in_shards = score_spread(run, "val", float_weights, 4, pool, quiet, score_weights_shard)
        assert in_shards == score_masks(decoded, infer, run.config.classes, 4)
        assert ranges_of(run, calibration, pool) == ranges_of(run, calibration, Pool())
        ways = (run, ["min-max"], ["first"], [2], False, None, quiet)
        rows = sweep(*ways, pool).rows
        for file in run.measurements.glob("calibration-*.json"):
            file.unlink()
        assert [row.miou_percent for row in rows] == [row.miou_percent for row in sweep(*ways).rows]
