"""Holds images out of the training split, and scores files on them to choose the checkpoint of a QAT."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tf_keras

from pipeline.core.dataset import Sample
from pipeline.core.preprocessing import Preprocessing
from pipeline.core.progress import track
from pipeline.core.say import Say, quiet
from pipeline.core.score import mean_iou_percent
from pipeline.data.decoded import Decoded
from pipeline.measure.confusion import believed, confusions, expected_confusion
from pipeline.measure.score import deployed, masks_of
from pipeline.measure.threads import in_threads
from pipeline.train.train import keras_logits

HELD_OUT = 40


def hold_out(samples: Sequence[Sample]) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """(samples to train and calibrate on, samples held out to choose the checkpoint): disjoint.

    Holds out 40, evenly spread, but a fifth at most; of fewer than five samples none.
    """
    count = min(HELD_OUT, len(samples) // 5)
    chosen = set(np.linspace(0, len(samples) - 1, count).astype(int).tolist())
    kept = tuple(s for i, s in enumerate(samples) if i not in chosen)
    return kept, tuple(s for i, s in enumerate(samples) if i in chosen)


def parent_probabilities(
    parent: tf_keras.Model, images: Decoded, class_weights: Sequence[float] | None, say: Say = quiet
) -> list[np.ndarray]:
    """The class probabilities of each image under the float parent: float16 [h, w, classes]; see ``believed``."""
    logits = keras_logits(parent)
    pixels = track(say, (images[i][0] for i in range(len(images))), "asking the float parent", len(images))
    return [believed(logits(image), image.shape[0], image.shape[1], class_weights) for image in pixels]


@dataclasses.dataclass(frozen=True)
class HeldOutScorer:
    """Scores files on images held out.

    Attributes:
      probabilities: the float parent's, image by image, used instead of the labels; None to use the labels.
    """

    images: Decoded
    num_classes: int
    preprocessing: Preprocessing
    probabilities: list[np.ndarray] | None = None
    say: Say = quiet

    def confusions(self, file: bytes) -> np.ndarray:
        """[images, classes, classes] of a .tflite file: int64 by the labels, float64 by the probabilities."""
        with deployed(file, self.preprocessing) as infer:
            if (probabilities := self.probabilities) is None:
                masks = track(self.say, masks_of(self.images, infer), "scoring", len(self.images))
                return confusions(masks, self.num_classes)
            expected = in_threads(
                lambda i: expected_confusion(probabilities[i], infer(self.images[i][0])), len(self.images)
            )
            return np.stack(list(track(self.say, expected, "scoring", len(self.images))))


def percent_of(confusions_of_images: np.ndarray) -> float:
    """mIoU of all images together, in percent."""
    return float(mean_iou_percent(confusions_of_images.sum(0)))
