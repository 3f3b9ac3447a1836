"""Chooses the images that calibrate a network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.nouns.dataset import Sample


def choose(samples: Sequence[Sample], count: int, seed: int) -> tuple[Sample, ...]:
    """``count`` samples drawn at random without repetition (all of them when there are fewer), in their own order."""
    picked = np.random.default_rng(seed).permutation(len(samples))[:count]
    return tuple(samples[i] for i in sorted(picked))
