"""Calibrates, quantizes and scores combinations of a sweep on the processes of a pool, one combination at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import tf_keras

from calib.estimators import estimator
from calib.ranges import measure
from pipeline.convert.parent import load_float
from pipeline.core.dataset import Sample
from pipeline.core.device import RunnerOptions
from pipeline.core.errors import DataError
from pipeline.core.file_spec import FileSpec
from pipeline.core.files import sha256
from pipeline.core.pool import Pool
from pipeline.core.run import Run
from pipeline.core.say import quiet
from pipeline.core.score import Score
from pipeline.data import anywhere, dataset_of
from pipeline.data.decoded import Decoded
from pipeline.data.record import by_name
from pipeline.devices import connect
from pipeline.drivers.spread import check_same, spread
from pipeline.measure.confusion import confusion
from pipeline.measure.score import runner_infer
from pipeline.quantize import plan as planning
from pipeline.quantize.observe import samples_for, tensors
from pipeline.quantize.quantize import quantize
from pipeline.targets import target


@dataclasses.dataclass(frozen=True)
class SweepShard:
    """A combination; plain, so that any process can be asked.

    Attributes:
      run: with absolute paths.
      weights, sha256: the checkpoint of the float network, and its digest.
      folder: of the images to calibrate on; None for the training split.
      method: the estimator.
      names: of the images to calibrate on, as ``by_name`` has them.
    """

    run: Run
    weights: Path
    sha256: str
    folder: str | None
    per_tensor: bool
    method: str = "min-max"
    names: tuple[str, ...] = ()


def sweep_shard(shard: SweepShard) -> tuple[float, float]:
    """(mIoU of the int8 file in percent, seconds to calibrate). Raises DataError where an image is gone."""
    began, run = time.monotonic(), shard.run
    with _ALONE:
        model, samples, validation = _opened(run, shard.weights, shard.sha256, shard.folder)
        if gone := [name for name in shard.names if name not in samples]:
            where = shard.folder or run.config.data
            raise DataError(f"{where} has no image {gone[0]!r} any more: repeat when nothing changes it.")
        plan, chosen = planning.plan(model), [samples[name] for name in shard.names]
        ranges = plan.share(measure(model, plan.points, lambda: tensors(run, chosen), estimator(shard.method)))
        seconds = time.monotonic() - began
        data = quantize(model, ranges, target("cpu"), FileSpec(per_tensor=shard.per_tensor)).data
    return _miou_percent(run, data, validation), seconds


def _miou_percent(run: Run, data: bytes, validation: Decoded) -> float:
    classes = len(run.config.classes)
    total = np.zeros((classes, classes), np.int64)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "candidate.tflite"
        file.write_bytes(data)
        with contextlib.closing(connect("host").open(file, RunnerOptions())) as runner:
            infer = runner_infer(runner, run.preprocessing)
            for i in range(len(validation)):
                image, label = validation[i]
                total += confusion(label, infer(image), classes)
    return Score.from_confusion(total, run.config.classes, len(validation)).miou_percent


def sweep_spread(
    run: Run,
    weights: Path,
    folder: str | None,
    per_tensor: bool,
    ways: Sequence[tuple[str, tuple[str, ...]]],
    pool: Pool,
) -> Generator[tuple[float, float], None, None]:
    """``sweep_shard`` of each (estimator, names of images) in order. ``folder``: with an absolute path."""
    template = SweepShard(anywhere(run), weights.absolute(), sha256(weights), folder, per_tensor)
    shards = [dataclasses.replace(template, method=method, names=names) for method, names in ways]
    with contextlib.closing(spread(sweep_shard, shards, pool)) as results:
        yield from results


_ALONE = threading.Lock()
"""A worker may do several shards at once, in threads; TensorFlow's converter does one."""


@functools.lru_cache(maxsize=1)
def _opened(
    run: Run, weights: Path, digest: str, folder: str | None
) -> tuple[tf_keras.Model, dict[str, Sample], Decoded]:
    check_same(weights, digest)
    return load_float(run, weights), by_name(samples_for(run, folder, quiet)), Decoded(dataset_of(run).splits["val"])
