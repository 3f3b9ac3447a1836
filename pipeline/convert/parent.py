"""What an artifact is made from: the QAT network of a run, or its float one and calibrated ranges."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tf_keras

import models
from pipeline.core.artifact import Artifact
from pipeline.core.calibration import Calibration, CalibrationRecord, Quantization
from pipeline.core.errors import BadSpec, RunError
from pipeline.core.file_spec import FileSpec
from pipeline.core.files import sha256
from pipeline.core.progress import waiting
from pipeline.core.ranges import Ranges
from pipeline.core.recipe import Checkpoint, Method, Origin
from pipeline.core.run import Run
from pipeline.core.say import Say
from pipeline.core.target import Target
from pipeline.quantize.calibrate import away, calibrate, candidates_of
from pipeline.quantize.observe import samples_for
from pipeline.quantize.to_tflite import to_tflite
from pipeline.weights import checkpoint as checkpoints


def load_float(run: Run, checkpoint: Path) -> tf_keras.Model:
    """The run's network with the weights of ``checkpoint``; raises RunError for a broken file."""
    model = models.build(run.config.model)
    checkpoints.load(model, checkpoint)
    return model


@dataclasses.dataclass(frozen=True)
class Parent:
    """What an artifact is made from: float weights, and for an int8 one the ranges that go with them.

    Attributes:
      kept_start: see ``Origin``.
      graphs: what TensorFlow's converter made so far, by spec; the next target of the same spec takes it over.
    """

    method: Method
    checkpoint: Path
    ranges: Ranges | None = None
    calibration: CalibrationRecord | None = None
    per_tensor: bool = False
    kept_start: bool = False
    graphs: dict[FileSpec, bytes] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def graph(self, run: Run, spec: FileSpec) -> bytes:
        """The .tflite bytes that ``to_tflite`` makes for any target: no rewrite yet, no check."""
        if spec not in self.graphs:
            self.graphs[spec] = to_tflite(load_float(run, self.checkpoint), self.ranges, spec)
        return self.graphs[spec]

    def origin(self, run: Run) -> Origin:
        """For the recipe."""
        config = run.config
        name = f"{self.checkpoint.parent.name}/{self.checkpoint.name}"
        return Origin(
            config.model,
            config.classes,
            config.colours,
            config.data.partition(":")[0],
            self.method,
            Checkpoint(name, sha256(self.checkpoint)),
            self.calibration,
            run.about(),
            self.kept_start,
        )


def parent_of(run: Run, artifact: Artifact) -> Parent:
    """The parent of an existing artifact; raises RunError where the run has other weights by now."""
    recipe, origin = artifact.recipe, artifact.recipe.known_origin
    named = Path(origin.parent.checkpoint)
    checkpoint = run.path / named
    outside = named.is_absolute() or ".." in named.parts  # the file may be a stranger's
    if outside or not checkpoint.is_file() or sha256(checkpoint) != origin.parent.sha256:
        raise RunError(f"{checkpoint} is not what {artifact.path} was made from: `convert` again.")
    per_tensor = recipe.file.per_tensor
    return Parent(origin.method, checkpoint, recipe.ranges, origin.calibration, per_tensor, origin.kept_start)


def choose_parent(run: Run, target: Target, asked: Quantization, say: Say) -> Parent:
    """The QAT network where there is one, else the float network, calibrated. Raises RunError and BadSpec."""
    best = run.float_training.best
    run.float_training.check_trained(run.path)
    if target.weights != "int8":
        return Parent("float", best)
    trained = run.qat_training.trained
    if asked.method == "qat" and not trained:
        raise RunError(
            f"{run.path} has no QAT network: run `python cli.py qat --run {run.path}`, or choose method ptq."
        )
    if trained and asked.method != "ptq":
        return _qat_parent(run, asked, say)
    if asked.method is None:
        say(
            "this run has no QAT network: applying post-training quantization (`python cli.py qat --run"
            f" {run.path}` trains one)"
        )
    with waiting(say, "loading the float network"):
        model = load_float(run, best)
    asked_calibration = asked.calibration or Calibration()
    elsewhere = away(run, best, asked_calibration.folder, asked.pool)
    candidates = candidates_of(model, run, samples_for(run, asked_calibration.folder, say), say, elsewhere)
    ranges, calibration = calibrate(model, run, candidates, asked_calibration, say, elsewhere)
    return Parent("ptq", best, ranges, calibration, asked.per_tensor)


def _qat_parent(run: Run, asked: Quantization, say: Say) -> Parent:
    checkpoint, start, settings = run.qat_training.best, run.qat_training.start(), run.qat_training.settings()
    if start is None or settings is None or "per_tensor" not in settings:
        raise RunError(f"{run.qat_dir} is broken: run `qat --force`, or `qat` in a new run.")
    per_tensor = bool(settings["per_tensor"])
    parent_sha256 = sha256(run.float_training.best)
    if settings.get("parent_sha256", parent_sha256) != parent_sha256:
        say(
            "note: the float network of this run has changed since its QAT network was trained from it: `qat --force`"
            " trains that again, and method ptq quantizes the float network as it is"
        )
    if asked.calibration is not None:
        say("note: the QAT network brings its ranges; calibration options are for method ptq")
    if asked.per_tensor and not per_tensor:
        raise BadSpec(
            "the QAT network of this run was trained for per-channel weights, not per-tensor ones: run `qat"
            " --per-tensor` in a new run, or choose method ptq."
        )
    kept_start = run.qat_training.qat_result().kept_step == 0
    return Parent("qat", checkpoint, checkpoints.ranges_in(checkpoint), start.calibration, per_tensor, kept_start)
