"""Scores a checkpoint of the float network in Keras, shard by shard: see ``score_shards``."""

from __future__ import annotations

import functools
import threading
from pathlib import Path

import numpy as np

from pipeline.convert.parent import load_float
from pipeline.core.run import Run
from pipeline.drivers.spread import check_same
from pipeline.measure.score import Infer
from pipeline.measure.score_shards import ScoreShard, count
from pipeline.train.train import keras_infer

_OPENING = threading.Lock()
"""A worker may do several shards at once, in threads."""


def score_weights_shard(shard: ScoreShard) -> np.ndarray:
    """``count`` of the network with the weights of the shard's file."""
    with _OPENING:
        infer = _loaded(shard.run, shard.file, shard.sha256)
    return count(shard, infer)


@functools.lru_cache(maxsize=1)
def _loaded(run: Run, file: Path, digest: str) -> Infer:
    check_same(file, digest)
    return keras_infer(load_float(run, file))
