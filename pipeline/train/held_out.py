"""Holds images out of the training split, and scores files on them to choose the checkpoint of a QAT."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence

import numpy as np
import tf_keras

from pipeline.core.dataset import Sample
from pipeline.core.preprocessing import Preprocessing
from pipeline.core.progress import track
from pipeline.core.say import Say, quiet
from pipeline.core.score import mean_iou_percent
from pipeline.data.decoded import Allowance, Decoded
from pipeline.measure.confusion import believed, confusions, expected_confusion
from pipeline.measure.score import deployed, masks_of
from pipeline.measure.threads import in_threads
from pipeline.train.train import keras_logits

HELD_OUT = 40
PROBABILITY_BYTES = 1 << 30
"""Of 19 classes, those of 13 images of 1024x2048."""


def hold_out(samples: Sequence[Sample]) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """(samples to train and calibrate on, samples held out to choose the checkpoint): disjoint.

    Holds out 40, evenly spread, but a fifth at most; of fewer than five samples none.
    """
    count = min(HELD_OUT, len(samples) // 5)
    chosen = set(np.linspace(0, len(samples) - 1, count).astype(int).tolist())
    kept = tuple(s for i, s in enumerate(samples) if i not in chosen)
    return kept, tuple(s for i, s in enumerate(samples) if i in chosen)


class ParentProbabilities:
    """The class probabilities of each image under the float parent: float16 [h, w, classes]; see ``believed``.

    Kept within PROBABILITY_BYTES, the others computed each time; may be used from several threads at once.
    """

    def __init__(self, parent: tf_keras.Model, images: Decoded, class_weights: Sequence[float] | None) -> None:
        self._logits, self._images, self._weights = keras_logits(parent), images, class_weights
        self._kept: dict[int, np.ndarray] = {}
        self._allowance = Allowance(PROBABILITY_BYTES)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:
        if (known := self._kept.get(index)) is not None:
            return known
        image = self._images[index][0]
        with self._lock:  # a call uses all cores
            logits = self._logits(image)
        probabilities = believed(logits, image.shape[0], image.shape[1], self._weights)
        if self._allowance.take(self, probabilities.nbytes):
            self._kept[index] = probabilities
        return probabilities


@dataclasses.dataclass(frozen=True)
class HeldOutScorer:
    """Scores files on images held out.

    Attributes:
      probabilities: the float parent's, used instead of the labels; None to use the labels.
    """

    images: Decoded
    num_classes: int
    preprocessing: Preprocessing
    probabilities: ParentProbabilities | None = None
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
