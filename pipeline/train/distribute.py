"""Trains one network in several processes: each takes its part of every batch, and the sums are those of one process.

TensorFlow's MultiWorkerMirroredStrategy connects the processes and adds up their tensors, over the network or with NCCL
between GPUs. Each process has plain variables of its own, which stay equal because every update is computed from the
same sums: so a network can be scored, saved and converted as everywhere else, which variables of a strategy do not
allow. Each process uses one GPU, also where a machine has several.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

import numpy as np
import tensorflow as tf
import tf_keras

from pipeline.core.errors import RunError, TrainingDiverged
from pipeline.core.workers import CONFIG, Workers
from pipeline.train.deadline import deadline

LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)
"""What a sum over the workers raises where one of them is gone."""
CONNECT_SECONDS = 600
"""Workers wait so long for each other to start."""
TOLERANCE = 1e-5
"""Of values that should be equal on all workers, relative to the largest: processors of two kinds round differently."""


class Team:
    """The workers, connected. Construct it before TensorFlow computes anything; it waits until all are there."""

    def __init__(self, workers: Workers, stderr: TextIO | None = None) -> None:
        """``stderr``: where a wait that takes too long is reported; None: this process's own."""
        os.environ[CONFIG] = workers.config(workers.rank)
        self.workers, self.met = workers, False
        try:
            with _native(), deadline(CONNECT_SECONDS, workers, stderr), lost_workers("while they were connecting"):
                self._strategy = tf.distribute.MultiWorkerMirroredStrategy()
        except tf.errors.UnknownError as error:  # Could not start gRPC server
            raise RunError(
                f"worker {workers.rank} cannot listen at {workers.addresses[workers.rank]} ({error.message}): see that"
                " no other program uses the port, or name another one for it on all workers."
            ) from None

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """``function`` in the context in which ``summed`` works; within a tf.function."""
        return self._strategy.run(function, args=arguments)

    def sum(self, array: np.ndarray) -> np.ndarray:
        """The sum of the workers' arrays of one shape and type."""
        if array.dtype not in self._sums:
            self._sums[array.dtype] = tf.function(
                lambda x: self.run(summed, x), input_signature=[tf.TensorSpec([None], array.dtype)]
            )
        with lost_workers("during the training" if self.met else "before the training began"):
            return np.asarray(self._sums[array.dtype](array).numpy())

    @functools.cached_property
    def _sums(self) -> dict[Any, Any]:
        return {}

    def of_chief(self, array: np.ndarray) -> np.ndarray:
        """The chief's array [n]; of the others' only shape and type count."""
        return self.sum(array if self.workers.leads else np.zeros_like(array))

    def tell(self, text: str) -> str:
        """The chief's text; other workers give any."""
        data = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
        size = int(self.of_chief(np.array([len(data)], np.int32))[0])
        if not size:  # TensorFlow crashes on a sum of nothing
            return ""
        return bytes(self.of_chief(np.resize(data, size) if len(data) else np.zeros(size, np.int32)).tolist()).decode()

    def meet(self, run: str) -> str:
        """Waits for all; the path of the chief's run, '' where it has nothing to train."""
        told = self.tell(run)
        self.met = True
        return told

    def check_same(self, **what: bytes) -> None:
        """Raises RunError on every worker where the bytes are not the chief's on one of them."""
        for name, data in what.items():
            digest = int.from_bytes(hashlib.sha256(data).digest()[:7], "little")
            ours = np.zeros(self.workers.count, np.int64)
            ours[self.workers.rank] = digest
            each = self.sum(ours)
            if other := [rank for rank, value in enumerate(each) if value != each[0]]:
                raise RunError(
                    f"worker {', '.join(map(str, other))} has {name.replace('_', ' ')} other than the chief: start all"
                    " workers with the same options, code and files."
                )

    def share(self, variables: Sequence[tf.Variable]) -> None:
        """Gives all workers the chief's values."""
        for some in _by_type(variables):
            for variable, value in zip(some, _split(self.of_chief(_flat(some)), some), strict=True):
                variable.assign(value)

    def check_equal(self, variables: Sequence[tf.Variable], step: int) -> None:
        """Raises TrainingDiverged on every worker where values are not the chief's on one of them."""
        worst = np.zeros(self.workers.count)
        for some in _by_type(variables):
            ours = _flat(some)
            chiefs = self.of_chief(ours)
            distance = np.abs(chiefs.astype(np.float64) - ours) / max(1.0, float(np.abs(chiefs).max(initial=0)))
            worst[self.workers.rank] = max(worst[self.workers.rank], float(distance.max(initial=0)))
        each = self.sum(worst)
        if not (each <= TOLERANCE).all():
            far = int(np.argmax(np.where(np.isnan(each), np.inf, each)))
            raise TrainingDiverged(
                f"the weights and ranges of worker {far} differ from the chief's by {each[far]:.1e} after step {step}:"
                " their machines compute differently. Start all again: the training resumes from its last checkpoint."
            )


@contextlib.contextmanager
def _native() -> Iterator[None]:
    """Inside, where TensorFlow holds Python's lock, Ctrl-C ends the process at once.

    TensorFlow takes SIGTERM for itself there, and ignores it: afterwards it is this process's again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


_TEAM: list[Team] = []
"""Of this process: TensorFlow is connected once, before it computes anything."""


def join(workers: Workers, stderr: TextIO | None = None) -> Team:
    """Connects this process with the other workers. Raises RunError where they cannot be reached.

    A wait of CONNECT_SECONDS ends this process, with a sentence on ``stderr``: no exception can end it.
    """
    _TEAM.append(Team(workers, stderr))
    return _TEAM[-1]


def joined() -> Team | None:
    """The team of this process; None where it trains alone."""
    return _TEAM[-1] if _TEAM else None


@contextlib.contextmanager
def lost_workers(when: str) -> Iterator[None]:
    """Turns the errors of a worker that is gone into one sentence."""
    try:
        yield
    except LOST as error:
        raise RunError(
            f"another worker ended or cannot be reached, {when} ({type(error).__name__}): its own messages say why."
            " Start all workers again with the same commands: a training resumes from its last checkpoint."
        ) from None


def summed(tensors: Any) -> Any:
    """The sums over all workers, of one tensor or of several; differentiable. Only within ``Team.run``."""
    here = tf.nest.map_structure(tf.identity, tensors)  # what came from outside has no device, which the sum needs
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, here)


def synchronize_norms(network: tf_keras.Model) -> None:
    """Makes batch norm, while it gathers statistics, use those of the whole batch. Only within ``Team.run``."""
    for layer in network.submodules:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            layer.fused = True
            layer._fused_batch_norm = functools.partial(_normalize, layer, layer._fused_batch_norm)


def _normalize(layer: Any, alone: Callable[..., tf.Tensor], inputs: tf.Tensor, mask: Any, training: Any) -> tf.Tensor:
    """As the fused batch norm of one process: the variance that is kept is the unbiased one."""
    if not training:
        return alone(inputs, mask=mask, training=training)
    kind, inputs = inputs.dtype, tf.cast(inputs, tf.float32)
    channels = inputs.shape[-1]
    size = tf.cast(tf.size(inputs) / channels, tf.float32)
    axes = list(range(inputs.shape.rank - 1))
    sums = tf.concat([tf.reduce_sum(inputs, axes), tf.reduce_sum(tf.square(inputs), axes), size[None]], 0)
    total = summed(sums)
    count = total[-1]
    mean = total[:channels] / count
    variance = tf.maximum(total[channels:-1] / count - tf.square(mean), 0.0)
    for kept, now in ((layer.moving_mean, mean), (layer.moving_variance, variance * count / (count - 1))):
        kept.assign_sub((kept - tf.stop_gradient(now)) * (1 - layer.momentum))
    beta, gamma = (None if v is None else tf.cast(v, tf.float32) for v in (layer.beta, layer.gamma))
    return tf.cast(tf.nn.batch_normalization(inputs, mean, variance, beta, gamma, layer.epsilon), kind)


def divide_dropout(network: tf_keras.Model, workers: Workers) -> None:
    """Makes each worker drop what one process would drop of its part of the batch; after ``draw_by_step``."""
    for layer in network.submodules:
        generator = getattr(layer, "_random_generator", None)
        if generator is not None:
            generator.dropout = functools.partial(_drop, generator.dropout, workers)


def _drop(
    alone: Callable[..., tf.Tensor], workers: Workers, inputs: tf.Tensor, rate: float, noise_shape: Any = None
) -> tf.Tensor:
    here = tf.shape(inputs)[0]
    whole = tf.ones(tf.concat([[here * workers.count], tf.shape(inputs)[1:]], 0), inputs.dtype)
    if noise_shape is not None:
        noise_shape = tf.concat([tf.shape(whole)[:1], tf.convert_to_tensor(noise_shape)[1:]], 0)
    kept = alone(whole, rate, noise_shape=noise_shape)
    return inputs * tf.ensure_shape(kept[here * workers.rank : here * (workers.rank + 1)], inputs.shape)


def _by_type(variables: Sequence[tf.Variable]) -> list[list[tf.Variable]]:
    types = dict.fromkeys(v.dtype for v in variables)
    return [[v for v in variables if v.dtype == each] for each in types]


def _flat(variables: Sequence[tf.Variable]) -> np.ndarray:
    return np.concatenate([np.ravel(v.numpy()) for v in variables])


def _split(flat: np.ndarray, variables: Sequence[tf.Variable]) -> list[np.ndarray]:
    sizes = [int(np.prod(v.shape)) for v in variables]
    return [part.reshape(v.shape) for part, v in zip(np.split(flat, np.cumsum(sizes)[:-1]), variables, strict=True)]
