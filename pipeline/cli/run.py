"""The command `run`."""

from __future__ import annotations

import click

from pipeline.cli.configuration import USED, Configuration, defaults, options_of
from pipeline.cli.options import say
from pipeline.core.errors import BadSpec

ORDER = (
    "check",
    "train",
    "qat",
    "calibrate",
    "convert",
    "inspect",
    "agree",
    "evaluate",
    "bench",
    "profile",
    "predict",
    "gate",
    "report",
    "bundle",
)


@click.command()
@click.pass_context
def run(ctx: click.Context) -> None:
    """Run the whole path that a configuration file describes.

    Each command that has a section in the file is called, in the order of the path: check, train, qat, convert, bench,
    gate, report and the others between them; a section that is a list calls it once for each entry. What is there
    already is reused, and a training that was interrupted goes on, so the same call finishes what was cut off. The
    first command that fails ends the path with its exit code.

    \b
      python cli.py run --config docs/examples/phone.yaml
    """
    configuration = ctx.obj
    if not isinstance(configuration, Configuration):
        raise BadSpec("run takes what to do from a file: give it with --config FILE.yaml (see docs/configuration.md).")
    left_out = [name for name in configuration.sections if name not in ORDER]
    if left_out:
        raise BadSpec(f"{configuration.path} has a section {left_out[0]!r}, which is no part of a path.")
    steps = [(name, i) for name in ORDER for i in range(len(configuration.sections.get(name, ())))]
    if not steps:
        raise BadSpec(f"{configuration.path} has no section of a command: write one, such as 'qat:'.")
    parent = ctx.parent
    assert parent is not None
    for name, entry in steps:  # a value that an option does not take is found before hours are spent
        with _step(parent, configuration, name, entry):
            pass
    for number, (name, entry) in enumerate(steps, 1):
        say(f"[{number}/{len(steps)}] {name}")
        with _step(parent, configuration, name, entry) as step:
            step.command.invoke(step)


def _step(parent: click.Context, configuration: Configuration, name: str, entry: int) -> click.Context:
    """The command's context, its options checked; raises BadSpec where one that it needs is missing."""
    assert isinstance(parent.command, click.Group)
    command = parent.command.get_command(parent, name)
    assert command is not None
    values = defaults(configuration, name, command, entry)
    try:
        step = command.make_context(name, [], parent=parent, default_map=values)
    except click.MissingParameter as error:
        key = next((key for key, parameter in options_of(command).items() if parameter is error.param), "an option")
        raise BadSpec(f"{configuration.path}: the section {name!r} lacks {key!r}: add it.") from None
    step.meta[USED] = configuration.path
    return step
