"""Observes what a network outputs for calibration images, shard by shard, in this process or wherever a pool is."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import tf_keras

import models
from calib.images import pooled_features
from calib.ranges import Taps
from pipeline.core.dataset import IGNORE, Sample
from pipeline.core.errors import DataError
from pipeline.core.pool import Pool
from pipeline.core.progress import progress
from pipeline.core.run import Run
from pipeline.core.say import Say, quiet
from pipeline.data import dataset_of
from pipeline.data.record import by_name, read_record
from pipeline.data.unlabelled import folder_key, unlabelled
from pipeline.drivers.spread import check_same, spread
from pipeline.quantize import plan as planning
from pipeline.weights import checkpoint


def samples_for(run: Run, folder: str | None, say: Say) -> tuple[Sample, ...]:
    """The samples to calibrate on: the images of ``folder``, or the run's training split. Raises DataError."""
    if not folder:
        return dataset_of(run, "train").splits["train"]
    return unlabelled(folder, say, read_record(run).skipped.get(folder_key(folder), ()))


def tensors(run: Run, samples: Iterable[Sample]) -> Iterator[np.ndarray]:
    for sample in samples:
        yield run.preprocessing.tensor(sample.image(), "float32")


def class_share(sample: Sample, num_classes: int) -> np.ndarray:
    """float64 [classes]: share of each class among the pixels of a label."""
    label = sample.label()
    return np.bincount(label[label != IGNORE], minlength=num_classes)[:num_classes] / label.size


@dataclasses.dataclass(frozen=True)
class Observation:
    """What is to be observed of which images; plain, so that any process can be asked.

    Attributes:
      run: with absolute paths.
      weights, sha256: the checkpoint of the float network, and its digest.
      folder: of the images; None for the training split.
      names: of the images, in order, as ``by_name`` has them.
      what: extremes of each point and image, counts of each point's values between ``edges``, summed over the images
        (see ``Taps``), pooled features of each image, or the share of each class in its label.
    """

    run: Run
    weights: Path
    sha256: str
    folder: str | None
    what: Literal["extremes", "counts", "features", "shares"]
    names: tuple[str, ...] = ()
    edges: np.ndarray | None = None


def observe(asked: Observation) -> np.ndarray:
    """[images, ...] or, for counts, [points, bins]. Raises DataError where the images are not those of the names."""
    run, samples = asked.run, _samples(asked.run, asked.folder, asked.names)
    try:
        chosen = [samples[name] for name in asked.names]
    except KeyError as error:
        where = asked.folder or run.config.data
        raise DataError(f"{where} has no image {error.args[0]!r} any more: repeat when nothing changes it.") from None
    if asked.what == "shares":
        return np.stack([class_share(sample, run.config.model.num_classes) for sample in chosen])
    model, taps = _network(asked.run, asked.weights, asked.sha256)
    if asked.what == "features":
        return pooled_features(model, taps.points, tensors(run, chosen))
    if asked.edges is None:
        return np.stack([taps.extremes(image) for image in tensors(run, chosen)])
    counts = np.zeros((len(taps.points), 0), np.int64)
    for image in tensors(run, chosen):
        each = taps.counts(image, asked.edges).astype(np.int64)
        counts = counts + each if counts.size else each
    return counts


_OPENING = threading.Lock()
"""A worker may do several shards at once, in threads."""


@functools.lru_cache(maxsize=1)
def _listed(run: Run, folder: str | None) -> dict[str, Sample]:
    return by_name(samples_for(run, folder, quiet))


def _samples(run: Run, folder: str | None, names: Iterable[str]) -> dict[str, Sample]:
    """By name; listed again where ``names`` are not among them: a worker may have listed them for a command before."""
    with _OPENING:
        if not set(names) <= set(_listed(run, folder)):
            _listed.cache_clear()
        return _listed(run, folder)


@functools.lru_cache(maxsize=1)
def _loaded(run: Run, weights: Path, digest: str) -> tuple[tf_keras.Model, Taps]:
    check_same(weights, digest)
    model = models.build(run.config.model)
    checkpoint.load(model, weights)
    return model, Taps(model, planning.plan(model).points)


def _network(run: Run, weights: Path, digest: str) -> tuple[tf_keras.Model, Taps]:
    with _OPENING:
        return _loaded(run, weights, digest)


@dataclasses.dataclass(frozen=True)
class Away:
    """The processes of a pool that observe a run's images with the weights of a checkpoint."""

    pool: Pool
    asked: Observation

    def observe(
        self, samples: Sequence[Sample], among: Sequence[Sample], say: Say, how: str, **what: object
    ) -> Iterator[np.ndarray]:
        """The results of the shards in order; ``among``: all ``samples_for``; ``what``: fields of ``Observation``."""
        asked = dataclasses.replace(self.asked, **what)  # type: ignore[arg-type]
        names = {id(sample): name for name, sample in by_name(among).items()}
        shards = self.pool.shards([names[id(sample)] for sample in samples])
        each = [dataclasses.replace(asked, names=tuple(shard)) for shard in shards]
        with (
            progress(say, how, len(samples)) as advance,
            contextlib.closing(spread(observe, each, self.pool)) as results,
        ):
            for shard, result in zip(shards, results, strict=True):
                yield result
                advance(len(shard))
