"""Makes a training repeatable bit by bit: random draws depend on the step alone, and sums have one order."""

from __future__ import annotations

import contextlib
import functools
import zlib
from collections.abc import Iterator

import tensorflow as tf
import tf_keras


def draw_by_step(network: tf_keras.Model, seed: int, step: tf.Variable) -> None:
    """Makes the random draws of dropout depend on ``seed``, the layer's name and ``step`` alone.

    Keras draws from a counter inside the op, which no checkpoint holds: a resumed training would repeat its first
    draws. The other layers that draw (SpatialDropout2D, GaussianNoise, ...) are covered too.
    """
    for layer in network.submodules:
        generator = getattr(layer, "_random_generator", None)
        if generator is not None:
            layer_seed = zlib.crc32(layer.name.encode()) + (seed % (1 << 31) << 32)
            generator._rng_type, generator._built = generator.RNG_STATELESS, True
            generator.make_seed_for_stateless_op = functools.partial(_seed_now, layer_seed, step)


def _seed_now(layer_seed: int, step: tf.Variable) -> tf.Tensor:
    return tf.stack([tf.constant(layer_seed, tf.int64), tf.cast(step, tf.int64)])


@contextlib.contextmanager
def one_order_of_sums() -> Iterator[None]:
    """Within it, a tf.function returns the same bits for the same inputs.

    In a graph of large gradients, Grappler's memory optimizer replaces a sum of three or more by additions in whatever
    order the threads reach them (tensorflow/core/grappler/optimizers/memory_optimizer.cc, SchedulingPass).
    enable_op_determinism does not change that, and only the option for all of Grappler turns that pass off. The
    gradients of Fast-SCNN at 352x480, batch 8, took 0.63 s with Grappler and 0.63 s without: medians of eleven,
    alternating, on two shared cores; the shortest took 0.45 s and 0.46 s.
    """
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        disabled_before = before.get("disable_meta_optimizer", False)
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": disabled_before})
