"""Finds the ranges of a network's activations from calibration images."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tf_keras

from calib.estimators import estimator
from calib.images import Candidates, choose, pooled_features, selection
from calib.ranges import DEAD_HIGH, measure, merged
from pipeline.core.calibration import Calibration, CalibrationRecord
from pipeline.core.dataset import Sample
from pipeline.core.errors import BadSpec
from pipeline.core.files import sha256
from pipeline.core.pool import Pool
from pipeline.core.progress import track
from pipeline.core.ranges import Range
from pipeline.core.run import Run
from pipeline.core.say import Say, quiet
from pipeline.data import absolute, anywhere
from pipeline.quantize import plan as planning
from pipeline.quantize.observe import Away, Observation, class_share, tensors


def away(run: Run, weights: Path, folder: str | None, pool: Pool) -> Away | None:
    """Who else observes the images; None where this process does. ``weights``: the checkpoint of the network."""
    if pool.here:
        return None
    path = weights.absolute()
    return Away(pool, Observation(anywhere(run), path, sha256(path), absolute(folder), "extremes"))


def class_shares(
    samples: Sequence[Sample], num_classes: int, say: Say = quiet, elsewhere: Away | None = None
) -> np.ndarray:
    """float64 [samples, classes]: share of each class among the pixels. Raises BadSpec if no pixel is labelled."""
    if elsewhere is not None:
        shares = np.concatenate(list(elsewhere.observe(samples, samples, say, "counting classes", what="shares")))
    else:
        shown = track(say, samples, "counting classes", len(samples), "labels")
        shares = np.stack([class_share(sample, num_classes) for sample in shown])
    if not shares.any():
        raise BadSpec(
            "the selection class-balanced needs labels and these images have none: choose coverage, random or first."
        )
    return shares


def candidates_of(
    model: tf_keras.Model, run: Run, samples: Sequence[Sample], say: Say, elsewhere: Away | None = None
) -> Candidates:
    """``samples`` with their class shares and features, each computed once, when a selection first needs it."""

    @functools.cache
    def shares() -> np.ndarray:
        return class_shares(samples, run.config.model.num_classes, say, elsewhere)

    @functools.cache
    def features() -> np.ndarray:
        say(f"pooling the network's features of {len(samples)} images")
        if elsewhere is not None:
            return np.concatenate(list(elsewhere.observe(samples, samples, say, "pooling features", what="features")))
        shown = track(say, samples, "pooling features", len(samples))
        return pooled_features(model, planning.plan(model).points, tensors(run, shown))

    return Candidates(samples, shares, features)


def calibrate(
    model: tf_keras.Model,
    run: Run,
    candidates: Candidates,
    calibration: Calibration,
    say: Say,
    elsewhere: Away | None = None,
) -> tuple[dict[str, Range], CalibrationRecord]:
    """The range of every point of the network's plan, and how it was found; the same wherever images are observed.

    Raises UnknownName, BadSpec and DataError.
    """
    method = estimator(calibration.method)
    chosen = choose(candidates, calibration.images, selection(calibration.selection), run.config.seed)
    source = f"images of {calibration.folder}" if calibration.folder else "training images"
    say(
        f"calibrating ({calibration.method}) on {len(chosen)} of {len(candidates.samples)} {source}"
        f" ({calibration.selection})"
    )
    plan = planning.plan(model)

    def images() -> Iterator[np.ndarray]:
        return tensors(run, track(say, chosen, "calibrating", len(chosen)))

    if elsewhere is None:
        ranges = measure(model, plan.points, images, method)
    else:
        others = elsewhere
        ranges = merged(
            plan.points,
            method,
            (ends for shard in others.observe(chosen, candidates.samples, say, "calibrating") for ends in shard),
            lambda edges: others.observe(chosen, candidates.samples, say, "calibrating", what="counts", edges=edges),
        )
    if dead := [name for name, extent in ranges.items() if (extent.low, extent.high) == (0.0, DEAD_HIGH)]:
        say(f"note: layers whose output is 0 on all {len(chosen)} images, so that any range fits: {', '.join(dead)}")
    names = [sample.name for sample in chosen]
    split = None if calibration.folder else "train"
    digest = sha256("\n".join(names).encode())
    return plan.share(ranges), CalibrationRecord(calibration.method, calibration.selection, split, tuple(names), digest)
