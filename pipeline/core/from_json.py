"""Frozen nouns from the JSON that ``dataclasses.asdict`` made of them."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union

Noun = TypeVar("Noun")


def from_json(noun: type[Noun], data: object, exact: bool = False, name: str = "") -> Noun:
    """The noun that ``data`` is the JSON of; its fields decide the types.

    What an earlier version did not write takes the field's default. What this one does not know is passed over, or
    refused with ``exact``, where an unknown key may change what the others mean.
    Raises TypeError, ValueError and KeyError, which name the field, for what is no such noun. ``name``: what messages
    call ``data``; the noun's own name where it is not given.
    """
    name = name or noun.__name__
    if not isinstance(data, Mapping):
        raise TypeError(f"{name} is {type(data).__name__}, not an object")
    hints = _hints(noun)  # type: ignore[arg-type]
    if exact and (unknown := sorted(set(data) - {field.name for field in dataclasses.fields(noun)})):  # type: ignore[arg-type]
        raise ValueError(f"{name} has the unknown key {', '.join(map(str, unknown))}")
    values = {
        field.name: _value(hints[field.name], data[field.name], f"{name}.{field.name}", exact)
        for field in dataclasses.fields(noun)  # type: ignore[arg-type]
        if field.name in data or _required(field)
    }
    return noun(**values)


@functools.cache
def _hints(noun: type) -> dict[str, Any]:
    """Evaluating them takes longer than all the rest, and a measurement has thousands of small nouns."""
    return typing.get_type_hints(noun)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value(kind: Any, value: Any, name: str, exact: bool = False) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        (kind,) = (each for each in inner if each is not type(None))
        return _value(kind, value, name, exact)
    if origin is Literal:
        if value not in inner:
            raise TypeError(f"{name} is {str(value)[:40]!r}, not one of {', '.join(map(str, inner))}")
        return value
    if origin is tuple:
        return _tuple(inner, value, name, exact)
    if origin is dict or (isinstance(origin, type) and issubclass(origin, Mapping)):
        _check(dict, value, name)
        key_kind, value_kind = inner
        return {key_kind(k): _value(value_kind, each, f"{name}[{k[:40]}]", exact) for k, each in value.items()}
    if dataclasses.is_dataclass(kind):
        return from_json(kind, value, exact, name)  # type: ignore[arg-type]
    _check(kind, value, name)
    return _finite(value, name) if kind is float else value


def _finite(value: float, name: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} is not a finite number")
    return number


def _tuple(inner: tuple[Any, ...], value: Any, name: str, exact: bool) -> tuple[Any, ...]:
    _check(list, value, name)
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(_value(inner[0], each, f"{name}[{i}]", exact) for i, each in enumerate(value))
    if len(inner) != len(value):
        raise TypeError(f"{name} has {len(value)} entries, not {len(inner)}")
    return tuple(
        _value(kind, each, f"{name}[{i}]", exact) for i, (kind, each) in enumerate(zip(inner, value, strict=True))
    )


def _check(kind: type, value: object, name: str) -> None:
    """True is no number here, and a whole number is a float."""
    fits = isinstance(value, int | float if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name} is {type(value).__name__}, not {kind.__name__}")
