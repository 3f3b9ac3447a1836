"""What a network is before it has weights: its family, size, classes and options."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from pipeline.core.errors import BadSpec
from pipeline.core.number import real, whole

LONGEST_SIDE = 8192
"""More than an 8K camera has."""
MOST_SEED = 2**31 - 2
"""Augmentation draws from an int32, and QAT takes the next seed after the run's."""
NETWORK_NAME = r"[\w.+-]{1,64}"
Resize = Literal["align_corners", "half_pixel"]


def parse_size(text: str) -> tuple[int, int]:
    """``'360x480'`` → (360, 480), HEIGHTxWIDTH in pixels; raises BadSpec."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip().lower())
    if not match:
        raise BadSpec(f"size {text!r} is not HEIGHTxWIDTH: write it like 360x480, in pixels.")
    return int(match[1]), int(match[2])


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """One network, fully described: the same spec builds the same graph.

    Input: [batch, height, width, 3] float32 in [0, 1], RGB. Output: logits
    [batch, height, width, num_classes] float32.

    Attributes:
      network: registered name, e.g. 'fast-scnn'.
      height, width: input size in pixels.
      num_classes: channels of the logits.
      alpha: width multiplier of every channel count but the classes.
      resize: the bilinear convention, fixed when the network is built: trained weights fit one convention only.
      batch_norm: where it is off, every convolution has a bias instead.
      l2: L2 regularisation of the convolutions' kernels (0: none).
      dropout: rate, where the network's paper has dropout.
    """

    network: str
    height: int
    width: int
    num_classes: int
    alpha: float = 1.0
    resize: Resize = "align_corners"
    batch_norm: bool = True
    l2: float = 0.0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not re.fullmatch(NETWORK_NAME, self.network, re.ASCII):
            raise BadSpec(f"network {self.network[:40]!r} is no name: it has letters, digits, and - . + or _.")
        for name in ("height", "width", "num_classes"):
            whole(name, getattr(self, name), 0)
        if self.height < 1 or self.width < 1:
            raise BadSpec(f"size {self.height}x{self.width} is not positive: give HEIGHTxWIDTH like 360x480.")
        if max(self.height, self.width) > LONGEST_SIDE:
            raise BadSpec(
                f"size {self.height}x{self.width} is too large: at most {LONGEST_SIDE} pixels along each side."
            )
        if not 2 <= self.num_classes <= 255:
            raise BadSpec(f"num_classes is {self.num_classes}: a label image holds 2 to 255 classes.")
        real("alpha", self.alpha, 0, 4, above=True)
        if self.resize not in get_args(Resize):
            raise BadSpec(f"resize is {self.resize!r}: choose one of {', '.join(get_args(Resize))}.")
        real("l2", self.l2, 0, 1000)
        real("dropout", self.dropout, 0, 1)
        if self.dropout == 1:
            raise BadSpec("dropout is 1, which would drop everything: give a number from 0 to below 1.")

    @property
    def size(self) -> str:
        return f"{self.height}x{self.width}"

    def channels(self, count: int) -> int:
        """``count`` channels under the width multiplier, rounded, at least 1."""
        return max(1, round(count * self.alpha))


def check_classes(classes: Sequence[str], colours: Sequence[tuple[int, int, int]], num_classes: int) -> None:
    """Raises ValueError for names and colours that are not those of a network's classes; no colours are allowed."""
    if len(classes) != num_classes:
        raise ValueError(f"{len(classes)} classes, and the network has {num_classes}")
    if len(set(classes)) < len(classes):
        raise ValueError("one class is there twice")
    if len(colours) not in (0, len(classes)):
        raise ValueError(f"{len(colours)} colours for {len(classes)} classes")
    if not all(0 <= value <= 255 for colour in colours for value in colour):
        raise ValueError("a colour is not of values from 0 to 255")


@dataclasses.dataclass(frozen=True)
class Network:
    """A registered model family.

    Attributes:
      build: spec → tf_keras.Model that gives logits; raises BadSpec for a size that it cannot take.
      auxiliary: layers whose outputs get a classifier of their own in training (0.4 of the loss each).
      min_size: smallest (height, width) that it takes.
      learning_rate_factor: times the dataset's default learning rate; deep networks with few batch norms need less.
      logits_stride: pixels, along each axis, for one sample of the logits before the last resize; 1 without a resize.
      stages: first word of a layer's name ('down1' of 'down1_conv2') → what tables call it; without an entry, the word
        itself.
      load_encoder: (model, source) → None; loads published encoder weights. None where there are none.
    """

    name: str
    title: str
    source: str
    build: Callable[[ModelSpec], Any]
    min_size: tuple[int, int]
    auxiliary: tuple[str, ...] = ()
    load_encoder: Callable[[Any, str], None] | None = None
    learning_rate_factor: float = 1.0
    logits_stride: int = 1
    stages: Mapping[str, str] = dataclasses.field(default_factory=dict)
