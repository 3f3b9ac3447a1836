"""The training loop that float training and quantization-aware training share.

It shows progress, can be interrupted at any time, and resumes from its last checkpoint with the same batches.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
import tf_keras

from models.memory import check_training
from pipeline.core.errors import DataError, RunError, TrainingDiverged
from pipeline.core.progress import progress as shown
from pipeline.core.progress import waiting
from pipeline.core.say import Say
from pipeline.core.training import HistoryEntry, Symptom
from pipeline.core.workers import Followed
from pipeline.drivers.spread import versions
from pipeline.quantize.network import rounded_ranges
from pipeline.train.balance import rare_classes
from pipeline.train.distribute import Team, divide_dropout, joined, synchronize_norms
from pipeline.train.events import Events
from pipeline.train.feed import Feed
from pipeline.train.health import described
from pipeline.train.pace import Pace
from pipeline.train.precision import MOST_IN_VAIN
from pipeline.train.reproducible import draw_by_step
from pipeline.train.resume import Progress
from pipeline.train.schedule import Decay, Schedule
from pipeline.train.update import Lesson, WeightUpdate, training_outputs

SAVE_SECONDS = 120


class Checkpoints(Protocol):
    """Scores and saves checkpoints. While a method runs, the network has its averaged weights.

    ``chooses``: whether a score may choose the best; otherwise the last checkpoint counts as the best.
    """

    chooses: bool

    def score(self) -> float | None:
        """Percent; None if there are no images to score on: then no checkpoint is the best."""

    def symptoms(self) -> tuple[Symptom, ...]:
        """What is wrong with the layers of the checkpoint that was just scored; raises TrainingDiverged."""

    def class_iou_percent(self) -> Mapping[str, float]:
        """By class name, of the checkpoint that was just scored; {} where it is not known."""

    def expected_seconds(self) -> float:
        """What scoring will take; asked before it was done once."""

    def keep_best(self) -> None:
        """Writes the checkpoint that was just scored, which is the best so far."""

    def keep_last(self) -> None:
        """Writes the checkpoint that was just scored."""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The scores of a training's best and last checkpoint, and the history that led there.

    Attributes:
      best_percent, best_step, last_percent: None if there were no images to score on.
      step_seconds: median time of a step, reading its loss included.
      judge_seconds: median time of scoring and saving a checkpoint; 0 if all were scored before an interruption.
    """

    best_percent: float | None
    best_step: int | None
    last_percent: float | None
    seconds: float
    step_seconds: float
    judge_seconds: float
    history: tuple[HistoryEntry, ...]


def fit(
    model: tf_keras.Model, lesson: Lesson, schedule: Schedule, checkpoints: Checkpoints, folder: Path, say: Say
) -> Fitted:
    """Trains ``model``; a step is one update of its weights.

    Writes ``folder``/history.jsonl, TensorBoard's events, and in ``folder``/resume what it needs to resume;
    ``checkpoints`` writes the weights. With one seed, on one machine, it ends with the same bits wherever it was
    interrupted and resumed. Where several workers train together, only the chief scores and saves, and Followed ends
    the others. Raises TrainingDiverged when the loss or a weight is no longer finite, the decoder's DataError, and
    RunError where a worker is lost.
    """
    folder.mkdir(parents=True, exist_ok=True)
    team = joined()
    update, progress, feed = prepare(model, lesson, schedule, folder, team)
    if progress.restore(say):
        say(f"resuming from step {progress.step} of {schedule.steps}")
    if team is not None:
        begin_together(team, model, lesson, schedule, progress, folder)
    events = Events(folder, schedule, say)
    loop = TrainingLoop(update, progress, schedule, checkpoints, events, say, team)
    try:
        loop.run(feed.batches(progress.step, schedule.steps))
    except (DataError, tf.errors.OpError) as error:  # an image was removed or is broken: save the training so far
        if progress.step and loop.leads and not loop.within_step:
            progress.save()
        if lesson.decoded.error:
            raise lesson.decoded.error from None
        if isinstance(error, tf.errors.ResourceExhaustedError):
            raise RunError(
                f"a step of {schedule.batch} images does not fit into memory: take fewer (--batch) or smaller ones"
                " (--size) in a new run."
            ) from None
        raise
    except Exception:
        raise
    except BaseException:  # Ctrl-C, or another way to end the process: Python sees it after the step
        if loop.leads:
            progress.save()
        raise
    finally:
        events.close()
    if team is not None and not team.workers.leads:
        raise Followed(f"worker {team.workers.rank} of {team.workers.count}: trained; the chief writes the result")
    return loop.fitted()


def begin_together(
    team: Team, model: tf_keras.Model, lesson: Lesson, schedule: Schedule, progress: Progress, folder: Path
) -> None:
    """Brings all workers to the chief's state. Raises RunError where they do not train the same network alike."""
    if team.workers.leads:
        team.meet(str(folder.parent.absolute()))
    names = [sample.name for sample in lesson.decoded.samples]
    team.check_same(
        versions=repr(versions()).encode(),
        options=repr((schedule, lesson.augmentation, lesson.seed, lesson.resize, lesson.auxiliary)).encode(),
        training_images=repr((names, lesson.class_weights.tolist())).encode(),
        quantizer_ranges=repr(rounded_ranges(model)).encode(),
        teacher=b"".join(np.asarray(v).tobytes() for v in (lesson.teacher.weights if lesson.teacher else ())),
    )
    team.share(progress.state)


def prepare(
    model: tf_keras.Model, lesson: Lesson, schedule: Schedule, folder: Path, team: Team | None = None
) -> tuple[WeightUpdate, Progress, Feed]:
    """What takes the steps, what is saved of them in ``folder``, and the batches; nothing is trained or written yet.

    Raises BadSpec where a step does not fit into memory.
    """
    if schedule.distil and lesson.teacher is None:
        raise RunError(
            "the schedule distils, but there is no teacher: give a teacher, or set the weight of distillation to 0."
        )
    check_training(model, schedule.batch, lesson.teacher if schedule.distil else None)
    trainer = training_outputs(model, lesson.auxiliary, model.output_shape[-1])
    trained = list({id(v): v for v in (*trainer.trainable_variables, *model.trainable_variables)}.values())
    optimizer = _optimizer(schedule, trained)
    draw_by_step(trainer, lesson.seed, optimizer.iterations)
    variables = list(model.weights)  # once: TFMOT's wrappers change the order of their lists when they are called
    progress = Progress(trainer, variables, optimizer, folder)
    part = (0, 1)
    if team is not None:
        team.workers.part(schedule.batch)
        part = team.workers.rank, team.workers.count
        synchronize_norms(trainer)
        divide_dropout(trainer, team.workers)
    update = WeightUpdate(trainer, trained, optimizer, progress, lesson, schedule, team)
    rare, size = rare_classes(lesson.class_weights), model.input_shape[1:3]
    feed = Feed(lesson.decoded, size, schedule.batch, lesson.augmentation, lesson.seed, part, rare)
    return update, progress, feed


def _optimizer(schedule: Schedule, trained: list[tf.Variable]) -> Any:
    optimizer = tf_keras.optimizers.AdamW(Decay(schedule), weight_decay=schedule.weight_decay, clipnorm=5.0)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias", "range"])
    optimizer.build(trained)
    return optimizer


class TrainingLoop:
    """Takes the remaining steps; scores, saves and shows progress on the way."""

    def __init__(
        self,
        update: WeightUpdate,
        progress: Progress,
        schedule: Schedule,
        checkpoints: Checkpoints,
        events: Events,
        say: Say,
        team: Team | None = None,
    ) -> None:
        self._team, self.leads = team, team is None or team.workers.leads
        self.within_step = False
        """Whether an update was begun and not finished: one that fails has changed some weights and not the others."""
        self._update, self._progress, self._schedule = update, progress, schedule
        self._checkpoints, self._events, self._say = checkpoints, events, say
        self._step = progress.step
        self._losses = collections.deque[float](maxlen=50)
        self._pace = Pace(schedule.steps)
        self._step_times: list[float] = []
        self._scoring_times: list[float] = []

    def run(self, batches: Iterable[tuple[tf.Tensor, tf.Tensor]]) -> None:
        """Takes a step for each of ``batches``."""
        scoring_steps, frozen_from = self._schedule.scoring_steps, self._schedule.statistics_frozen_from
        interrupted = self._step in scoring_steps and not self._progress.scored  # while it was being scored
        if interrupted and self.leads:
            self._score()
        with shown(self._say, "training", self._schedule.steps, "steps", False) as advance, ExitStack() as building:
            advance(self._step)
            lap = saved_at = time.monotonic()
            if self._step < self._schedule.steps:
                building.enter_context(waiting(self._say, "building the training graph"))
            for images, labels in batches:
                self._take_step(images, labels, training=self._step < frozen_from)
                building.close()
                now = time.monotonic()
                self._pace.step(now - lap)
                if self._step == frozen_from:
                    self._pace.graph_changes()
                advance(1, self._left_seconds(), f"loss {np.mean(self._losses):.3f}")
                if self._step in scoring_steps:
                    self._score()
                    saved_at = time.monotonic()
                elif self.leads and now - saved_at > SAVE_SECONDS:
                    self._progress.save()
                    saved_at = time.monotonic()
                lap = time.monotonic()

    def _left_seconds(self) -> float | None:
        """Scorings included, also one of the last step."""
        if not self._pace.known:
            return None
        scorings = sum(at >= self._step for at in self._schedule.scoring_steps)
        expected = 0.0 if self._scoring_times or not self.leads else self._checkpoints.expected_seconds()
        return self._pace.left_seconds(self._schedule.steps - self._step, scorings, expected)

    def fitted(self) -> Fitted:
        history = self._progress.history
        scored = [entry for entry in history if entry.miou_percent is not None]
        best = max(scored, key=lambda entry: entry.miou_percent or 0.0, default=None)
        return Fitted(
            float(self._progress.best) if best else None,
            best.step if best else None,
            history[-1].miou_percent,
            self._progress.seconds,
            _median(self._step_times),
            _median(self._scoring_times),
            tuple(history),
        )

    def _take_step(self, images: tf.Tensor, labels: tf.Tensor, training: bool) -> None:
        began = time.monotonic()
        self.within_step = True
        loss = self._update(images, labels, training)
        self.within_step = False
        self._step_times.append(time.monotonic() - began)
        self._step += 1
        if not math.isfinite(loss):
            with_it = f", and {wrong} with it" if (wrong := self._progress.not_finite()) else ""
            raise TrainingDiverged(
                f"the loss became {loss} at step {self._step}{with_it}: lower the learning rate (it was"
                f" {self._schedule.learning_rate}) in a new run."
            )
        if self._progress.loss_scale is not None and self._progress.loss_scale.hopeless():
            raise TrainingDiverged(
                f"the loss is {loss:.4g}, but its gradients were not finite in the last {MOST_IN_VAIN} steps to step"
                f" {self._step}, so that they changed no weight: lower the learning rate, or train with --precision"
                " float32, in a new run."
            )
        self._losses.append(loss)
        self._events.step(self._step, loss)

    def _score(self) -> None:
        """Scores the averaged weights, keeps them as the last and perhaps the best, and saves the progress."""
        began, progress = time.monotonic(), self._progress
        if self._team is not None and self._step_times:
            self._team.check_equal(progress.variables, self._step)
        if not self.leads:
            progress.reset_losses()
            return
        with progress.averaged():
            percent, symptoms = self._judge()
            with waiting(self._say, "saving the checkpoint"):
                if not self._checkpoints.chooses or (percent is not None and percent > float(progress.best)):
                    self._checkpoints.keep_best()
                    if percent is not None:
                        progress.best.assign(percent)  # after the file: cut between the two, it is written again
                self._checkpoints.keep_last()
        self._scoring_times.append(time.monotonic() - began)
        with waiting(self._say, "saving the training"):
            loss = progress.add_score(percent, symptoms)
        self._pace.scoring(time.monotonic() - began)
        self._events.scored(progress.step, percent, self._checkpoints.class_iou_percent())
        shown_loss = "" if loss is None else f"  loss {loss:.3f}"
        shown_percent = "" if percent is None else f"  mIoU {percent:.2f} %"
        self._say(f"step {progress.step}/{self._schedule.steps}{shown_loss}{shown_percent}  {progress.seconds:.0f} s")

    def _judge(self) -> tuple[float | None, tuple[Symptom, ...]]:
        """The score, and the symptoms that no scoring before found, which are reported."""
        try:
            percent = self._checkpoints.score()
            symptoms = self._progress.new(self._checkpoints.symptoms())
        except TrainingDiverged as error:
            raise TrainingDiverged(f"after step {self._step}, {error.message}") from None
        for line in described(symptoms):
            self._say(f"note: step {self._step}: {line}")
        return percent, symptoms


def _median(seconds: list[float]) -> float:
    return float(np.median(seconds)) if seconds else 0.0
