"""Options of which one makes another meaningless: giving both is an error, not silence."""

from __future__ import annotations

import click
from click.core import ParameterSource

from pipeline.cli.configuration import Defaults
from pipeline.core.errors import BadSpec


def given(name: str) -> bool:
    """Whether the parameter was typed, or stands with another value than the default in the command's own section.

    A key above the sections is for all commands, and a section that a run keeps has the defaults, too.
    """
    ctx = click.get_current_context()
    if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT_MAP:
        return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    return not _for_all(ctx, name) and ctx.params[name] != _parameter(ctx, name).default


def no_effect(beside: str, *names: str) -> None:
    """Raises BadSpec where one of these parameters is given, though it has no effect beside ``beside``.

    ``beside``: what was given, such as '--weights float'. One that a key for all commands sets is forgotten.
    """
    ctx = click.get_current_context()
    for name in names:
        if given(name):
            option = max(_parameter(ctx, name).opts, key=len)
            raise BadSpec(f"{option} has no effect with {beside}: leave {option} out.")
        if _for_all(ctx, name):
            ctx.params.pop(name, None)  # else the run would keep it beside the other


def _for_all(ctx: click.Context, name: str) -> bool:
    return isinstance(ctx.default_map, Defaults) and name in ctx.default_map.for_all


def _parameter(ctx: click.Context, name: str) -> click.Parameter:
    return next(parameter for parameter in ctx.command.params if parameter.name == name)
