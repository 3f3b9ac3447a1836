"""A YAML file that says what would be typed: ``--config FILE`` for every command, and for `run`, which takes them all.

    run: runs/phone            what several commands take, once for all of them
    data: folder:photos
    train:                     a section for each command: its options by their long names
      steps: 4000
    convert:                   or a list of sections, which `run` goes through in turn
      - target: cpu
      - target: edgetpu

What is typed on the command line goes first. Values pass the options' own checks, as typed ones do.
"""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from pipeline.core.errors import BadSpec, UnknownName, nearest
from pipeline.core.files import may_name, unreadable, write_atomically
from pipeline.core.printable import LONGEST_NAME, printable, well_formed
from pipeline.core.run import Run

COMMON = ("run", "model", "data", "size", "seed", "alpha", "resize", "batch-norm", "target", "device")
"""Keys that may stand above the sections: they mean the same in every command that has them, but for OTHERWISE."""
OTHERWISE = (("predict", "model"),)
"""Commands with an option of that name that means something else: `predict --model` is a file, not a network."""
UNREADABLE = {UnicodeDecodeError: "it is not UTF-8", RecursionError: "it is nested too deeply"}
MOST_BYTES = 1 << 17
LONGEST_NUMBER = 64
"""In characters. Python writes out no whole number of thousands of digits, which a hexadecimal one can be."""
MOST_MERGED = 100_000
"""Keys of all mappings, with those that `<<` takes over: with aliases a few lines stand for billions."""
USED = "segquant.configuration"
"""Where a command's context keeps the file that it was configured by."""
Scalar = str | int | float | bool
KINDS = {"true or false": bool, "whole number": int, "number": float, "text": str, "mapping": dict, "list": list}
"""What messages call the values of a file."""


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What the file says.

    Attributes:
      common: option → value, for all commands.
      sections: command → one mapping of option → value for each time that `run` is to call it.
    """

    path: Path
    common: Mapping[str, Any]
    sections: Mapping[str, tuple[Mapping[str, Any], ...]]


def read(path: Path, names: Sequence[str], load: Callable[[str], click.Command]) -> Configuration:
    """``names``: of all commands; ``load``: one of them by its name.

    Raises BadSpec for what is no such file, and UnknownName for a key that no command has.
    """
    content = _load(path)
    common, sections = {}, {}
    for key, value in content.items():
        if key in COMMON:
            common[key] = value
        elif key in names:
            sections[key] = tuple(_section(path, key, load(key), each) for each in _entries(path, key, value))
        elif having := [name for name in names if key in options_of(load(name))]:
            near = nearest(key, COMMON)
            raise BadSpec(
                f"{path}: {key!r} cannot stand above the sections: put it into the section of a command that has this"
                f" option ({', '.join(having)})" + (f"; or did you mean {near!r}?" if near is not None else ".")
            )
        else:
            raise UnknownName(f"key of {path}", key, {*COMMON, *names})
    for command in map(load, sections):
        _check_common(path, command, common)
    return Configuration(path, common, sections)


def _check_common(path: Path, command: click.Command, common: Mapping[str, Any]) -> None:
    for key, parameter in _common_options(command).items():
        if key in common:
            _check(path, key, parameter, common[key])


def _load(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML

    if (why := unreadable(path)) is not None:
        raise BadSpec(f"--config {path} {why}: name a YAML file.")
    if path.stat().st_size > MOST_BYTES:
        raise BadSpec(f"--config {path} is larger than 128 KiB: it is no configuration.")
    try:
        yaml = YAML(typ="safe", pure=True)
        yaml.Constructor = _as_written()
        content = yaml.load(path.read_text("utf-8"))
    except Exception as error:  # not only YAML's: its constructors of tags raise whatever a value leads to
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        words = getattr(error, "problem", None) or UNREADABLE.get(type(error), "a value is not what its tag says")
        raise BadSpec(f"--config {path}{where}: {printable(str(words), LONGEST_NAME)}. It must be YAML.") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise BadSpec(f"--config {path} holds no mapping: write lines like 'data: folder:photos'.")
    return content


class Whole(int):
    """A whole number, and how the file writes it: '007' is a version, and 7 is not."""

    written: str


class Real(float):
    """A number, and how the file writes it: '1.10' is a version, '0016E5' begins the names of images."""

    written: str


@functools.cache
def _as_written() -> type[Any]:
    """Reads YAML's plain data, numbers with the text that stands in the file, and dates as text."""
    from ruamel.yaml.constructor import ConstructorError, SafeConstructor
    from ruamel.yaml.nodes import MappingNode, ScalarNode

    class AsWritten(SafeConstructor):
        merged = 0

        def flatten_mapping(self, node: Any) -> None:
            """Puts what `<<` names into a mapping; called for what it names as well, each time, before it is taken."""
            super().flatten_mapping(node)
            self.merged += len(node.value)
            if self.merged > MOST_MERGED:
                raise ConstructorError(None, None, f"more than {MOST_MERGED} keys with those of `<<`", node.start_mark)

        def number(self, node: Any) -> Whole | Real:
            if len(node.value) > LONGEST_NUMBER:
                raise ConstructorError(None, None, f"a number of {len(node.value)} characters", node.start_mark)
            if node.tag.endswith(":int"):
                value: Whole | Real = Whole(self.construct_yaml_int(node))
            else:
                value = Real(self.construct_yaml_float(node))
            value.written = node.value
            return value

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            for key, _ in node.value if isinstance(node, MappingNode) else ():
                if not isinstance(key, ScalarNode):
                    raise ConstructorError(problem="a key is no word", problem_mark=key.start_mark)
            return super().construct_mapping(node, deep)

        def text(self, node: Any) -> str:
            return str(node.value)

    for kind, construct in (("int", AsWritten.number), ("float", AsWritten.number), ("timestamp", AsWritten.text)):
        AsWritten.add_constructor(f"tag:yaml.org,2002:{kind}", construct)
    return AsWritten


def _entries(path: Path, command: str, value: Any) -> list[dict[str, Any]]:
    entries = value if isinstance(value, list) else [{} if value is None else value]
    if not entries or not all(isinstance(e, dict) and all(isinstance(k, str) for k in e) for e in entries):
        raise BadSpec(f"--config {path}: the section {command!r} must hold options, or be a list of such sections.")
    return entries


def _section(path: Path, name: str, command: click.Command, entry: Mapping[str, Any]) -> dict[str, Any]:
    options = options_of(command)
    for key, value in entry.items():
        if key not in options:
            raise UnknownName(f"option of {name} in {path}", key, options)
        _check(path, f"{name}: {key}", options[key], value)
    return dict(entry)


def options_of(command: click.Command) -> dict[str, click.Parameter]:
    """By the names that a configuration has for them: long options without dashes, arguments by their own."""
    named = {}
    for parameter in command.params:
        if not parameter.expose_value:  # --config, --help, --quiet and --verbose
            continue
        long = [opt for opt in parameter.opts if opt.startswith("--")]
        named[long[0].removeprefix("--") if long else str(parameter.name)] = parameter
    return named


def _common_options(command: click.Command) -> dict[str, click.Parameter]:
    """Those that a key above the sections gives."""
    named = options_of(command).items()
    return {key: option for key, option in named if key in COMMON and (command.name, key) not in OTHERWISE}


def _check(path: Path, key: str, parameter: click.Parameter, value: Any) -> None:
    """Raises BadSpec where the value has not the type of the option."""
    if value is None:
        return
    values = value if isinstance(value, list) else [value]
    wanted = _wanted(parameter)
    if isinstance(value, list) and not parameter.multiple:
        raise BadSpec(f"{path}: {key} takes one value, not a list.")
    for each in values:
        if isinstance(each, str) and not may_name(each):
            shown = printable(each, LONGEST_NAME)
            raise BadSpec(f"{path}: {key} is '{shown}': no name has a NUL or half of a surrogate pair: remove it.")
        if not _fits(each, wanted):
            # A list or a mapping is not written out: with YAML's aliases a few lines stand for billions of values.
            shown = f"{printable(str(each), LONGEST_NAME)!r} " if isinstance(each, Scalar) else ""
            kind = next((name for name, known in KINDS.items() if isinstance(each, known)), type(each).__name__)
            raise BadSpec(f"{path}: {key} is {shown}({kind}): it takes {wanted}.")


def _wanted(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return "true or false"
    if isinstance(parameter.type, click.types.IntParamType):
        return "a whole number"
    return "a number" if isinstance(parameter.type, click.types.FloatParamType) else "text"


def _fits(value: Any, wanted: str) -> bool:
    if wanted == "true or false" or isinstance(value, bool):
        return wanted == "true or false" and isinstance(value, bool)
    if wanted == "a whole number":
        return isinstance(value, int)
    if wanted == "a number":
        return isinstance(value, int | float)
    return isinstance(value, str | int | float)


class Defaults(dict[str, Any]):
    """Parameter → value, as click takes them for what is not typed.

    Attributes:
      for_all: the parameters whose value comes from a key above the sections, which is for all commands.
    """

    for_all: frozenset[str] = frozenset()


def defaults(configuration: Configuration, name: str, command: click.Command, entry: int = 0) -> Defaults:
    """What the file gives to a command, in its section of that number or to all."""
    sections = configuration.sections.get(name, ({},))
    common = {key: value for key, value in configuration.common.items() if key in _common_options(command)}
    options = {**common, **sections[entry]}
    parameters = options_of(command)
    values = Defaults(
        (str(parameters[key].name), _typed(parameters[key], value))
        for key, value in options.items()
        if key in parameters and value is not None
    )
    values.for_all = frozenset(str(parameters[key].name) for key in common if key not in sections[entry])
    return values


def _typed(parameter: click.Parameter, value: Any) -> Any:
    as_written = _wanted(parameter) == "text"
    if parameter.multiple:
        return [_text(each, as_written) for each in (value if isinstance(value, list) else [value])]
    return _text(value, as_written)


def _text(value: Scalar, as_written: bool) -> Scalar:
    """As it would be typed. ``as_written``: a number as the file has it, else as the option reads numbers."""
    if isinstance(value, bool):
        return value
    return value.written if as_written and isinstance(value, Whole | Real) else str(value)


def configure(ctx: click.Context, configuration: Configuration) -> None:
    """Lets the context's command take what is not typed from the file; raises BadSpec for several sections."""
    assert ctx.command.name is not None
    if (count := len(configuration.sections.get(ctx.command.name, ()))) > 1:
        raise BadSpec(
            f"--config {configuration.path} has {count} sections {ctx.command.name!r}: `run --config` goes through all"
            " of them; for this command alone leave one."
        )
    _check_common(configuration.path, ctx.command, configuration.common)  # which may have no section
    ctx.default_map = defaults(configuration, ctx.command.name, ctx.command)
    ctx.meta[USED] = configuration.path


def record(run: Run) -> None:
    """Writes what the command was called with, all of it, into the run, where a configuration file was given."""
    ctx = click.get_current_context(silent=True)
    if ctx is None or USED not in ctx.meta:
        return
    from ruamel.yaml import YAML

    yaml, text = YAML(), io.StringIO()
    yaml.default_flow_style = False
    yaml.dump({ctx.command.name: effective(ctx)}, text)
    head = f"# `{ctx.command.name}` was called with all of this: from {ctx.meta[USED]}, what was typed, and defaults.\n"
    write_atomically(run.configuration / f"{ctx.command.name}.yaml", well_formed(head + text.getvalue()).encode())


def effective(ctx: click.Context) -> dict[str, Any]:
    """Option → value of each that has one, as ``--config`` reads them."""
    return {
        key: _plain(value)
        for key, parameter in options_of(ctx.command).items()
        if (value := ctx.params.get(str(parameter.name))) not in (None, ())
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    return [str(each) for each in value] if isinstance(value, Iterable) and not isinstance(value, str) else str(value)
