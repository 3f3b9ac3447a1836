#!/usr/bin/env python3
"""segquant: from a Keras segmentation network to a measured 8-bit file. `python cli.py --help` says what it can do."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NEEDED = ("click", "rich", "numpy", "PIL", "tensorflow", "tf_keras", "tensorflow_model_optimization", "ai_edge_litert")


def _ensure_environment() -> None:
    """Goes on in the project's own environment when this Python lacks the dependencies, or says how to make it."""
    from importlib.util import find_spec

    missing = [name for name in NEEDED if find_spec(name) is None]
    if not missing:
        return
    python = HERE / ".venv" / "bin" / "python"
    if python.is_file() and Path(sys.prefix).resolve() != python.parent.parent.resolve():
        print(f"cli.py: this Python lacks {missing[0]}: going on with {python}", file=sys.stderr, flush=True)
        os.execv(python, [str(python), *sys.argv])
    sys.exit(
        f"cli.py: this Python ({sys.executable}) lacks {', '.join(missing)}: run `make install` in {HERE} with Python"
        " 3.11, which sets up .venv, and repeat the command."
    )


_ensure_environment()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

from typing import Any  # noqa: E402, I001

import click  # noqa: E402

from pipeline.options import (  # noqa: E402
    ARTIFACT_TARGET, BATCH, COMPILER, DEVICE_SETTINGS, FORCE, IMAGES, JSON, LEARNING_RATE, MOST_SECONDS, OUTPUT,
    OUTPUT_STRIDE, PARENT, PER_TENSOR, PROFILED, RUN, SOC, STEPS, Main, Number, calibration_of,
    calibration_options, new_run_options, quiet_tensorflow, say, tell, threads_of, write_numbers,
)  # fmt: skip


@click.group(cls=Main)
def main() -> None:
    """From a Keras segmentation network to a measured 8-bit file.

    Three commands make and measure one, on built-in images unless --data names others:

    \b
      python cli.py qat                       float training, then quantization-aware training
      python cli.py convert --target edgetpu  the int8 .tflite file, checked against its target
      python cli.py bench --device            accuracy drop and latency of that very file

    All of a network's files live in one run directory under runs/. Repeating a command resumes or reuses what is there.
    """


def _train(run: Any, schedule: Any, encoder: str | None, force: bool) -> None:
    from pipeline.feed import Augmentation
    from pipeline.train import defaults_of
    from pipeline.train import train as train_float

    defaults = defaults_of(run)
    result = train_float(
        run, schedule, Augmentation(defaults.scale, True, defaults.colour), say, encoder_weights=encoder, force=force
    )
    say(
        f"float network: val mIoU {result['best_val_miou_percent']:.2f} % (best of {len(result['history'])}"
        f" evaluations), last {result['last_val_miou_percent']:.2f} %, {result['seconds']:.0f} s"
    )


@main.command()
@RUN
@new_run_options
@click.option("--steps", type=STEPS, help="Weight updates.  [default: the dataset's]")
@click.option("--batch", type=BATCH, default=8, show_default=True, help="Images per step.")
@click.option("--learning-rate", type=LEARNING_RATE, help="Peak; decays polynomially to 0.  [default: the dataset's]")
@PARENT
@FORCE
def train(
    run_path: Path | None, parent: Path | None, steps: int | None, batch: int, learning_rate: float | None,
    encoder_weights: str | None, force: bool, **wanted: Any,
) -> None:  # fmt: skip
    """Train the float parent.

    Uses the latest run when it is what the options ask for, else makes a new one. Polynomial decay, class-weighted
    cross entropy with a soft Jaccard loss; keeps the best and the last checkpoint. Ctrl-C and repeat to go on later.
    """
    quiet_tensorflow()
    from pipeline.adopt import adopt
    from pipeline.resolve import Wanted, run_to_train
    from pipeline.train import float_schedule

    run = click.get_current_context().with_resource(run_to_train(run_path, Wanted(**wanted), say))
    if parent is not None:
        adopt(run, parent, say)
    else:
        _train(run, float_schedule(run, steps, batch, learning_rate), encoder_weights, force)


@main.command()
@RUN
@new_run_options
@PARENT
@click.option("--steps", type=STEPS, help="Weight updates of the QAT.  [default: the dataset's]")
@click.option(
    "--float-steps", type=STEPS, metavar="N",
    help="Weight updates of the float parent, where it is trained first.  [default: the dataset's]",
)  # fmt: skip
@click.option("--batch", type=BATCH, default=8, show_default=True, help="Images per step.")
@click.option("--learning-rate", type=LEARNING_RATE, help="Peak of the QAT.  [default: the dataset's]")
@click.option(
    "--labels/--no-labels", default=True, show_default=True, help="Without: learns from the float parent alone."
)
@click.option(
    "--distil", type=Number(0, 1e6), default=10.0, show_default=True, help="Weight of the float parent's say."
)
@click.option("--ranges", type=click.Choice(["learned", "frozen"]), default="learned", show_default=True)
@click.option(
    "--freeze-statistics", type=Number(0, 1), default=0.0, show_default=True, metavar="SHARE",
    help="After this share of the steps batch norm's statistics stay as they are; 0: the parent's, always.",
)  # fmt: skip
@click.option("--evaluations", type=STEPS, help="Checkpoints to choose from.  [default: one in 50 steps]")
@PER_TENSOR
@calibration_options
@click.option("--control", is_flag=True, help="The same training in float: what the steps alone bring.")
@FORCE
def qat(
    run_path: Path | None, parent: Path | None, steps: int | None, float_steps: int | None, batch: int,
    learning_rate: float | None, labels: bool, distil: float, ranges: str, freeze_statistics: float,
    evaluations: int | None, per_tensor: bool, method: str | None, selection: str | None, images: int | None,
    folder: str | None, control: bool, encoder_weights: str | None, force: bool, **wanted: Any,
) -> None:  # fmt: skip
    """Quantization-aware training.

    Starts from the float parent's weights, which it trains first when there are none, and from ranges calibrated on
    training images. The checkpoint is chosen by scoring the int8 files that they convert to, on a fifth of the training
    images (40 at most), which are held out. The best one must gain more there than luck would in one training of 20
    (5 %, by the standard error of the gain and the number of checkpoints), else the start is kept; so it is where too
    few images are held out to tell: fewer than 5 with one checkpoint, 7 with four. The validation images are only
    reported on.
    """
    quiet_tensorflow()
    from pipeline.adopt import adopt
    from pipeline.data import open_dataset
    from pipeline.feed import Augmentation
    from pipeline.fit import Schedule
    from pipeline.nouns.calibration import Calibration
    from pipeline.nouns.errors import BadSpec
    from pipeline.qat import Settings
    from pipeline.qat import qat as train_quantized
    from pipeline.resolve import Wanted, run_to_train
    from pipeline.train import defaults_of, float_training

    if parent is not None and float_steps is not None:
        raise BadSpec("--float-steps is for training a float parent, and --parent gives one: leave one of them out.")
    run = click.get_current_context().with_resource(run_to_train(run_path, Wanted(**wanted), say))
    defaults = defaults_of(run)
    steps = steps or defaults.qat_steps
    schedule = Schedule(
        steps, batch, learning_rate or defaults.qat_learning_rate, evaluations=evaluations or max(1, steps // 50),
        labels=labels, distil=distil, statistics_until=freeze_statistics,
    )  # fmt: skip
    said = {"method": method, "selection": selection, "images": images, "folder": folder}
    how = Settings(
        Augmentation(defaults.scale, True, defaults.colour), calibration_of(said) or Calibration(), per_tensor,
        ranges == "learned", control,
    )  # fmt: skip
    if parent is not None:
        adopt(run, parent, say)
    elif (missing := float_training(run, float_steps, batch, encoder_weights)) is not None:
        count = len(open_dataset(run.config.data).splits["train"])
        say(
            "there is no float parent in this run: training it first. Plan:"
            f" {missing.schedule.steps} float steps (--float-steps), then {steps} {'control' if control else 'QAT'}"
            f" steps (--steps), on {count} training images. How long that takes is said after the first steps of each."
        )
        _train(run, missing.schedule, missing.encoder_weights, False)
    result = train_quantized(run, schedule, how, say, force=force)
    what = "float control: val mIoU" if control else "QAT network: val mIoU of its int8 file"
    say(f"{what} {result['val_miou_percent']:.2f} %, {result['seconds']:.0f} s")
    if not control:
        say(f"next: python cli.py convert --target cpu{f' --run {run.path}' if run_path else ''}")


@main.command()
@RUN
@click.option("--target", "target_name", required=True, metavar="NAME", help="What to convert for, see `list`; `all`.")
@SOC
@OUTPUT
@OUTPUT_STRIDE
@click.option(
    "--io",
    type=click.Choice(["uint8", "int8", "float32"]),
    help="Input type; integer files give int8 logits and scores.  [default: the target's]",
)
@click.option(
    "--method",
    "parent_method",
    type=click.Choice(["qat", "ptq"]),
    help="QAT network, or the float one quantized after training.  [default: QAT where there is one]",
)
@calibration_options
@PER_TENSOR
@click.option("--weights", type=click.Choice(["int8", "float16", "float32"]), help="[default: the target's]")
@click.option("--level", type=int, metavar="N", help="Feature level, for targets that have such (nnapi: 27 to 31).")
@click.option("--rewrite/--no-rewrite", "rewrites", default=True, help="Replace ops that the target does not take.")
@click.option(
    "--approximate",
    "approximations",
    multiple=True,
    metavar="NAME",
    help="A rewrite that is not equal, measured on the validation images: resize-chain (ethos-u55, ethos-u65).",
)
@COMPILER
@click.option("--require-compiled", is_flag=True, help="Fail when the target's own compiler does not compile the file.")
@JSON
@FORCE
def convert(
    run_path: Path | None, target_name: str, soc: str | None, output: Any, stride: Any, io: Any,
    parent_method: str | None, per_tensor: bool, weights: Any, level: int | None, rewrites: bool,
    approximations: tuple[str, ...],
    compiler_command: str | None, require_compiled: bool, force: bool, json_path: str | None, **said: Any,
) -> None:  # fmt: skip
    """Convert to a .tflite file for one target, and check the file against the target's contract.

    Takes the QAT network; without one, quantizes the float network after training, and says so. The recipe is inside
    the file as metadata and beside it as JSON. An op that the target does not take is replaced by ops that compute the
    same, where there are such, and said aloud.
    """
    from pipeline.nouns.errors import BadSpec
    from pipeline.targets import target as find_target

    target = None
    if approximations and not rewrites:
        raise BadSpec("--approximate is a rewrite, and --no-rewrite makes none: leave one of them out.")
    if target_name != "all":
        target = find_target(target_name).with_soc(soc).at_level(level).with_weights(weights)
        target = target.with_compiler(compiler_command).approximated(approximations)
    else:
        for_one = {
            "--soc": soc, "--level": level, "--weights": weights, "--compiler": compiler_command,
            "--approximate": approximations or None,
        }  # fmt: skip
        if given := [option for option, value in for_one.items() if value is not None]:
            raise BadSpec(f"{given[0]} goes with one target: name it with --target.")
    quiet_tensorflow()
    import dataclasses

    from pipeline import convert as converting
    from pipeline.nouns.calibration import Quantization
    from pipeline.resolve import run_to_use

    if target is None:
        asked = Quantization(parent_method, calibration_of(said), per_tensor)
        _convert_all(run_path, output, stride, io, asked, rewrites, require_compiled, force, json_path)
        return
    if json_path:
        raise BadSpec("--json goes with --target all: the recipe of a single artifact lies beside it as JSON already.")
    if not rewrites:
        target = dataclasses.replace(target, rewrites=())
    run = run_to_use(run_path, say)
    if target.advice:
        say(f"note: {target.advice}")
    asked = Quantization(parent_method, calibration_of(said), per_tensor)
    output, stride = converting.output_and_stride(run, target, output, stride, io, say)
    artifact = converting.convert(run, target, say, output=output, stride=stride, io=io, asked=asked, force=force)
    run.name_target(target.name)
    converting.float_reference(run, output, stride, say)
    size_mib = artifact.path.stat().st_size / (1 << 20)
    tell(f"{artifact.path}  {size_mib:.2f} MiB  {artifact.recipe['method']}, checked")
    artifact, compiled = converting.compile_artifact(artifact, target, require_compiled, say)
    if compiled is not None:
        tell(compiled.note)


def _convert_all(
    run_path: Path | None, output: Any, stride: Any, io: Any, asked: Any, rewrites: bool, require_compiled: bool,
    force: bool, json_path: str | None,
) -> None:  # fmt: skip
    """Every target in turn; exit code 1 where one failed."""
    from pipeline.convert_all import convert_all
    from pipeline.nouns.errors import BadSpec, CompilerError
    from pipeline.resolve import run_to_use
    from pipeline.show_inspection import show_made
    from pipeline.targets import targets

    if io:
        raise BadSpec("--io with --target all: each target has its own input type; leave --io out.")
    run = run_to_use(run_path, say)
    made = convert_all(
        run, targets().values(), say, output=output, stride=stride, asked=asked, rewrites=rewrites, force=force,
        require_compiled=require_compiled,
    )  # fmt: skip
    write_numbers(json_path, {"targets": [one.to_json() for one in made]})
    show_made(made)
    failed = [one.target for one in made if one.failed]
    if failed:
        raise CompilerError(
            f"{len(failed)} of {len(made)} targets failed: {', '.join(failed)}; their reasons are above."
        )


@main.command()
@RUN
@click.option("--calibration", "methods", multiple=True, metavar="NAME", help="One or more.  [default: all]")
@click.option("--select", "selections", multiple=True, metavar="NAME", help="One or more.  [default: all]")
@click.option(
    "--images", "counts", type=click.IntRange(1), multiple=True, default=(8, 32, 100), show_default=True, metavar="N"
)
@click.option("--images-from", "folder", metavar="DIR", help="Images without labels in place of the training images.")
@PER_TENSOR
@JSON
def calibrate(
    run_path: Path | None, methods: tuple[str, ...], selections: tuple[str, ...], counts: tuple[int, ...],
    folder: str | None, per_tensor: bool, json_path: str | None,
) -> None:  # fmt: skip
    """Compare ways to calibrate: estimator, choice of images, and their number.

    Quantizes the float network after training in every combination and scores each int8 file on the validation
    images. Can be interrupted and repeated. Use what wins with `convert --method ptq --calibration NAME ...`.
    """
    quiet_tensorflow()
    from calib.estimators import ESTIMATORS
    from calib.images import SELECTIONS
    from pipeline.resolve import run_to_use
    from pipeline.show import show_sweep
    from pipeline.sweep import sweep

    run = run_to_use(run_path, say)
    ways = [way for way in SELECTIONS if not (folder and way == "class-balanced")]
    result = sweep(run, methods or list(ESTIMATORS), selections or ways, counts, per_tensor, folder, say)
    write_numbers(json_path, result.to_json())
    show_sweep(result)


@main.command()
@RUN
@ARTIFACT_TARGET
@click.option("--images", type=click.IntRange(1), default=4, show_default=True, help="Validation images to compare on.")
@JSON
def agree(run_path: Path | None, target_name: str | None, images: int, json_path: str | None) -> None:
    """Show where the Keras network and the file made from it part, layer by layer.

    The file runs on LiteRT's reference kernels, the exact ones; the Keras network computes in the same integer
    arithmetic and, for a second figure, in floating point as in training. Names the first layer that parts, and where.
    """
    quiet_tensorflow()
    from pipeline import agree as agreeing
    from pipeline.resolve import newest_artifact, run_to_use
    from pipeline.show import show_agreement
    from pipeline.targets import target as find_target

    if target_name:
        find_target(target_name)
    run = run_to_use(run_path, say)
    agreement = agreeing.agree(run, newest_artifact(run, target_name, say), images, say)
    write_numbers(json_path, agreement.to_json())
    show_agreement(agreement)


@main.command()
@RUN
@click.option(
    "--weights", type=click.Choice(["float", "artifact"]), default="artifact", show_default=True, help="Which to score."
)
@ARTIFACT_TARGET
@click.option("--split", type=click.Choice(["val", "train"]), default="val", show_default=True)
@IMAGES
@JSON
def evaluate(
    run_path: Path | None, weights: str, target_name: str | None, split: str, images: int | None, json_path: str | None
) -> None:
    """Score the float network in Keras, or an artifact in LiteRT, on labelled images."""
    quiet_tensorflow()
    from pipeline import convert as converting
    from pipeline.data import dataset_of
    from pipeline.data.decoded import Decoded
    from pipeline.evaluate import on_this_machine, score_masks
    from pipeline.resolve import newest_artifact, run_to_use
    from pipeline.show import show_score
    from pipeline.targets import target as find_target
    from pipeline.train import keras_infer

    if target_name:
        find_target(target_name)
    run = run_to_use(run_path, say)
    dataset = dataset_of(run)
    decoded = Decoded(dataset.splits[split])
    if weights == "float":
        what = run.float_dir / "best.weights.h5"
        score = score_masks(decoded, keras_infer(converting.load_float(run, what)), dataset.classes, images)
    else:
        artifact = newest_artifact(run, target_name, say)
        what = artifact.path
        with on_this_machine(artifact.path, run.preprocessing, run.config.model.resize) as infer:
            score = score_masks(decoded, infer, dataset.classes, images)
    show_score(score, f"{what} on {score.images} {split} images of {run.config.data}")
    write_numbers(json_path, {"what": str(what), "split": split, **score.to_json()})


@main.command()
@RUN
@ARTIFACT_TARGET
@click.option(
    "--device", "device_names", is_flag=False, flag_value="best", multiple=True, metavar="[NAME[:SELECTOR]]",
    help="Where to measure, see `list`; repeat it for several; alone: the best device attached.",
)  # fmt: skip
@click.option("--protocol", type=click.Choice(["default", "mlperf"]), default="default", show_default=True,
              help="mlperf: 1024 inferences and 60 seconds at least.")  # fmt: skip
@click.option("--runs", type=STEPS, help="Timed inferences at least.  [default: the protocol's]")
@click.option("--seconds", type=Number(0, MOST_SECONDS), help="Timing at least.  [default: the protocol's]")
@click.option(
    "--starts", type=click.IntRange(2, 1000), help="How often each file is started.  [default: the protocol's]"
)
@click.option("--threads", default="1", show_default=True, metavar="N[,N...]", help="CPU threads; several: a sweep.")
@click.option("--vs", "other", type=click.Path(path_type=Path), metavar="FILE|RUN", help="Is it faster than this one?")
@click.option("--heads", is_flag=True, help="Instead: all its network's ways to a full-size mask.")
@IMAGES
@DEVICE_SETTINGS
@JSON
@click.option("--max-drop", type=Number(-100, 100), metavar="POINTS", help="Gate: exit 1 when mIoU drops by more.")
@click.option(
    "--max-latency-ms",
    type=Number(0, min_open=True),
    metavar="MS",
    help="Gate: exit 1 when the median latency is higher.",
)
def bench(
    run_path: Path | None, target_name: str | None, device_names: tuple[str, ...], protocol: str, runs: int | None,
    seconds: float | None, starts: int | None, threads: str, other: Path | None, heads: bool, images: int | None,
    json_path: str | None, max_drop: float | None, max_latency_ms: float | None, **said: Any,
) -> None:  # fmt: skip
    """Measure an artifact beside its float parent: accuracy drop and latency, on one device or several.

    Both are scored by one evaluator on the validation images, on the device itself, and timed there in turns. What is
    measured is the file that ships. The numbers go to a table, to the run's measurements/, and to --json FILE.
    """
    import dataclasses

    from pipeline import bench as benching
    from pipeline.devices import device
    from pipeline.nouns.device import Settings
    from pipeline.nouns.errors import BadSpec
    from pipeline.resolve import float_parent, newest_artifact, run_to_use, to_compare
    from pipeline.show_measurement import show_heads, show_measurement
    from pipeline.targets import target as find_target
    from pipeline.timing import PROTOCOLS

    if target_name:
        find_target(target_name)
    device_names = tuple(dict.fromkeys(device_names or ("best",)))
    for name in device_names:
        chosen, selector = device(name)
        best = "the best device attached: " if name == "best" else ""
        say(f"device {chosen.name} ({best}{selector or chosen.find()})")
    run = run_to_use(run_path, say)
    artifact = newest_artifact(run, target_name, say)
    given: dict[str, Any] = {"runs": runs, "seconds": seconds, "starts": starts}
    how = dataclasses.replace(PROTOCOLS[protocol], **{k: v for k, v in given.items() if v is not None})
    if heads:
        if len(device_names) > 1 or "," in threads or other or max_drop is not None or max_latency_ms is not None:
            raise BadSpec("--heads goes with one --device and one number of --threads; without --vs and the gates.")
        quiet_tensorflow()
        from pipeline.bench_heads import bench_heads

        compared = bench_heads(
            run, artifact, device_names[0], Settings(**said), how, threads_of(threads)[0], images, say
        )
        saved = benching.save(run, compared, device_names[0] if device_names[0] != "best" else "host")
        show_heads(compared)
        say(f"written: {saved}")
        write_numbers(json_path, compared.to_json())
        return
    parent = float_parent(run, artifact)
    if parent is None:
        quiet_tensorflow()
        from pipeline.convert import float_reference
        from pipeline.nouns.artifact import output_of

        parent = float_reference(run, *output_of(artifact.recipe), say)
    against = to_compare(other, target_name, say) if other else None
    plan = benching.Plan(run, artifact, parent, against, how, threads_of(threads), images=images)
    measurements = []
    try:
        for measurement in benching.bench(plan, device_names, Settings(**said), say):
            measurements.append(measurement)
            saved = benching.save(run, measurement)
            show_measurement(measurement)
            say(f"written: {saved}")
    finally:
        if measurements:
            numbers = [measurement.to_json() for measurement in measurements]
            write_numbers(json_path, numbers[0] if len(device_names) == 1 else {"measurements": numbers})
    for measurement in measurements:
        benching.check_gates(measurement, max_drop, max_latency_ms)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--target", "names", multiple=True, required=True, metavar="NAME", help="One or more, see `list`.")
@click.option("--level", type=int, metavar="N", help="Feature level, for targets that have such (nnapi: 27 to 31).")
@SOC
@click.option("--all", "every_op", is_flag=True, help="Show the accelerated ops as well.")
@click.option("--no-compiler", is_flag=True, help="Go by the rules alone; do not ask the target's own compiler.")
@click.option(
    "--wait", type=Number(0, MOST_SECONDS), default=20.0, show_default=True, metavar="SECONDS",
    help="How long a compiler may take; after that the rules answer alone.",
)  # fmt: skip
@COMPILER
@JSON
def inspect(
    file: Path, names: tuple[str, ...], level: int | None, soc: str | None, every_op: bool, no_compiler: bool,
    wait: float, compiler_command: str | None, json_path: str | None,
) -> None:  # fmt: skip
    """What a target makes of a .tflite file, ours or not, operator by operator: accelerated, falls back, or refused.

    By the target's rules, each with its source, and by its own compiler or runtime where that is on this machine.
    """
    from pipeline.inspect import inspect as ask
    from pipeline.show_inspection import show_inspection
    from pipeline.targets import target as find_target

    targets = [find_target(name).with_compiler(compiler_command) for name in names]
    leveled = any(target.levels for target in targets)
    targets = [target.at_level(level) if target.levels or not leveled else target for target in targets]
    with_socs = any(target.socs for target in targets)
    targets = [target.with_soc(soc) if target.socs or not with_socs else target for target in targets]
    inspections = [ask(file, target, not no_compiler, wait) for target in targets]
    write_numbers(json_path, {"file": str(file), "inspections": [i.to_json() for i in inspections]})
    for inspection in inspections:
        show_inspection(inspection, str(file), every_op)


@main.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@RUN
@ARTIFACT_TARGET
@click.option("--runs", type=PROFILED, default=100, show_default=True, help="Inferences with the profiler.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="CPU threads.")
@click.option("--all", "every_op", is_flag=True, help="Show every op, however short.")
@JSON
def profile(
    file: Path | None, run_path: Path | None, target_name: str | None, runs: int, threads: int, every_op: bool,
    json_path: str | None,
) -> None:  # fmt: skip
    """Where an inference spends its time on this machine's CPU, op by op, beside what the machine could attain.

    FILE is any .tflite file; without it, the run's artifact. Times are from the runtime's own
    profiler; MACs and bytes are counted from the file; peaks are measured in the same runtime.
    """
    from pipeline.profile import profile as measure
    from pipeline.resolve import newest_artifact, run_to_use
    from pipeline.show_profile import show_profile
    from pipeline.targets import target as find_target

    if target_name:
        find_target(target_name)
    if file is None:
        file = newest_artifact(run_to_use(run_path, say), target_name, say).path
    result = measure(file, threads, runs)
    write_numbers(json_path, result.to_json())
    show_profile(result, every_op)


@main.command()
def doctor() -> None:
    """Say of each target and device whether it is ready on this machine, and the one command that makes it so."""
    from pipeline.show import show_readiness

    show_readiness()


@main.command("list")
def list_() -> None:
    """List the models, datasets, targets and devices."""
    quiet_tensorflow()
    from pipeline.show import show_registries

    show_registries()


if __name__ == "__main__":
    main()
