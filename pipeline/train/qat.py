"""Quantization-aware training, from the float parent's weights and from calibrated ranges."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras

import models
from pipeline.convert.parent import load_float
from pipeline.core.calibration import Calibration
from pipeline.core.dataset import Sample
from pipeline.core.errors import RunError, TrainingDiverged
from pipeline.core.file_spec import FileSpec
from pipeline.core.files import sha256, write_atomically
from pipeline.core.progress import waiting
from pipeline.core.ranges import Ranges
from pipeline.core.recipe import QAT_START
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.core.score import iou_percent, only_class
from pipeline.core.target import FLOAT, Target
from pipeline.core.training import QatResult, StartingRanges, Symptom, Training, plain_without_defaults
from pipeline.data import dataset_of
from pipeline.data.census import check_labelled, count_pixels, take_census
from pipeline.data.decoded import Decoded
from pipeline.devices import connect
from pipeline.measure.score import deployed, score_masks
from pipeline.quantize import plan as planning
from pipeline.quantize.calibrate import calibrate, candidates_of
from pipeline.quantize.network import LearnedRanges, copy_weights, quantization_aware
from pipeline.quantize.observe import samples_for
from pipeline.quantize.quantize import quantize
from pipeline.targets import target
from pipeline.train.balance import class_weights, frequencies_of, left
from pipeline.train.distribute import joined
from pipeline.train.feed import Augmentation
from pipeline.train.fit import Fitted, fit
from pipeline.train.health import Health
from pipeline.train.held_out import HeldOutScorer, ParentProbabilities, hold_out, percent_of
from pipeline.train.judge import Verdict, judge_gain, too_few
from pipeline.train.schedule import Schedule
from pipeline.train.train import pixels_to_learn
from pipeline.train.update import Lesson
from pipeline.weights import checkpoint


@dataclasses.dataclass(frozen=True)
class QatOptions:
    """The settings of a quantization-aware training, besides its schedule.

    Attributes:
      per_tensor: one scale for each kernel instead of one per output channel.
      learned_ranges: whether the ranges are trained too, from their calibrated values.
      control: train in float instead: shows what the parent gains by the steps alone.
      keep_last: keep the last checkpoint, whatever it gains.
    """

    augmentation: Augmentation
    calibration: Calibration = dataclasses.field(default_factory=Calibration)
    per_tensor: bool = False
    learned_ranges: bool = True
    control: bool = False
    keep_last: bool = False

    def as_settings(self) -> dict[str, Any]:
        """What a training keeps."""
        return {**plain_without_defaults(self, ("keep_last",)), "augmentation": self.augmentation.as_setting()}


def qat(run: Run, schedule: Schedule, options: QatOptions, say: Say, *, force: bool = False) -> QatResult:
    """Trains the run's quantized network, or resumes its training, or reuses its result; returns the result.

    Each checkpoint is scored by the mIoU of the int8 file that it converts to, on images held out of the training
    split: against their labels or, without labels, as the expected mIoU under the float parent's class probabilities
    (see ``believed``). The best checkpoint replaces the start only if it gains more than luck would give the best of as
    many; if too few images are held out to test that, the start is kept. ``options`` may ask for the last one
    instead. The validation images are scored once, at the end, and choose nothing.
    """
    training = run.control_training if options.control else run.qat_training
    parent = run.float_training.best
    settings = {"schedule": schedule.as_setting(), **options.as_settings(), "parent_sha256": sha256(parent)}
    name = "control (float)" if options.control else "QAT network"
    if training.is_finished(settings, force):
        training.tidy()
        result = training.qat_result()
        say(f"{name}: trained already, val mIoU of its file {result.val_miou_percent:.2f} %: reused")
        _say_if_start_kept(run, result, options, say)
        return result
    images = _images(run, schedule, options, force, say)
    training.begin(settings, force)
    tf_keras.utils.set_random_seed(run.config.seed)
    with waiting(say, "building the quantization-aware network"):
        student = _student(run, options, lambda: _to_calibrate(run, schedule, options, images, say), training, say)
    teacher = load_float(run, parent) if schedule.distil else None
    scorer = _scorer(run, images, None if schedule.labels else teacher, say)
    evaluations = 1 if options.keep_last else min(schedule.evaluations, schedule.steps)
    why_not = too_few(images.held_out_count, evaluations, images.count)
    _announce(run, name, schedule, images, why_not if not options.keep_last else None, say)
    health = Health(student.network, images.held_out or images.training)
    checkpoints = QatCheckpoints(student, scorer, training, run.config.classes, health, say, not options.keep_last)
    team = joined()
    follows = team is not None and not team.workers.leads  # then the chief scores
    start_file, start_confusions = (b"", None) if follows else checkpoints.score_start()
    if start_confusions is not None:
        say(f"start  mIoU {percent_of(start_confusions):.2f} % on the images held out")

    seed, resize = run.config.seed + 1, run.config.model.resize
    lesson = Lesson(images.training, images.class_weights, options.augmentation, seed, resize, teacher=teacher)
    fitted = fit(student.trained, lesson, schedule, checkpoints, training.folder, say)

    verdict = Verdict(why_not=why_not)
    if scorer is not None and start_confusions is not None and not why_not:
        best_confusions = scorer.confusions(checkpoints.best_file())
        verdict = judge_gain(start_confusions, best_confusions, evaluations, images.count)
    verdict = dataclasses.replace(verdict, asked=options.keep_last)
    say(str(verdict))
    if verdict.replaces:
        kept_file = checkpoints.best_file()
        write_atomically(training.best, training.candidate.read_bytes())
    else:
        kept_file = start_file
        checkpoint.load(student.network, parent)
        checkpoint.write(student.network, training.best, student.start_ranges)
    with deployed(kept_file, run.preprocessing) as infer:
        validation = score_masks(images.validation, infer, run.config.classes, say=say)
    result = _result(validation.miou_percent, start_confusions, fitted, verdict, images, schedule)
    training.finish(result)
    _say_if_start_kept(run, result, options, say)
    return result


def _say_if_start_kept(run: Run, result: QatResult, options: QatOptions, say: Say) -> None:
    """What it means that the start is kept, and what to make of the file."""
    if result.kept_step != 0 or options.control:
        return
    before = run.float_training.float_result().best_val_miou_percent
    figures = f"val mIoU {before:.2f} % in float, {result.val_miou_percent:.2f} % in 8 bits"
    meaning = (
        "the gain could not be tested, so this says nothing against more training images"
        if result.gain_not_judged
        else "no training step was better beyond luck, so the file is as good as it gets by this training"
    )
    say(
        "so the file has the float weights with calibrated ranges, as post-training quantization makes"
        f" them, and `convert` names it {QAT_START}. {figures}: {meaning}"
    )


def _announce(run: Run, name: str, schedule: Schedule, images: QatImages, why_not: str | None, say: Say) -> None:
    network = f"{models.network(run.config.model.network).title} {run.config.model.size}"
    say(f"{name}: {network}, {schedule.steps} steps on {len(images.training)} images, {images.held_out_count} held out")
    if why_not is not None:
        say(f"note: the start will be kept, whatever the training gains: {why_not}")
    if run.config.division.trains_on_val:
        say(f"note: {run.config.division.note_on('val')}")


@dataclasses.dataclass(frozen=True)
class QatImages:
    """The images of a QAT: those to train and calibrate on, to choose the checkpoint by, and to report on.

    Attributes:
      held_out: None if there are too few images to hold any out.
      class_weights: float32 [classes], of the loss.
    """

    training: Decoded
    held_out: Decoded | None
    validation: Decoded
    class_weights: np.ndarray

    @property
    def held_out_count(self) -> int:
        return 0 if self.held_out is None else len(self.held_out)

    @property
    def count(self) -> int:
        """Images of the training split: trained on or held out."""
        return len(self.training) + self.held_out_count


def _images(run: Run, schedule: Schedule, options: QatOptions, force: bool, say: Say) -> QatImages:
    """The images; their labels are checked if they are needed. Raises DataError."""
    dataset, num_classes = dataset_of(run, renew=force), run.config.model.num_classes
    kept, out = hold_out(samples_for(run, options.calibration.folder if not schedule.labels else None, say))
    training, validation = Decoded(kept), Decoded(dataset.splits["val"])
    held_out = Decoded(out) if out else None
    if schedule.labels:
        weights = left(class_weights(frequencies_of(pixels_to_learn(run, dataset, training, validation, say))))
        if held_out is not None:
            check_labelled(count_pixels(held_out, num_classes, "held-out", say), "held-out", dataset.text)
    else:
        weights = np.ones(num_classes, np.float32)
        check_labelled(take_census(run, "val", validation, 1, say).table(), "val", dataset.text)
    return QatImages(training, held_out, validation, weights)


def _to_calibrate(run: Run, schedule: Schedule, options: QatOptions, images: QatImages, say: Say) -> Sequence[Sample]:
    """None of those held out: without labels, the images of the calibration's folder are those that are trained on."""
    folder = options.calibration.folder if schedule.labels else None
    return samples_for(run, folder, say) if folder else images.training.samples


@dataclasses.dataclass(frozen=True)
class Student:
    """The network that is trained, and the float network that its weights are copied to, to be converted and saved.

    Attributes:
      network: float.
      trained: the same with fake quantization; in the control ``network`` itself.
      start_ranges: calibrated; None in the control.
      learned_ranges: None if ``start_ranges`` are kept.
      target, file_spec: of the file that a checkpoint is scored as.
    """

    network: tf_keras.Model
    trained: tf_keras.Model
    start_ranges: Ranges | None
    learned_ranges: LearnedRanges | None
    target: Target
    file_spec: FileSpec

    def ranges(self) -> Ranges | None:
        """The ranges at this step. Raises TrainingDiverged where a learned one is empty or not finite."""
        if self.learned_ranges is None:
            return self.start_ranges
        try:
            return self.learned_ranges.current()
        except RunError as error:
            raise TrainingDiverged(
                f"{error.message} Lower the learning rate in a new run, or keep the ranges (--ranges frozen)."
            ) from None

    def copy_back(self) -> None:
        """Copies the weights of ``trained`` to ``network``."""
        if self.trained is not self.network:
            copy_weights(self.network, self.trained)

    def convert(self, ranges: Ranges | None) -> bytes:
        """The file that the weights of ``network`` and these ranges convert to."""
        return quantize(self.network, ranges, self.target, self.file_spec).data


def _student(
    run: Run, options: QatOptions, samples: Callable[[], Sequence[Sample]], training: Training, say: Say
) -> Student:
    network = load_float(run, run.float_training.best)
    if options.control:
        return Student(network, network, None, None, FLOAT, FLOAT.file_spec())
    ranges = _start_ranges(network, run, options, samples, training, say)
    learned = LearnedRanges(planning.plan(network), ranges) if options.learned_ranges else None
    trained = quantization_aware(network, ranges, per_tensor=options.per_tensor, learned=learned)
    cpu = target("cpu")
    return Student(network, trained, ranges, learned, cpu, cpu.file_spec(per_tensor=options.per_tensor))


def _start_ranges(
    network: tf_keras.Model,
    run: Run,
    options: QatOptions,
    samples: Callable[[], Sequence[Sample]],
    training: Training,
    say: Say,
) -> Ranges:
    """The calibrated ranges that training starts from; a resumed training reads them from its folder."""
    if (start := training.start()) is not None:
        planning.check_ranges(network, start.ranges)  # the run may be a stranger's
        return start.ranges
    candidates = candidates_of(network, run, samples(), say)
    ranges, calibrated = calibrate(network, run, candidates, options.calibration, say)
    training.write_start(StartingRanges(ranges, calibrated))
    return ranges


def _scorer(run: Run, images: QatImages, parent: tf_keras.Model | None, say: Say) -> HeldOutScorer | None:
    """Scores against the labels, or against the class probabilities of ``parent``; None if no images are held out."""
    if images.held_out is None:
        return None
    probabilities = None
    num_classes = run.config.model.num_classes
    if parent is not None:
        weights = checkpoint.class_weights_in(run.float_training.best, num_classes)
        if weights is None:
            say("note: the class weights of the parent's loss are not known: its probabilities are used uncorrected")
        probabilities = ParentProbabilities(parent, images.held_out, weights)
    return HeldOutScorer(images.held_out, num_classes, run.preprocessing, probabilities, say)


class QatCheckpoints:
    """Scores each checkpoint as the file that it converts to; saves the best, or the last, as the candidate."""

    def __init__(
        self,
        student: Student,
        scorer: HeldOutScorer | None,
        training: Training,
        classes: tuple[str, ...],
        health: Health,
        say: Say,
        chooses: bool,
    ) -> None:
        self.chooses = chooses
        self._student, self._scorer, self._training = student, scorer, training
        self._classes, self._health, self._say = classes, health, say
        self._scored_file = b""
        self._best_file = b""
        self._start_seconds = 0.0
        self._confusion: np.ndarray | None = None

    def score_start(self) -> tuple[bytes, np.ndarray | None]:
        """The file that training starts from, and its confusions on the images held out; None where there are none."""
        began = time.monotonic()
        file = self._convert(self._student.start_ranges)
        confusions = self._scorer.confusions(file) if self._scorer is not None else None
        self._start_seconds = time.monotonic() - began
        return file, confusions

    def score(self) -> float | None:
        self._student.copy_back()
        if self._scorer is None:
            return None
        self._scored_file = self._convert(self._student.ranges())
        self._confusion = self._scorer.confusions(self._scored_file).sum(0)
        return percent_of(self._confusion[None])

    def symptoms(self) -> tuple[Symptom, ...]:
        only = None if self._confusion is None else only_class(self._confusion)
        return self._health.look(None if only is None else self._classes[only])

    def class_iou_percent(self) -> dict[str, float]:
        if self._confusion is None:
            return {}
        each = enumerate(zip(self._classes, iou_percent(self._confusion), strict=True))
        occurs = self._confusion.sum(0) + self._confusion.sum(1) > 0
        return {name: float(iou) for i, (name, iou) in each if occurs[i]}

    def expected_seconds(self) -> float:
        return self._start_seconds if self._scorer is not None else 0.0

    def _convert(self, ranges: Ranges | None) -> bytes:
        with waiting(self._say, "converting the checkpoint"):
            return self._student.convert(ranges)

    def keep_best(self) -> None:
        self._best_file = self._scored_file
        self._write(self._training.candidate)

    def keep_last(self) -> None:
        self._write(self._training.last)

    def best_file(self) -> bytes:
        """The file of the best checkpoint; if it was saved before an interruption, it is converted again."""
        if not self._best_file:
            network, candidate = self._student.network, self._training.candidate
            checkpoint.load(network, candidate)
            ranges = None if self._student.start_ranges is None else checkpoint.ranges_in(candidate)
            self._best_file = self._convert(ranges)
        return self._best_file

    def _write(self, path: Path) -> None:
        checkpoint.write(self._student.network, path, self._student.ranges())


def _result(
    val_miou_percent: float,
    start_confusions: np.ndarray | None,
    fitted: Fitted,
    verdict: Verdict,
    images: QatImages,
    schedule: Schedule,
) -> QatResult:
    return QatResult(
        val_miou_percent=val_miou_percent,
        kept_step=schedule.steps if verdict.asked else fitted.best_step if verdict.gained else 0,
        held_out_start_percent=None if start_confusions is None else percent_of(start_confusions),
        held_out_best_percent=fitted.best_percent,
        best_step=fitted.best_step,
        gain_points=verdict.points,
        gain_standard_error_points=verdict.error,
        gain_needed_points=verdict.needed,
        gain_not_judged=verdict.why_not,
        held_out_against="labels" if schedule.labels else "class probabilities of the float parent",
        held_out_images=images.held_out_count,
        seconds=fitted.seconds,
        step_seconds=fitted.step_seconds,
        judge_seconds=fitted.judge_seconds,
        steps_per_epoch=math.ceil(len(images.training) / schedule.batch),
        history=fitted.history,
        machine=connect("host").describe(),
    )
