"""Scores a float parent and its artifact on a device, and compares their masks."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.core.device import Runner
from pipeline.core.errors import DeviceError
from pipeline.core.measurement import HostComparison
from pipeline.core.say import Say
from pipeline.core.score import check_labelled
from pipeline.measure.album import Album
from pipeline.measure.confusion import PixelAgreement
from pipeline.measure.evaluation import EvaluationSet, Labelled, Prediction, predict
from pipeline.measure.loaded import Loaded


@dataclasses.dataclass(frozen=True)
class PairAgreement:
    """How far masks agree on all pixels of all images.

    Attributes:
      percent: of pixels on which the parent and the artifact have the same class.
      on_host: the artifact on the device and on this machine's CPU; None where they are the same.
      album: the images one by one.
    """

    percent: float
    on_host: HostComparison | None
    album: Album


def score_pair(
    pair: Sequence[Loaded], reference: Runner | None, evaluation: EvaluationSet, cache: Path | None, say: Say
) -> PairAgreement:
    """Adds the predictions of the parent and the artifact to their confusions.

    ``reference``: the artifact on this machine's CPU, to compare the device with.
    ``cache``: a folder for the device's predictions until all images are done, so that a repeated command goes on.
    Raises DeviceError, which says how far it got, and DataError where no pixel is labelled.
    """
    between, with_host, identical, scored = PixelAgreement(), PixelAgreement(), 0, 0
    album = Album()
    for samples in evaluation.chunks(say):
        try:
            (parents, artifacts), confusions = _predict_all(pair, samples, evaluation, cache)
        except DeviceError as error:
            raise DeviceError(
                f"{error} {scored} of {evaluation.count} images are done: repeat the command to go on."
            ) from None
        for parent, artifact, (of_parent, of_artifact) in zip(
            parents, artifacts, zip(*confusions, strict=True), strict=True
        ):
            between.add(parent.mask, artifact.mask)
            album.add(parent.mask, artifact.mask, of_parent, of_artifact)
        if reference is not None:
            for artifact, here in zip(artifacts, predict(reference, samples, evaluation), strict=True):
                with_host.add(artifact.mask, here.mask)
                identical += artifact.output_sha256 == here.output_sha256
        scored += len(samples)
    check_labelled(
        sum(each.total for each in pair if each.total is not None), evaluation.count
    )  # before they are timed
    if cache is not None:
        shutil.rmtree(cache, ignore_errors=True)
    on_host = None if reference is None else HostComparison(with_host.percent, identical)
    return PairAgreement(between.percent, on_host, album)


def _predict_all(
    pair: Sequence[Loaded], samples: Sequence[Labelled], evaluation: EvaluationSet, cache: Path | None
) -> tuple[list[list[Prediction]], list[list[np.ndarray]]]:
    """The predictions of each file, and their confusions; only when all are there do they count in the files' own."""
    predictions = [predict(each.runner, samples, evaluation, cache and cache / each.sha256[:12]) for each in pair]
    classes = len(evaluation.classes)
    return predictions, [each.count(samples, of_file, classes) for each, of_file in zip(pair, predictions, strict=True)]
