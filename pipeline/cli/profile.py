"""The command `profile`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.given import given
from pipeline.cli.options import ARTIFACT_TARGET, JSON, PROFILED, RUN, say, write_numbers
from pipeline.cli.resolve import newest_artifact, run_to_use
from pipeline.core.errors import BadSpec
from pipeline.measure.profile import profile as measure
from pipeline.measure.saved import PROFILE, keep
from pipeline.report.profile import show_profile
from pipeline.targets import target as find_target


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@RUN
@ARTIFACT_TARGET
@click.option("--runs", type=PROFILED, default=100, show_default=True, help="How many inferences to profile.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="CPU threads.")
@click.option("--all", "every_op", is_flag=True, help="Show every op, however short.")
@JSON
def profile(
    file: Path | None,
    run_path: Path | None,
    target_name: str | None,
    runs: int,
    threads: int,
    every_op: bool,
    json_path: str | None,
) -> None:
    """Show where an inference spends its time on this machine's CPU, op by op, and what the machine could attain.

    FILE is any .tflite file; without it, the run's artifact is profiled. Times come from the runtime's own profiler;
    MACs and bytes are counted from the file; peaks are measured in the same runtime.
    """
    if target_name:
        find_target(target_name)
    if file is not None and (given("run_path") or given("target_name")):
        raise BadSpec(f"{file} is the file to profile: leave --run and --target out, or leave the file out.")
    if file is None:
        file = newest_artifact(run_to_use(run_path, say), target_name, say).path
    with say.waiting(f"profiling {runs} inferences"):
        result = measure(file, threads, runs)
    keep(PROFILE, file, result.to_json())
    write_numbers(json_path, result.to_json())
    show_profile(result, every_op)
