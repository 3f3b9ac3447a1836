"""How long and how hard to train, and the learning rate of each step."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import tensorflow as tf
import tf_keras

from pipeline.core.errors import RunError
from pipeline.core.number import MOST_IMAGES, MOST_RATE, MOST_STEPS, real, whole
from pipeline.core.training import plain_without_defaults


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long and how hard to train.

    Attributes:
      steps: weight updates.
      batch: images in each.
      learning_rate: peak; polynomial decay (power 0.9) to 0 after a linear warm-up over the first 5 % of the steps.
      weight_decay: decoupled (AdamW), on everything but batch norm and biases.
      average: the scored weights are a running mean over about steps / average; 0 scores the last weights themselves.
      evaluations: how many checkpoints are scored, the last weights included.
      jaccard: weight of the soft Jaccard loss beside the cross entropy.
      distil: weight of the distance to the class probabilities of the teacher; the labels' losses have weight 1.
      temperature: softens both distributions of that distance (Hinton et al., arXiv 1503.02531).
      labels: whether to learn from the labels; without them, from the teacher alone.
      auxiliary: weight of each auxiliary classifier's loss, where the network has such; 0 leaves them out.
      hard: pixels whose class the network gives less than this probability are the only ones that count in the cross
        entropy (online hard examples, Shrivastava et al., arXiv 1604.03540); 0 counts all.
      statistics_until: share of the steps after which batch norm's statistics (and dropout) stay as they are.
    """

    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.01
    average: int = 20
    evaluations: int = 5
    jaccard: float = 0.5
    distil: float = 0.0
    temperature: float = 1.0
    labels: bool = True
    statistics_until: float = 1.0
    auxiliary: float = 0.4
    hard: float = 0.0

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1, MOST_STEPS)
        whole("batch", self.batch, 1, MOST_IMAGES)
        real("the learning rate", self.learning_rate, 0, MOST_RATE, above=True)
        real("the weight decay", self.weight_decay, 0, 1)
        whole("average", self.average, 0)
        whole("evaluations", self.evaluations, 1, MOST_STEPS)
        real("the weight of the Jaccard loss", self.jaccard, 0, 1e6)
        real("the weight of the teacher", self.distil, 0, 1e6)
        real("the temperature", self.temperature, 0, 1e6, above=True)
        real("the weight of the auxiliary losses", self.auxiliary, 0, 1e6)
        real("hard, a probability,", self.hard, 0, 1)
        real("statistics_until, a share of the steps,", self.statistics_until, 0, 1)
        if self.steps * self.batch >= 1 << 31:
            raise RunError(
                f"{self.steps} steps of {self.batch} images are {self.steps * self.batch} images: fewer than {1 << 31}"
                " are allowed."
            )
        if not self.labels and not self.distil:
            raise RunError("without labels, the teacher is all there is to learn from: its weight must not be 0.")

    def as_setting(self) -> dict[str, Any]:
        """What a training keeps."""
        return plain_without_defaults(self, ("auxiliary", "hard"))

    @property
    def scoring_steps(self) -> set[int]:
        """The steps after which a checkpoint is scored, the last step among them."""
        return {math.ceil(self.steps * (i + 1) / self.evaluations) for i in range(self.evaluations)}

    @property
    def statistics_frozen_from(self) -> int:
        """After so many steps, batch norm's statistics stay as they are."""
        return round(self.statistics_until * self.steps)

    @property
    def average_momentum(self) -> float:
        """Share of the running mean that a step keeps, once it has run in."""
        return max(0.0, 1 - self.average / self.steps) if self.average else 0.0


class Decay(tf_keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then polynomial decay with power 0.9."""

    def __init__(self, schedule: Schedule) -> None:
        self.peak, self.steps = schedule.learning_rate, schedule.steps
        self.warm_up = max(1, schedule.steps // 20)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        left = tf.maximum(0.0, 1 - step / self.steps)
        return self.peak * tf.minimum((step + 1) / self.warm_up, tf.pow(left, 0.9))

    def get_config(self) -> dict[str, Any]:
        return {}
