"""The command `inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import COMPILER, JSON, LEVEL, MOST_SECONDS, SOC, Number, write_numbers
from pipeline.measure.inspect import inspect as ask
from pipeline.measure.saved import INSPECT, keep
from pipeline.report.inspection import show_inspection
from pipeline.targets import target as find_target


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--target",
    "names",
    multiple=True,
    required=True,
    metavar="NAME[:SELECTOR]",
    help="What to inspect for, see `list`: edgetpu, nnapi:29, qualcomm:SM8650; may be repeated.",
)
@LEVEL
@SOC
@click.option("--all", "every_op", is_flag=True, help="Show the accelerated ops as well.")
@click.option("--no-compiler", is_flag=True, help="Use the rules only; do not ask the target's own compiler.")
@click.option(
    "--wait",
    type=Number(0, MOST_SECONDS),
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the target's compiler may take before it is ended and the rules alone are used.",
)
@COMPILER
@JSON
def inspect(
    file: Path,
    names: tuple[str, ...],
    level: int | None,
    soc: str | None,
    every_op: bool,
    no_compiler: bool,
    wait: float,
    compiler_command: str | None,
    json_path: str | None,
) -> None:
    """Show how a target runs any .tflite file, op by op: accelerated, left to the CPU, or refused.

    The answers come from the target's rules, each with its source, and from the target's own compiler or runtime where
    it is installed.
    """
    named = [find_target(name) for name in names]
    leveled, with_socs = any(target.levels for target in named), any(target.socs for target in named)
    targets = [
        find_target(
            target.text,
            level=level if target.levels or not leveled else None,
            soc=soc if target.socs or not with_socs else None,
        ).with_compiler(compiler_command)
        for target in named
    ]
    inspections = [ask(file, target, not no_compiler, wait) for target in targets]
    for inspection in inspections:
        keep(INSPECT, file, inspection.to_json(), inspection.target)
    write_numbers(json_path, {"file": str(file), "inspections": [i.to_json() for i in inspections]})
    for inspection in inspections:
        show_inspection(inspection, str(file), every_op)
