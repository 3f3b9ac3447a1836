"""The command `inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.configuration import record
from pipeline.cli.given import no_effect
from pipeline.cli.options import COMPILER, JSON, LEVEL, SOC, Number, complete, say, write_numbers
from pipeline.cli.resolve import newest_artifact
from pipeline.core.contained import check_contained
from pipeline.core.errors import ArtifactError, BadSpec
from pipeline.core.number import MOST_SECONDS
from pipeline.core.run import FILE, RUNS, open_run
from pipeline.core.target import Target
from pipeline.measure.inspect import inspect as ask
from pipeline.measure.inspect import opened
from pipeline.measure.saved import INSPECT, keep
from pipeline.report.inspection import show_inspection
from pipeline.targets import target as find_target
from pipeline.targets import targets as all_targets


@click.command()
@click.argument("file", metavar="FILE|RUN", type=click.Path(path_type=Path), shell_complete=complete("files_or_runs"))
@click.option(
    "--target",
    "names",
    multiple=True,
    metavar="NAME[:SELECTOR]",
    help="What to inspect for, see `list`: edgetpu, nnapi:29, qualcomm:SM8650; may be repeated.  [default: what the"
    " file was made for]",
    shell_complete=complete("targets"),
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
    it is installed. Of a run, its newest artifact for each target is taken.

    \b
      python cli.py inspect FILE.tflite --target edgetpu --target gpu
      python cli.py inspect runs/demo
    """
    if no_compiler:
        no_effect("--no-compiler", "compiler_command", "wait")
    named = with_selectors(names, level, soc)
    file = run_called(file)
    targets = named or with_selectors((made_for(file),), level, soc)
    targets = [target.with_compiler(compiler_command) for target in targets]
    files = [artifact_for(file, target.text if names else None) for target in targets]
    if file.is_dir():
        record(open_run(file))
    inspections = []
    for each, target in zip(files, targets, strict=True):
        with say.waiting(f"asking {target.title}"):
            inspections.append(ask(each, target, not no_compiler, wait))
    for each, inspection in zip(files, inspections, strict=True):
        keep(INSPECT, each, inspection.to_json(), inspection.target)
    numbers = [{"file": str(each), **i.to_json()} for each, i in zip(files, inspections, strict=True)]
    write_numbers(json_path, {"file": str(files[0]), "inspections": numbers})
    for each, inspection in zip(files, inspections, strict=True):
        show_inspection(inspection, str(each), every_op)


def run_called(path: Path) -> Path:
    """``path``, or the run of that name in runs/ where there is nothing at ``path``; raises ArtifactError."""
    if path.exists():
        return path
    if (RUNS / path / FILE).is_file():
        return RUNS / path
    raise ArtifactError(f"{path} does not exist: name a .tflite file, or a run that `list --runs` lists.")


def with_selectors(names: tuple[str, ...], level: int | None, soc: str | None) -> list[Target]:
    """The targets, with --level and --soc for those that have levels and systems on chip."""
    named = [find_target(name) for name in names]
    leveled, with_socs = any(target.levels for target in named), any(target.socs for target in named)
    return [
        find_target(
            target.text,
            level=level if target.levels or not leveled else None,
            soc=soc if target.socs or not with_socs else None,
        )
        for target in named
    ]


def artifact_for(path: Path, target: str | None) -> Path:
    """The file at ``path``, or the newest artifact (of ``target``) of the run there."""
    if not path.is_dir():
        return path
    check_contained(path)
    return newest_artifact(open_run(path), target, say).path


def made_for(path: Path) -> str:
    """The target that the file, or the newest artifact of the run, was made for; raises BadSpec where it names none."""
    file = newest_artifact(open_run(path), None, lambda _: None).path if path.is_dir() else path
    _, graph = opened(file)
    try:
        recipe = graph.recipe()
    except ArtifactError:
        recipe = None
    if recipe is None or recipe.target not in all_targets():
        raise BadSpec(f"{file} does not say what target it was made for: name one with --target, see `list`.")
    return f"{recipe.target}:{recipe.level}" if recipe.level is not None else recipe.target
