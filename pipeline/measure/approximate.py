"""Measures what a rewrite that is not equal does to the masks."""

from __future__ import annotations

import numpy as np

from pipeline.core.recipe import Approximation
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.core.score import Score
from pipeline.data import dataset_of
from pipeline.data.decoded import Decoded
from pipeline.measure.confusion import confusion
from pipeline.measure.score import deployed


def effect(run: Run, exact: bytes, approximate: bytes, say: Say) -> Approximation:
    """Runs both .tflite files on the run's validation images, on this machine; what the recipe keeps of it."""
    dataset = dataset_of(run)
    decoded = Decoded(dataset.splits["val"])
    say(f"measuring what that does to the masks, on {len(decoded)} val images of {run.config.data}")
    totals = [np.zeros((len(dataset.classes),) * 2, np.int64) for _ in range(2)]
    same = pixels = 0
    with deployed(exact, run.preprocessing) as before, deployed(approximate, run.preprocessing) as after:
        for i in range(len(decoded)):
            image, label = decoded[i]
            masks = [before(image), after(image)]
            same, pixels = same + int((masks[0] == masks[1]).sum()), pixels + masks[0].size
            for total, mask in zip(totals, masks, strict=True):
                total += confusion(label, mask, len(dataset.classes))
    without, percent = (Score.from_confusion(t, dataset.classes, len(decoded)).miou_percent for t in totals)
    agreement = 100 * same / pixels
    say(f"the mask is the same on {agreement:.2f} % of pixels; mIoU {without:.2f} % without, {percent:.2f} % with it")
    return Approximation(
        run.config.data.partition(":")[0], "val", len(decoded), agreement, without, percent, without - percent
    )
