"""Which labelled images a run learns from, and which it is judged by."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

from pipeline.core.errors import BadSpec

TrainOn = Literal["train", "train+val"]


@dataclasses.dataclass(frozen=True)
class Division:
    """A division of the labelled images; as it stands, that of the dataset.

    Attributes:
      train_on: the splits that training, calibration and the choice of a checkpoint may use.
      hold_out: beginnings of image names. Those images of both splits are taken out of training, and they alone are the
        validation images: whole drives, sites or cameras that the network has not seen.
    """

    train_on: TrainOn = "train"
    hold_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.train_on not in get_args(TrainOn):
            raise BadSpec(f"train on {self.train_on!r}: choose one of {', '.join(get_args(TrainOn))}.")
        if not all(self.hold_out):
            raise BadSpec("the prefix of the images to hold out is empty: that would be all of them.")

    @property
    def trains_on_val(self) -> bool:
        """Whether the validation images are trained on, so that their score says nothing of other images."""
        return self.train_on == "train+val" and not self.hold_out

    @property
    def held_out(self) -> str:
        """'0001TP*, 0016E5*'; empty where nothing is held out."""
        return ", ".join(f"{prefix}*" for prefix in self.hold_out)

    def note_on(self, split: str) -> str | None:
        """What a reader of a score on the split must know; None where nothing is unusual."""
        if split != "val":
            return None
        if self.trains_on_val:
            return "the val images were trained on: their score says nothing about other images"
        return f"the val images are those held out ({self.held_out})" if self.hold_out else None

    def __str__(self) -> str:
        """'train+val without 0016E5*'."""
        return f"{self.train_on} without {self.held_out}" if self.hold_out else self.train_on


UNDIVIDED = Division()
"""The dataset's own train and val."""
