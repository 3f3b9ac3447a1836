"""Quantization-aware training: from the float parent's weights and from calibrated ranges."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tf_keras

import models
from pipeline.convert.parent import load_float
from pipeline.core.calibration import Calibration
from pipeline.core.dataset import Sample
from pipeline.core.files import sha256, write_atomically
from pipeline.core.ranges import Ranges
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.core.score import mean_iou_percent
from pipeline.core.target import FLOAT
from pipeline.core.training import QatResult, StartingRanges, Training, plain
from pipeline.data import dataset_of
from pipeline.data.census import check_labelled, count_pixels
from pipeline.data.decoded import Decoded
from pipeline.devices import connect
from pipeline.measure.confusion import believed, confusions, expected_confusion
from pipeline.measure.score import Infer, deployed, masks_of, score_masks
from pipeline.measure.threads import in_threads
from pipeline.quantize import plan as planning
from pipeline.quantize.calibrate import calibrate, candidates_of, samples_for
from pipeline.quantize.network import LearnedRanges, copy_weights, quantization_aware
from pipeline.quantize.quantize import quantize
from pipeline.targets import target
from pipeline.train.feed import Augmentation, class_weights, frequencies_of
from pipeline.train.fit import Judge, Lesson, Schedule, fit
from pipeline.train.judge import Verdict, judge_gain, too_few
from pipeline.train.train import keras_logits, pixels_to_learn
from pipeline.weights import checkpoint

HELD_OUT = 40


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a quantization-aware training is, beside its schedule.

    Attributes:
      per_tensor: one scale for each kernel instead of one per output channel.
      learned_ranges: whether the ranges train on from their calibrated values.
      control: the same training in float: what the parent gains by the steps alone.
    """

    augmentation: Augmentation
    calibration: Calibration = dataclasses.field(default_factory=Calibration)
    per_tensor: bool = False
    learned_ranges: bool = True
    control: bool = False


def hold_out(samples: Sequence[Sample]) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """(to train and calibrate on, to choose the checkpoint by): 40 evenly spread ones, a fifth at most.

    No image is in both; of fewer than five images none is held out.
    """
    count = min(HELD_OUT, len(samples) // 5)
    chosen = set(np.linspace(0, len(samples) - 1, count).astype(int).tolist())
    kept = tuple(s for i, s in enumerate(samples) if i not in chosen)
    return kept, tuple(s for i, s in enumerate(samples) if i in chosen)


# long: to be split
def qat(run: Run, schedule: Schedule, how: Settings, say: Say, *, force: bool = False) -> QatResult:
    """Trains the run's quantized network, or reuses or resumes the training that is there; returns its result.

    Checkpoints are chosen by the mIoU of the int8 file that the weights convert to, on images held out of the training
    split: against their labels or, without labels, the mIoU to be expected by the float parent's class probabilities
    (see ``believed``). The best one must gain more there than luck would give the best of as many, else the start is
    kept; so it is where too few images are held out to tell. The validation images are scored once, at the end, and
    choose nothing.
    """
    there = run.control_training if how.control else run.qat_training
    parent = run.float_training.best
    settings = {"schedule": plain(schedule), **plain(how), "parent_sha256": sha256(parent)}
    name = "control (float)" if how.control else "QAT network"
    if there.is_finished(settings, force):
        result = there.qat_result()
        say(f"{name}: trained already, val mIoU of its file {result.val_miou_percent:.2f} %: reused")
        return result
    dataset = dataset_of(run)
    kept, held_out = hold_out(samples_for(run, how.calibration.folder if not schedule.labels else None, say))
    training, validation = Decoded(kept), Decoded(dataset.splits["val"])
    judged_on = Decoded(held_out) if held_out else None
    spec = run.config.model
    if schedule.labels:
        weights = class_weights(frequencies_of(pixels_to_learn(dataset, training, validation, say)))
        if judged_on is not None:
            count_pixels(judged_on, spec.num_classes, "held-out", say)
    else:
        weights = np.ones(spec.num_classes, np.float32)
        check_labelled(count_pixels(validation, spec.num_classes, "val", say), "val", dataset.text)
    there.begin(settings, force)
    tf_keras.utils.set_random_seed(run.config.seed)
    model = load_float(run, parent)
    ranges: Ranges | None = None
    learned = None
    student = model
    if not how.control:
        ranges = _start(model, run, how, kept, there, say)
        learned = LearnedRanges(planning.plan(model), ranges) if how.learned_ranges else None
        student = quantization_aware(model, ranges, per_tensor=how.per_tensor, learned=learned)

    judged_for = FLOAT if how.control else target("cpu")
    judged_as = judged_for.file_spec(per_tensor=how.per_tensor and not how.control)

    def now() -> Ranges | None:
        return learned.now() if learned is not None else ranges

    def tflite(chosen: Ranges | None) -> bytes:
        """What ``model`` and these ranges convert to."""
        return quantize(model, chosen, judged_for, judged_as).data

    def take_over() -> None:
        if student is not model:
            copy_weights(model, student)

    teacher = load_float(run, parent) if schedule.distil else None
    scores: Callable[[Infer], np.ndarray] | None = None
    if judged_on is not None:
        scores = functools.partial(_against_labels, judged_on, len(dataset.classes))
        if teacher is not None and not schedule.labels:
            leaning = checkpoint.class_weights_in(parent, spec.num_classes)
            if leaning is None:
                say(
                    "note: the parent does not tell the class weights of its loss: its probabilities are taken as they"
                    " are"
                )
            scores = functools.partial(_against_parent, _beliefs(teacher, judged_on, leaning), judged_on)

    def judged(data: bytes) -> np.ndarray | None:
        """The confusion of a file with the labels or with what the parent believes, image by image held out."""
        if scores is None:
            return None
        with deployed(data, run.preprocessing) as infer:
            return scores(infer)

    scored = best = b""

    def percent() -> float | None:
        nonlocal scored
        take_over()
        scored = tflite(now())
        return _percent(judged(scored))

    def keep(path: Path) -> None:
        nonlocal best
        take_over()
        if path == there.best:
            best, path = scored, there.candidate
        checkpoint.write(model, path, now())

    family = models.network(spec.network)
    say(f"{name}: {family.title} {spec.size}, {schedule.steps} steps on {len(kept)} images, {len(held_out)} held out")
    images = len(kept) + len(held_out)
    evaluations = min(schedule.evaluations, schedule.steps)
    if hopeless := too_few(len(held_out), evaluations, images):
        say(f"note: the start will be kept, whatever the training brings: {hopeless}")
    lesson = Lesson(training, weights, how.augmentation, teacher)
    start = tflite(ranges)
    before = judged(start)
    if before is not None:
        say(f"start  mIoU {_percent(before):.2f} % on the images held out")
    judge, seed = Judge(percent, keep), run.config.seed + 1
    fitted = fit(student, (), spec.resize, lesson, schedule, judge, there.folder, seed, say)
    verdict = Verdict(why_not=hopeless)
    if before is not None and not hopeless:
        if not best:  # it was found before an interruption
            checkpoint.load(model, there.candidate)
            best = tflite(None if how.control else checkpoint.ranges_in(there.candidate))
        after = judged(best)
        assert after is not None
        verdict = judge_gain(before, after, evaluations, images)
    say(str(verdict))
    if verdict.gained:
        write_atomically(there.best, there.candidate.read_bytes())
    else:
        checkpoint.load(model, parent)
        checkpoint.write(model, there.best, ranges)
        best = start
    with deployed(best, run.preprocessing) as infer:
        final = score_masks(validation, infer, dataset.classes)
    result = QatResult(
        val_miou_percent=final.miou_percent,
        kept_step=fitted.best_step if verdict.gained else 0,
        held_out_start_percent=_percent(before),
        held_out_best_percent=fitted.best_percent,
        best_step=fitted.best_step,
        gain_points=verdict.points,
        gain_standard_error_points=verdict.error,
        gain_needed_points=verdict.needed,
        gain_not_judged=verdict.why_not,
        held_out_against="labels" if schedule.labels else "class probabilities of the float parent",
        held_out_images=len(held_out),
        seconds=fitted.seconds,
        step_seconds=fitted.step_seconds,
        judge_seconds=fitted.judge_seconds,
        steps_per_epoch=math.ceil(len(kept) / schedule.batch),
        history=fitted.history,
        machine=connect("host").describe(),
    )
    there.finish(result)
    there.candidate.unlink(missing_ok=True)
    return result


def _percent(confusions_of_held_out: np.ndarray | None) -> float | None:
    return None if confusions_of_held_out is None else float(mean_iou_percent(confusions_of_held_out.sum(0)))


def _against_labels(judged_on: Decoded, num_classes: int, infer: Infer) -> np.ndarray:
    return confusions(masks_of(judged_on, infer), num_classes)


def _against_parent(beliefs: list[np.ndarray], judged_on: Decoded, infer: Infer) -> np.ndarray:
    each = in_threads(lambda i: expected_confusion(beliefs[i], infer(judged_on[i][0])), len(beliefs))
    return np.stack(list(each))


def _beliefs(teacher: tf_keras.Model, judged_on: Decoded, weights: Sequence[float] | None) -> list[np.ndarray]:
    images = [judged_on[i][0] for i in range(len(judged_on))]
    logits = keras_logits(teacher)
    return [believed(logits(image), image.shape[0], image.shape[1], weights) for image in images]


def _start(model: tf_keras.Model, run: Run, how: Settings, kept: Sequence[Sample], there: Training, say: Say) -> Ranges:
    """The calibrated ranges that training starts from: measured now, or those of the training that is resumed."""
    if (begun := there.start()) is not None:
        return begun.ranges
    samples = samples_for(run, how.calibration.folder, say) if how.calibration.folder else kept
    ranges, calibrated = calibrate(model, run, candidates_of(model, run, samples, say), how.calibration, say)
    there.write_start(StartingRanges(ranges, calibrated))
    return ranges
