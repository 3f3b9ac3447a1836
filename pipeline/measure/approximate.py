"""Measures what an approximate rewrite does to the masks."""

from __future__ import annotations

import numpy as np

from pipeline.core.progress import track
from pipeline.core.recipe import Approximation
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.core.score import Score
from pipeline.data import dataset_of
from pipeline.data.decoded import Decoded
from pipeline.measure.confusion import PixelAgreement, confusion
from pipeline.measure.score import deployed


def effect(run: Run, exact: bytes, approximate: bytes, say: Say) -> Approximation:
    """The effect for the recipe: both .tflite files run on the run's validation images, on this machine."""
    dataset = dataset_of(run, "val")
    decoded = Decoded(dataset.splits["val"])
    say(f"measuring what the approximate rewrite does to the masks, on {len(decoded)} val images of {run.config.data}")
    totals = [np.zeros((len(dataset.classes),) * 2, np.int64) for _ in range(2)]
    agreement = PixelAgreement()
    with deployed(exact, run.preprocessing) as before, deployed(approximate, run.preprocessing) as after:
        for i in track(say, range(len(decoded)), "measuring the rewrite", len(decoded)):
            image, label = decoded[i]
            masks = [before(image), after(image)]
            agreement.add(*masks)
            for total, mask in zip(totals, masks, strict=True):
                total += confusion(label, mask, len(dataset.classes))
    without, percent = (Score.from_confusion(t, dataset.classes, len(decoded)).miou_percent for t in totals)
    say(
        f"the mask is the same on {agreement.percent:.2f} % of pixels; mIoU {without:.2f} % without, {percent:.2f} %"
        " with it"
    )
    data = run.config.data.partition(":")[0]
    return Approximation(data, "val", len(decoded), agreement.percent, without, percent, without - percent)
