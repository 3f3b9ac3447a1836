"""The commands: one file each, loaded when it is called. ``cli.py --help`` loads none of them."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import click

from pipeline.cli.group import Main
from pipeline.cli.options import CONFIG, loudness_options
from pipeline.core.command import as_called

VERSION = "0.1.dev0"
"""Of the package; the newest heading of CHANGELOG.md is for it."""
BUILT_ON = ("tensorflow", "tf_keras", "ai-edge-litert")

COMMANDS = {
    "check": "Check a dataset before it is trained on.",
    "train": "Train the float parent.",
    "qat": "Run quantization-aware training (QAT); train the float parent first where there is none.",
    "convert": "Convert to a .tflite file for one target, and check the file against the target's contract.",
    "calibrate": "Compare ways to calibrate: the estimator, the choice of images and their number.",
    "agree": "Show where the Keras network and the file made from it diverge, layer by layer.",
    "evaluate": "Score the float network in Keras, or an artifact in LiteRT, on labelled images.",
    "bench": "Measure an artifact beside its float parent: accuracy drop and latency, on one device or several.",
    "gate": "Let a measured artifact pass, or not: exit code 0 or 1.",
    "predict": "Draw the masks of an artifact over images, a video or a camera, at their own size.",
    "bundle": "Write a folder for an app team: the file, its labels, mask code, and programs that check themselves.",
    "inspect": "Show how a target runs any .tflite file, op by op: accelerated, left to the CPU, or refused.",
    "profile": "Show where an inference spends its time on this machine's CPU, op by op, and what the machine could"
    " attain.",
    "report": "Write a report of one or several runs in one file: accuracy, pictures, latency, coverage, origin.",
    "run": "Run the whole path that a configuration file describes.",
    "doctor": "Show whether each target and device is ready on this machine, and the command that makes it ready.",
    "list": "List the models, datasets, targets and devices.",
}
"""Command → the first line of its help; the file has the command's name (``list_`` for ``list``)."""


class Commands(Main):
    """Loads a command's file when the command is called or its own help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        file = f"{cmd_name}_" if cmd_name == "list" else cmd_name
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{file}"), file)
        if not any(parameter.name == CONFIG for parameter in command.params):
            command.params += [config_option(self), *loudness_options()]
            command.help = as_called(command.help or "")
        return command

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.help = as_called(self.help or "")
        super().format_help_text(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


def config_option(commands: Commands) -> click.Option:
    def load(name: str) -> click.Command:
        command = commands.get_command(click.get_current_context(), name)
        assert command is not None
        return command

    def take(ctx: click.Context, _: Any, value: str | None) -> None:
        if value is None or ctx.resilient_parsing:
            return
        from pipeline.cli import configuration

        config = configuration.read(Path(value), [name for name in COMMANDS if name != "run"], load)
        if ctx.command.name == "run":
            ctx.obj = config
        else:
            configuration.configure(ctx, config)

    words = "A file of options by their names, for those that are not typed: see docs/configuration.md."
    return click.Option(["--config"], metavar="FILE.yaml", is_eager=True, expose_value=False, callback=take, help=words)


def show_version(ctx: click.Context, _: Any, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    parts = [f"Python {platform.python_version()}"]
    for name in BUILT_ON:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # such as tensorflow-cpu, another name
            parts.append(f"{name} {importlib.metadata.version(name)}")
    click.echo(f"segquant {VERSION} ({', '.join(parts)})")
    ctx.exit()


@click.group(cls=Commands, params=loudness_options())
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Show the version, and those of Python and the frameworks.",
)
def main() -> None:
    """From a Keras segmentation network to a measured 8-bit file.

    Three commands make and measure one, on built-in images unless qat gets others with --data:

    \b
      python cli.py qat                       float training, then quantization-aware training
      python cli.py convert --target edgetpu  the int8 .tflite file, checked against its target
      python cli.py bench --device            accuracy drop and latency of that very file

    All of a network's files live in one run directory under runs/. Repeating a command resumes or reuses what exists.
    """
