"""The verbs that write into a run's folder: train, quantize_aware_train, convert, measure."""

from __future__ import annotations

from pathlib import Path

import models
from pipeline.api.memory import target_of
from pipeline.convert.convert import convert as convert_network
from pipeline.convert.convert import float_reference
from pipeline.core import run as runs
from pipeline.core.artifact import Artifact
from pipeline.core.calibration import Quantization
from pipeline.core.device import DeviceOptions
from pipeline.core.division import UNDIVIDED, Division
from pipeline.core.errors import BadSpec
from pipeline.core.file_spec import FileSpec
from pipeline.core.lock import writing
from pipeline.core.measurement import Measurement
from pipeline.core.run import Run
from pipeline.core.say import Say, quiet
from pipeline.core.spec import ModelSpec
from pipeline.core.target import Target
from pipeline.core.training import FloatResult, QatResult
from pipeline.data import open_dataset
from pipeline.data.divide import divide
from pipeline.gate.checks import Gated, Limits
from pipeline.gate.checks import gate as check_limits
from pipeline.gate.standing import of_measurement
from pipeline.measure.bench import bench
from pipeline.measure.plan import BenchPlan
from pipeline.measure.timing import DEFAULT, Protocol
from pipeline.report.page.report import html, page_of
from pipeline.report.page.report import markdown as as_markdown
from pipeline.train.feed import Augmentation
from pipeline.train.qat import QatOptions, qat
from pipeline.train.schedule import Schedule
from pipeline.train.train import defaults_of, float_schedule
from pipeline.train.train import train as train_float

DISTIL = 10.0
"""Default weight of the float parent's predictions in the loss of quantization-aware training."""


def create_run(path: Path | str, spec: ModelSpec, data: str, *, seed: int = 0, division: Division = UNDIVIDED) -> Run:
    """A new run directory for a network on a dataset, such as 'synthetic'.

    ``division``: which labelled images it learns from. Raises RunError where the path exists, and DataError where the
    division leaves none.
    """
    models.check_size(spec)
    dataset = open_dataset(data)
    divide(dataset, division)
    return runs.create(Path(path), spec, data, dataset.classes, dataset.colours, seed, division)


def train(
    run: Run,
    schedule: Schedule | None = None,
    *,
    encoder_weights: str | None = None,
    init: str | None = None,
    force: bool = False,
    say: Say = quiet,
) -> FloatResult:
    """Trains the run's float network, or reuses or resumes an earlier training.

    ``schedule``: None for the dataset's defaults. ``init``: a file of weights, or the name of weights that ship, from
    which all but the head starts. Raises RunError where the run was trained with other settings;
    ``force`` then sets that training aside.
    """
    schedule = schedule or float_schedule(run, None, 8, None, tuning=init is not None)
    augmentation = _augmentation(run)
    with writing(run.path, "train"):
        return train_float(run, schedule, augmentation, say, encoder_weights=encoder_weights, init=init, force=force)


def quantize_aware_train(
    run: Run,
    schedule: Schedule | None = None,
    options: QatOptions | None = None,
    *,
    force: bool = False,
    say: Say = quiet,
) -> QatResult:
    """Trains the run's quantized network from its float one, or reuses or resumes an earlier training.

    Raises RunError where the float network is not trained yet, and as ``train`` does.
    """
    run.float_training.check_trained(run.path)
    options = options or QatOptions(_augmentation(run))
    with writing(run.path, "quantize_aware_train"):
        return qat(run, schedule or qat_schedule(run), options, say, force=force)


def qat_schedule(run: Run, steps: int | None = None) -> Schedule:
    """The defaults of the run's dataset: one checkpoint to choose from for every 50 steps."""
    defaults = defaults_of(run)
    steps = steps or defaults.qat_steps
    rate, evaluations = defaults.qat_learning_rate, max(1, steps // 50)
    return Schedule(steps, 8, rate, evaluations=evaluations, distil=DISTIL, statistics_until=0.0)


def convert(
    run: Run,
    target: Target | str = "cpu",
    spec: FileSpec | None = None,
    *,
    how: Quantization = Quantization(),
    force: bool = False,
    say: Say = quiet,
) -> Artifact:
    """Makes the checked .tflite file of a run for a target, or reuses the existing one.

    ``spec``: None for logits of full size and the target's own input type, see ``Target.file_spec``. ``how``: by
    default the QAT network where there is one, else the float network quantized after training.
    """
    with writing(run.path, "convert"):
        return convert_network(run, target_of(target), say, spec, source=how, force=force)


def measure(  # long: each choice has its default
    run: Run,
    artifact: Artifact,
    device: str = "host",
    *,
    protocol: Protocol = DEFAULT,
    threads: int = 1,
    split: str = "val",
    images: int | None = None,
    say: Say = quiet,
) -> Measurement:
    """Accuracy and latency of an artifact beside its float parent, on one device: 'host', 'android:SERIAL', ...

    ``images``: the first so many of the split, 'val' or 'test', are scored, None: all. Raises DeviceError.
    """
    with writing(run.path, "measure"):
        parent = float_reference(run, artifact.recipe.file, say)
        plan = BenchPlan(run, artifact, parent, protocol=protocol, threads=(threads,), split=split, images=images)
        (measured,) = bench(plan, [device], DeviceOptions(), say)
    return measured


def _augmentation(run: Run) -> Augmentation:
    defaults = defaults_of(run)
    return Augmentation.of(defaults)


def gate(measurement: Measurement, limits: Limits = Limits(), baseline: Measurement | None = None) -> Gated:
    """A measurement against limits, and against that of a baseline; see ``Limits`` and ``Gated``.

    One of some of the images counts as it is: see ``Measurement.of_images``.
    """
    before = None if baseline is None else of_measurement(baseline)
    return check_limits(of_measurement(measurement), before, limits)


def report(*runs: Run, markdown: bool = False) -> str:
    """What is known of the runs, side by side, as one HTML file that loads nothing, or as Markdown.

    It is made from their folders: what `bench`, `profile`, `agree` and `inspect` kept there. ``measure`` keeps nothing.
    Raises BadSpec without a run.
    """
    if not runs:
        raise BadSpec("report got no run: give one or several, from open_run or create_run.")
    page = page_of([run.path for run in runs])
    return as_markdown(page) if markdown else html(page)
