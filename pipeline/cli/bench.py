"""The command `bench`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pipeline.cli.bad_images import ON_BAD_IMAGE, settle_bad_images
from pipeline.cli.options import (
    ARTIFACT_TARGET,
    IMAGES,
    JSON,
    RUN,
    STEPS,
    Number,
    complete,
    device_options,
    quiet_tensorflow,
    say,
    split_option,
    threads_of,
    write_numbers,
)
from pipeline.cli.resolve import float_parent, newest_artifact, run_to_use, to_compare
from pipeline.core.device import DeviceOptions
from pipeline.core.errors import BadSpec
from pipeline.core.measurement import Measurement
from pipeline.core.number import MOST_SECONDS
from pipeline.data import TEST, split_to_score
from pipeline.devices import check_taken, device
from pipeline.measure import bench as benching
from pipeline.measure.gates import check_gates, with_gates
from pipeline.measure.plan import BenchPlan, HeadsPlan
from pipeline.measure.saved import save
from pipeline.measure.timing import PROTOCOLS
from pipeline.report.measurement import show_heads, show_measurement
from pipeline.targets import target as find_target


@click.command()
@RUN
@ARTIFACT_TARGET
@click.option(
    "--device",
    "device_names",
    is_flag=False,
    flag_value="best",
    multiple=True,
    metavar="[NAME[:SELECTOR]]",
    help="Where to measure, see `list`; may be repeated.  [default, also without a name: the best device attached]",
    shell_complete=complete("devices"),
)
@click.option(
    "--protocol",
    type=click.Choice(["default", "mlperf"]),
    default="default",
    show_default=True,
    help="How long to time; mlperf: at least 1024 inferences of each file and 60 seconds.",
)
@click.option("--runs", type=STEPS, help="Fewest timed inferences of each file.  [default: the protocol's]")
@click.option(
    "--seconds",
    type=Number(0, MOST_SECONDS),
    help="Shortest time to measure, all files together.  [default: the protocol's]",
)
@click.option(
    "--starts",
    type=click.IntRange(2, 1000),
    help="How often each file is started in a new process.  [default: the protocol's]",
)
@click.option(
    "--threads",
    default="1",
    show_default=True,
    metavar="N[,N...]",
    help="CPU threads; several numbers measure each in turn.",
)
@click.option(
    "--vs",
    "other",
    type=click.Path(path_type=Path),
    metavar="FILE|RUN",
    help="Another file or run, to tell whether the artifact is faster.",
    shell_complete=complete("files_or_runs"),
)
@split_option("val", TEST)
@click.option("--heads", is_flag=True, help="Compare all ways to make a full-size mask instead.")
@IMAGES
@device_options
@ON_BAD_IMAGE
@JSON
@click.option("--max-drop", type=Number(-100, 100), metavar="POINTS", help="Gate: exit 1 when mIoU drops by more.")
@click.option(
    "--max-latency-ms",
    type=Number(0, min_open=True),
    metavar="MS",
    help="Gate: exit 1 when the median latency is higher.",
)
def bench(
    run_path: Path | None,
    target_name: str | None,
    device_names: tuple[str, ...],
    protocol: str,
    runs: int | None,
    seconds: float | None,
    starts: int | None,
    threads: str,
    other: Path | None,
    split: str,
    heads: bool,
    images: int | None,
    on_bad_image: Any,
    json_path: str | None,
    max_drop: float | None,
    max_latency_ms: float | None,
    **on_device: Any,
) -> None:
    """Measure an artifact beside its float parent: accuracy drop and latency, on one device or several.

    Both are scored on the validation images (or those of --split) and timed in turns, on the device itself. The file
    that is measured is the one that ships. The numbers go to a table, to the run's measurements/, and to --json FILE.
    """
    if target_name:
        find_target(target_name)
    device_names = tuple(dict.fromkeys(device_names or ("best",)))
    say_devices(device_names)
    run = run_to_use(run_path, say, writes=True)
    artifact = newest_artifact(run, target_name, say)
    overrides = {"runs": runs, "seconds": seconds, "starts": starts}
    timing = dataclasses.replace(PROTOCOLS[protocol], **{k: v for k, v in overrides.items() if v is not None})  # type: ignore[arg-type]
    options = DeviceOptions(**on_device)
    check_taken(options, device_names)
    if heads:
        if len(device_names) > 1 or "," in threads or other or max_drop is not None or max_latency_ms is not None:
            raise BadSpec("--heads goes with one --device and one number of --threads; without --vs and the gates.")
        if split == TEST:
            raise BadSpec("--heads chooses among ways to a mask, and nothing is chosen on test: leave --split out.")
        settle_bad_images(run, on_bad_image, ("val",))
        heads_plan = HeadsPlan(run, artifact, timing, threads_of(threads)[0], images)
        compare_heads(heads_plan, device_names[0], options, json_path)
        return
    parent = float_parent(run, artifact)
    if parent is None:
        quiet_tensorflow()
        from pipeline.convert.convert import float_reference

        parent = float_reference(run, artifact.recipe.file, say)
    against = to_compare(other, target_name, say) if other else None
    split = split_to_score(run, split, say)
    settle_bad_images(run, on_bad_image, (split,))
    plan = BenchPlan(run, artifact, parent, against, timing, threads_of(threads), split, images)
    limits = max_drop, max_latency_ms
    for measurement in measure_on_all(plan, device_names, options, json_path, limits):
        check_gates(measurement, *limits)


def say_devices(names: Sequence[str]) -> None:
    """Raises UnknownName before anything else is done."""
    for name in names:
        kind, selector = device(name)
        best = "the best device attached: " if name == "best" else ""
        say(f"device {kind.name} ({best}{selector or kind.find()})")


def measure_on_all(
    plan: BenchPlan,
    names: Sequence[str],
    options: DeviceOptions,
    json_path: str | None,
    limits: tuple[float | None, float | None],
) -> list[Measurement]:
    """Shows and saves each measurement as it ends; --json gets those that ended, also where a device failed.

    ``limits``: of the drop in points and of the median latency in ms.
    """
    measurements: list[Measurement] = []
    try:
        for measurement in benching.bench(plan, names, options, say):
            measurement = with_gates(measurement, *limits)
            measurements.append(measurement)
            saved = save(plan.run, measurement)
            show_measurement(measurement)
            say(f"written: {saved}")
    finally:
        if measurements:
            numbers = [measurement.to_json() for measurement in measurements]
            write_numbers(json_path, numbers[0] if len(names) == 1 else {"measurements": numbers})
    return measurements


def compare_heads(plan: HeadsPlan, name: str, options: DeviceOptions, json_path: str | None) -> None:
    """`bench --heads`."""
    quiet_tensorflow()
    from pipeline.measure.heads import bench_heads

    measurement = bench_heads(plan, name, options, say)
    saved = save(plan.run, measurement, "host" if name == "best" else name)
    show_heads(measurement)
    say(f"written: {saved}")
    write_numbers(json_path, measurement.to_json())
