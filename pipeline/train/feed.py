"""Feeds a dataset's samples to training: augmented and batched, in an order that a resumed training repeats."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.core.dataset import IGNORE, TrainingDefaults
from pipeline.core.errors import BadSpec, DataError
from pipeline.core.number import real
from pipeline.core.preprocessing import SCALE
from pipeline.core.training import plain_without_defaults
from pipeline.data.decoded import Decoded
from pipeline.drivers.litert_worker import cores

LIGHT, PASTED, CENTRED = 1, 2, 3
"""Folded into the seed for the draws of the light, of what is pasted and of what is looked at, so that the others stay
as they were."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What training does to an image; the same geometry is applied to its label.

    Attributes:
      scale: zoom drawn log-uniformly from this interval; below 1 the rest is padded and ignored.
      flip: mirror left and right, half of the time.
      colour: relative strength of brightness, contrast, saturation and white balance; 0 turns them off.
      exposure: other light than that of the training images, such as dusk: the pixels are multiplied by a factor drawn
        log-uniformly from e^−exposure to e^(exposure / 3). 0 turns it off.
      gamma: the exponent of the pixels is drawn log-uniformly from e^−gamma to e^gamma. 0 turns it off.
      paste: probability with which each rare class is cut out of another training image, augmented by itself, and
        pasted where it was there (copy-paste, Ghiasi et al., arXiv 2012.07177). 0 turns it off.
      balance: probability with which the part of the image that is shown is chosen to hold a pixel of a rare class,
        where the image has one. 0 turns it off.
    """

    scale: tuple[float, float] = (0.6, 1.8)
    flip: bool = True
    colour: float = 0.25
    exposure: float = 0.0
    gamma: float = 0.0
    paste: float = 0.0
    balance: float = 0.0

    def __post_init__(self) -> None:
        for end in self.scale:
            real("an end of scale", end, 0, 100, above=True)
        if self.scale[0] > self.scale[1]:
            raise BadSpec(f"scale is {self.scale}: give its smaller end first.")
        for name in ("colour", "exposure", "gamma"):
            real(name, getattr(self, name), 0, 4)
        real("paste", self.paste, 0, 1)
        real("balance", self.balance, 0, 1)

    @classmethod
    def of(cls, defaults: TrainingDefaults) -> Augmentation:
        return cls(defaults.scale, True, defaults.colour, defaults.exposure, defaults.gamma, defaults.paste)

    def as_setting(self) -> dict[str, Any]:
        """What a training keeps."""
        return plain_without_defaults(self, ("exposure", "gamma", "paste", "balance"))


def augment(
    image: tf.Tensor,
    label: tf.Tensor,
    seed: tf.Tensor,
    height: int,
    width: int,
    settings: Augmentation,
    rare: tuple[int, ...] = (),
) -> tuple[tf.Tensor, tf.Tensor]:
    """uint8 [h, w, 3] and [h, w] → float32 [height, width, 3] in [0, 1] and uint8 [height, width].

    ``seed`` is int32 [2]: the same seed gives the same result. ``rare``: ids of the classes that ``balance`` looks for.
    """
    draws = tf.random.stateless_uniform([12], seed)
    light = tf.random.stateless_uniform([2], tf.random.experimental.stateless_fold_in(seed, LIGHT))
    zoom = tf.exp(_between(draws[0], np.log(settings.scale[0]), np.log(settings.scale[1])))
    aspect = 1.0 if settings.scale[0] == settings.scale[1] else tf.exp(_between(draws[1], -0.1, 0.1))
    extents = tf.stack([1 / (zoom * aspect), aspect / zoom])
    starts = draws[2:4] * (1 - extents)  # extent > 1: negative, the image lies somewhere inside the padded window
    if settings.balance and rare:
        starts = _looking_at(rare, label, seed, starts, extents, settings.balance)
    (top, left), (bottom, right) = tf.unstack(starts), tf.unstack(starts + extents)
    if settings.flip:
        left, right = tf.cond(draws[4] < 0.5, lambda: (left, right), lambda: (right, left))
    box = tf.stack([[top, left, bottom, right]])

    def crop(x: tf.Tensor, method: str, outside: float) -> tf.Tensor:
        return tf.image.crop_and_resize(x[None], box, [0], [height, width], method, outside)[0]

    pixels = crop(_lit(image, light, settings), "bilinear", 114.0 * SCALE)
    ids = crop(tf.cast(label, tf.float32)[..., None], "nearest", float(IGNORE))[..., 0]
    if settings.colour:
        gains = 1 + settings.colour * (2 * draws[5:9] - 1)
        pixels *= gains[0] * (1 + 0.3 * settings.colour * (2 * draws[9:12] - 1))
        grey = tf.reduce_mean(pixels, axis=-1, keepdims=True)
        pixels = grey + (pixels - grey) * gains[1]
        mean = tf.reduce_mean(pixels)
        pixels = tf.clip_by_value(mean + (pixels - mean) * gains[2], 0.0, 1.0)
    return tf.ensure_shape(pixels, [height, width, 3]), tf.ensure_shape(tf.cast(ids, tf.uint8), [height, width])


def _looking_at(
    rare: tuple[int, ...], label: tf.Tensor, seed: tf.Tensor, starts: tf.Tensor, extents: tf.Tensor, share: float
) -> tf.Tensor:
    """Where the window starts, [2] in parts of the image: with probability ``share``, so that a rare pixel is in it."""
    draws = tf.random.stateless_uniform([2], tf.random.experimental.stateless_fold_in(seed, CENTRED))
    among = np.zeros(IGNORE + 1, bool)
    among[list(rare)] = True
    places = tf.where(tf.gather(among, tf.cast(label, tf.int32)))  # [n, 2]
    count = tf.shape(places)[0]

    def looking() -> tf.Tensor:
        place = places[tf.minimum(tf.cast(draws[1] * tf.cast(count, tf.float32), tf.int32), count - 1)]
        at = (tf.cast(place, tf.float32) + 0.5) / tf.cast(tf.shape(label), tf.float32)
        before = tf.where(extents < 1, starts / (1 - extents), 0.5)  # the draw: how far into the window it is
        return tf.where(extents < 1, tf.clip_by_value(at - before * extents, 0.0, 1 - extents), starts)

    return tf.cond((draws[0] < share) & (count > 0), looking, lambda: starts)


def _lit(image: tf.Tensor, light: tf.Tensor, settings: Augmentation) -> tf.Tensor:
    """uint8 [h, w, 3] → float32 [h, w, 3], 1 where white is, in the light of two draws; float32 [2]."""
    if not settings.exposure and not settings.gamma:
        return tf.cast(image, tf.float32) * SCALE
    values = np.arange(256, dtype=np.float32) * SCALE
    if settings.exposure:
        values *= tf.exp(_between(light[0], -settings.exposure, settings.exposure / 3))
    if settings.gamma:
        values = tf.clip_by_value(values, 0.0, 1.0) ** tf.exp(_between(light[1], -settings.gamma, settings.gamma))
    return tf.gather(values, tf.cast(image, tf.int32))  # 256 powers instead of one for each pixel


def paste(images: tf.Tensor, labels: tf.Tensor, chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pastes upon each image the pixels of the chosen classes of the image after it; returns all but the last.

    float32 [n + 1, h, w, 3], uint8 [n + 1, h, w], and whether a class is chosen, bool [n + 1, 256] → float32
    [n, h, w, 3], uint8 [n, h, w].
    """
    pasted = tf.gather(chosen[:-1], tf.cast(labels[1:], tf.int32), batch_dims=1)
    return tf.where(pasted[..., None], images[1:], images[:-1]), tf.where(pasted, labels[1:], labels[:-1])


def _between(draw: tf.Tensor, low: float, high: float) -> tf.Tensor:
    return low + draw * (high - low)


@functools.lru_cache(maxsize=4)  # batches are prepared ahead, so two epochs meet where one ends
def order_of(epoch: int, count: int, seed: int) -> np.ndarray:
    """The order in which an epoch goes through ``count`` images: int64 [count]."""
    return np.random.default_rng((seed, epoch)).permutation(count)


@dataclasses.dataclass(frozen=True)
class Feed:
    """Decoded images and labels as augmented batches, each epoch in its own order.

    The batch of step n depends on the seed and on n alone, so a resumed training meets the same batches.

    Attributes:
      size: (height, width) of the batches in pixels.
      batch: images in each.
      seed: of the orders and of the augmentation.
      part: (rank of the worker, how many there are): which part of each batch is its own.
      rare: ids of the classes that are pasted or looked at, where the augmentation does.
    """

    decoded: Decoded
    size: tuple[int, int]
    batch: int
    augmentation: Augmentation
    seed: int
    part: tuple[int, int] = (0, 1)
    rare: tuple[int, ...] = ()

    def batches(self, first_step: int, steps: int) -> tf.data.Dataset:
        """Of steps ``first_step`` … ``steps``−1: float32 [batch, height, width, 3], uint8 [batch, height, width].

        ``batch`` is divided by the number of workers.
        """
        untranslated = tf.autograph.experimental.do_not_convert
        rank, workers = self.part
        own = self.batch // workers
        read = own + self._pastes  # each image is pasted upon from the one after it

        def position(i: tf.Tensor) -> tf.Tensor:
            return i // read * self.batch + rank * own + i % read

        positions = tf.data.Dataset.range(first_step * read, steps * read).map(untranslated(position))
        augmented = positions.map(untranslated(self._augmented), num_parallel_calls=max(2, len(cores()) // workers))
        batches = augmented.batch(read, drop_remainder=True)
        if self._pastes:
            batches = batches.map(untranslated(paste))
        return batches.prefetch(3)

    def _augmented(self, position: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The image and label at a position, which counts through the epochs, and which classes to paste upon it."""
        image, label = tf.numpy_function(self._read, [position], [tf.uint8, tf.uint8])
        image.set_shape([None, None, 3])
        label.set_shape([None, None])
        seed = tf.stack([tf.cast(position, tf.int32), self.seed])
        augmented = augment(image, label, seed, *self.size, self.augmentation, self.rare)
        if not self._pastes:
            return augmented
        drawn = tf.random.stateless_uniform([len(self.rare)], tf.random.experimental.stateless_fold_in(seed, PASTED))
        chosen = tf.scatter_nd(np.array(self.rare)[:, None], drawn < self.augmentation.paste, [IGNORE + 1])
        return *augmented, chosen

    @property
    def _pastes(self) -> bool:
        return bool(self.augmentation.paste and self.rare)

    def _read(self, position: np.int64) -> tuple[np.ndarray, np.ndarray]:
        epoch, place = divmod(int(position), len(self.decoded))
        try:
            return self.decoded[int(order_of(epoch, len(self.decoded), self.seed)[place])]
        except DataError as error:
            self.decoded.error = error  # tf.data would report it as its own
            raise
