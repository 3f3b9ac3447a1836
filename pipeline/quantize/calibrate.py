"""Finds the ranges of a network's activations from calibration images."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tf_keras

from calib.estimators import estimator
from calib.images import Candidates, choose, pooled_features, selection
from calib.ranges import measure
from pipeline.core.calibration import Calibration, CalibrationRecord
from pipeline.core.dataset import IGNORE, Sample
from pipeline.core.errors import BadSpec
from pipeline.core.files import sha256
from pipeline.core.progress import track
from pipeline.core.ranges import Range
from pipeline.core.run import Run
from pipeline.core.say import Say, quiet
from pipeline.data import dataset_of
from pipeline.data.record import read_record
from pipeline.data.unlabelled import folder_key, unlabelled
from pipeline.quantize import plan as planning


def samples_for(run: Run, folder: str | None, say: Say) -> tuple[Sample, ...]:
    """The samples to calibrate on: the images of ``folder``, or the run's training split. Raises DataError."""
    if not folder:
        return dataset_of(run, "train").splits["train"]
    return unlabelled(folder, say, read_record(run).skipped.get(folder_key(folder), ()))


def class_shares(samples: Sequence[Sample], num_classes: int, say: Say = quiet) -> np.ndarray:
    """float64 [samples, classes]: share of each class among the pixels. Raises BadSpec if no pixel is labelled."""
    shares = np.zeros((len(samples), num_classes))
    for i, sample in enumerate(track(say, samples, "counting classes", len(samples), "labels")):
        label = sample.label()
        shares[i] = np.bincount(label[label != IGNORE], minlength=num_classes)[:num_classes] / label.size
    if not shares.any():
        raise BadSpec(
            "the selection class-balanced needs labels and these images have none: choose coverage, random or first."
        )
    return shares


def candidates_of(model: tf_keras.Model, run: Run, samples: Sequence[Sample], say: Say) -> Candidates:
    """``samples`` with their class shares and features, each computed once, when a selection first needs it."""

    @functools.cache
    def shares() -> np.ndarray:
        return class_shares(samples, run.config.model.num_classes, say)

    @functools.cache
    def features() -> np.ndarray:
        say(f"pooling the network's features of {len(samples)} images")
        shown = track(say, samples, "pooling features", len(samples))
        return pooled_features(model, planning.plan(model).points, tensors(run, shown))

    return Candidates(samples, shares, features)


def tensors(run: Run, samples: Iterable[Sample]) -> Iterator[np.ndarray]:
    for sample in samples:
        yield run.preprocessing.tensor(sample.image(), "float32")


def calibrate(
    model: tf_keras.Model, run: Run, candidates: Candidates, calibration: Calibration, say: Say
) -> tuple[dict[str, Range], CalibrationRecord]:
    """The range of every point of the network's plan, and how it was found.

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

    ranges = plan.share(measure(model, plan.points, images, method))
    names = [sample.name for sample in chosen]
    split = None if calibration.folder else "train"
    digest = sha256("\n".join(names).encode())
    return ranges, CalibrationRecord(calibration.method, calibration.selection, split, tuple(names), digest)
