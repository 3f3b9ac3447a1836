"""The command `inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import COMPILER, JSON, MOST_SECONDS, SOC, Number, write_numbers
from pipeline.measure.inspect import inspect as ask
from pipeline.report.inspection import show_inspection
from pipeline.targets import target as find_target


@click.command()
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
    targets = [find_target(name).with_compiler(compiler_command) for name in names]
    leveled = any(target.levels for target in targets)
    targets = [target.at_level(level) if target.levels or not leveled else target for target in targets]
    with_socs = any(target.socs for target in targets)
    targets = [target.with_soc(soc) if target.socs or not with_socs else target for target in targets]
    inspections = [ask(file, target, not no_compiler, wait) for target in targets]
    write_numbers(json_path, {"file": str(file), "inspections": [i.to_json() for i in inspections]})
    for inspection in inspections:
        show_inspection(inspection, str(file), every_op)
