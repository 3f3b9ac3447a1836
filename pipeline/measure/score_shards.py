"""Scores a file shard by shard on the processes of a pool; the confusions add up to one machine's.

The processes load no TensorFlow for a .tflite file; see ``weights_shards`` for checkpoints.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pipeline.core.device import RunnerOptions
from pipeline.core.errors import DataError
from pipeline.core.files import sha256
from pipeline.core.pool import Pool
from pipeline.core.progress import progress
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.core.score import Score
from pipeline.data import anywhere, dataset_to_score
from pipeline.data.decoded import Decoded
from pipeline.devices import connect
from pipeline.drivers.spread import check_same, spread
from pipeline.measure.confusion import confusion
from pipeline.measure.score import Infer, runner_infer


@dataclasses.dataclass(frozen=True)
class ScoreShard:
    """Images to score a file on; plain, so that any process can be asked.

    Attributes:
      run: with absolute paths.
      file, sha256: a .tflite file, or a checkpoint of the run's float network.
      first, names: the place of the first image in the split, and the names of all.
    """

    run: Run
    split: str
    file: Path
    sha256: str
    first: int
    names: tuple[str, ...]


def score_shard(shard: ScoreShard) -> np.ndarray:
    """``count`` of a .tflite file, in LiteRT on one core."""
    return count(shard, _infer(shard))


def count(shard: ScoreShard, infer: Infer) -> np.ndarray:
    """int64 [classes, classes]: the confusion over the shard's images. Raises DataError where they are others here."""
    decoded, classes = _images_of(shard), len(shard.run.config.classes)
    total = np.zeros((classes, classes), np.int64)
    places = range(shard.first, shard.first + len(shard.names))
    for place in places:
        image, label = decoded[place]
        total += confusion(label, infer(image), classes)
    return total


def score_spread(
    run: Run,
    split: str,
    file: Path,
    images: int | None,
    pool: Pool,
    say: Say,
    work: Callable[[ScoreShard], np.ndarray] = score_shard,
) -> Score:
    """The score of ``file`` (see ``ScoreShard``) on the first ``images`` of the split; None: all."""
    names: Sequence[str] = [sample.name for sample in dataset_to_score(run, split).splits[split][:images]]
    template = ScoreShard(anywhere(run), split, file.absolute(), sha256(file), 0, ())
    shards, first = [], 0
    for part in pool.shards(names):
        shards.append(dataclasses.replace(template, first=first, names=tuple(part)))
        first += len(part)
    total = np.zeros((len(run.config.classes),) * 2, np.int64)
    with (
        progress(say, "scoring", len(names)) as advance,
        contextlib.closing(spread(work, shards, pool)) as results,
    ):
        for shard, counts in zip(shards, results, strict=True):
            total += counts
            advance(len(shard.names))
    return Score.from_confusion(total, run.config.classes, len(names))


_OPENING = threading.Lock()
"""A worker may do several shards at once, in threads."""
_HELD = threading.local()
"""A runner takes one image at a time, so each thread has its own."""


@functools.lru_cache(maxsize=1)
def _opened(run: Run, split: str) -> Decoded:
    return Decoded(dataset_to_score(run, split).splits[split], cache_bytes=0)  # each image is read once


def _images_of(shard: ScoreShard) -> Decoded:
    """The split's images. Raises DataError where they are not those of the shard's names."""
    with _OPENING:
        decoded = _opened(shard.run, shard.split)
        if not _has(decoded, shard):  # a worker of a cluster may have listed them for a command before
            _opened.cache_clear()
            decoded = _opened(shard.run, shard.split)
    if not _has(decoded, shard):
        raise DataError(
            f"the {shard.split} images of {shard.run.config.data} are not those that they were when the scoring began:"
            " repeat when nothing changes them, on a file system that all machines share."
        )
    return decoded


def _has(decoded: Decoded, shard: ScoreShard) -> bool:
    chosen = decoded.samples[shard.first : shard.first + len(shard.names)]
    return [sample.name for sample in chosen] == list(shard.names)


def _infer(shard: ScoreShard) -> Infer:
    key = shard.file, shard.sha256
    if getattr(_HELD, "key", None) != key:
        check_same(*key)
        if getattr(_HELD, "runner", None) is not None:
            _HELD.key = None
            _HELD.runner.close()
        _HELD.runner = connect("host").open(shard.file, RunnerOptions())
        _HELD.infer = runner_infer(_HELD.runner, shard.run.preprocessing, shard.run.config.model.resize)
        _HELD.key = key
    return _HELD.infer  # type: ignore[no-any-return]
