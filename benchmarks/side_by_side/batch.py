"""Augments a batch as ``pipeline.train.feed`` does: the same operations, with draws of JAX."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pipeline.core.dataset import IGNORE

Array = Any


def augment(  # long: an image, what is drawn for it, and what is made of it
    image: Array, label: Array, look: Array, light: Array, size: tuple[int, int], settings: dict[str, Array]
) -> tuple[Array, Array]:
    """uint8 [h, w, 3] and [h, w] → float32 [*size, 3] in [0, 1] and int32 [*size].

    ``look``, ``light``: what ``pipeline.train.feed.augment`` draws, [12] and [2], uniform in [0, 1). ``settings``: of
    one network.
    """
    low, high = jnp.log(settings["scale_from"]), jnp.log(settings["scale_to"])
    zoom, aspect = jnp.exp(low + look[0] * (high - low)), jnp.exp(-0.1 + look[1] * 0.2)
    extents = jnp.stack([1 / (zoom * aspect), aspect / zoom])
    starts = look[2:4] * (1 - extents)
    (top, left), (bottom, right) = starts, starts + extents
    left, right = jnp.where(look[4] < 0.5, left, right), jnp.where(look[4] < 0.5, right, left)
    rows, columns = positions(top, bottom, image.shape[0], size[0]), positions(left, right, image.shape[1], size[1])
    inside = _inside(rows, image.shape[0])[:, None] & _inside(columns, image.shape[1])[None]

    pixels = lit(image.astype(jnp.float32) / 255, light, settings)
    pixels = jnp.where(inside[..., None], bilinear(pixels, rows, columns), 114 / 255)
    nearest = [jnp.clip(rounded(at), 0, n - 1) for at, n in zip((rows, columns), image.shape, strict=False)]
    ids = jnp.where(inside, label[nearest[0][:, None], nearest[1][None]].astype(jnp.int32), IGNORE)

    colour = settings["colour"]
    gains = 1 + colour * (2 * look[5:9] - 1)
    pixels = pixels * (gains[0] * (1 + 0.3 * colour * (2 * look[9:12] - 1)))
    grey = pixels.mean(-1, keepdims=True)
    pixels = grey + (pixels - grey) * gains[1]
    mean = pixels.mean()
    return jnp.clip(mean + (pixels - mean) * gains[2], 0.0, 1.0), ids


def positions(start: Array, end: Array, source: int, size: int) -> Array:
    """Where in ``source`` pixels each of ``size`` lies, as TensorFlow's crop_and_resize has it."""
    return (start + jnp.arange(size) * ((end - start) / (size - 1))) * (source - 1)


def rounded(at: Array) -> Array:
    return jnp.floor(at + 0.5).astype(jnp.int32)


def _inside(at: Array, size: int) -> Array:
    return (at >= 0) & (at <= size - 1)


def bilinear(image: Array, rows: Array, columns: Array) -> Array:
    """[h, w, c] at the positions of rows and columns, which are held within the image."""
    above = jnp.clip(jnp.floor(rows), 0, image.shape[0] - 1).astype(jnp.int32)
    left = jnp.clip(jnp.floor(columns), 0, image.shape[1] - 1).astype(jnp.int32)
    below, right = jnp.minimum(above + 1, image.shape[0] - 1), jnp.minimum(left + 1, image.shape[1] - 1)
    down, over = (rows - above)[:, None, None], (columns - left)[None, :, None]
    upper = image[above[:, None], left[None]] * (1 - over) + image[above[:, None], right[None]] * over
    lower = image[below[:, None], left[None]] * (1 - over) + image[below[:, None], right[None]] * over
    return upper * (1 - down) + lower * down


def lit(pixels: Array, light: Array, settings: dict[str, Array]) -> Array:
    """In another light: times a factor, then to a power, of values in [0, 1]."""
    exposure, gamma = settings["exposure"], settings["gamma"]
    pixels = pixels * jnp.exp(-exposure + light[0] * (exposure / 3 + exposure))
    power = jnp.exp(-gamma + light[1] * 2 * gamma)
    return jnp.where(gamma > 0, jnp.clip(pixels, 1e-12, 1.0) ** power, pixels)


def paste(images: Array, labels: Array, chosen: Array) -> tuple[Array, Array]:
    """Pastes upon each image the pixels of the chosen classes of the image after it; returns all but the last."""
    pasted = jax.vmap(lambda row, ids: row[ids])(chosen[:-1], labels[1:])
    return jnp.where(pasted[..., None], images[1:], images[:-1]), jnp.where(pasted, labels[1:], labels[:-1])


def cut(images: Array, labels: Array, draws: Array, share: Array) -> tuple[Array, Array]:
    """Pastes upon each image, with probability ``share``, a window of the one after it; draws: [n + 1, 5]."""
    height, width = labels.shape[1:]
    area = 0.1 + 0.4 * draws[:, 0]
    side = jnp.sqrt(area)
    tops, lefts = draws[:, 1] * (1 - side), draws[:, 2] * (1 - side)
    rows, columns = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    across = (rows >= tops[:, None]) & (rows < (tops + side)[:, None])
    along = (columns >= lefts[:, None]) & (columns < (lefts + side)[:, None])
    window = (across[:, :, None] & along[:, None, :] & (draws[:, 3] < share)[:, None, None])[:-1]
    return jnp.where(window[..., None], images[1:], images[:-1]), jnp.where(window, labels[1:], labels[:-1])


def batch_of(
    images: Array, labels: Array, key: Array, size: tuple[int, int], settings: dict[str, Array], shares: Array
) -> tuple[Array, Array]:
    """uint8 [n + 2, h, w, 3] and [n + 2, h, w] → a batch of n, float32 and int32.

    ``shares``: float32 [256], how often each class is pasted.
    """
    keys = jax.random.split(key, 4)
    count = len(images)
    look, light = jax.random.uniform(keys[0], (count, 12)), jax.random.uniform(keys[1], (count, 2))
    one = functools.partial(augment, size=size, settings=settings)
    images, labels = jax.vmap(one)(images, labels, look, light)
    drawn = jax.random.uniform(keys[2], (count, IGNORE + 1))
    images, labels = paste(images, labels, drawn < shares)
    return cut(images, labels, jax.random.uniform(keys[3], (count - 1, 5)), settings["cut"])
