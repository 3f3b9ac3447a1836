"""JSON files that may come from a stranger: bounded before they are parsed, and plain data afterwards.

All JSON files that this program reads pass through here. ``from_json`` then makes the nouns of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pipeline.core.errors import SegquantError
from pipeline.core.files import read_regular

Noun = TypeVar("Noun")
MOST_BYTES = 48 << 20
"""Of one file. The smallest JSON values take 25 times as much memory as text; a measurement of an hour has 10 MiB."""
DEEPEST = 64
"""Lists and objects inside each other; our own files have eight."""
LARGEST = 2**128
"""Of whole numbers: a count of a broken .tflite file may pass 64 bits."""


class BadJson(ValueError):
    """What is wrong with a JSON file, as the rest of a sentence that names the file."""


def parse(text: bytes | str, most_bytes: int = MOST_BYTES) -> Any:
    """The value of a JSON text, without its pitfalls; raises BadJson.

    Refused are a text of more than ``most_bytes``, a key that occurs twice, numbers that are not finite or beyond
    LARGEST, and nesting beyond DEEPEST.
    """
    if len(text) > most_bytes:
        raise BadJson(f"it has {len(text) >> 20} MiB; {most_bytes >> 20} MiB are allowed")
    try:
        data = json.loads(
            text if isinstance(text, str) else text.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant
        )
    except RecursionError:
        raise BadJson(f"it is nested more than {DEEPEST} levels deep") from None
    except UnicodeDecodeError:
        raise BadJson("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise BadJson(f"it is not JSON: {error}") from None
    except BadJson:
        raise
    except ValueError:  # Python refuses to read a number of more than 4300 digits
        raise BadJson("it has a number that is too large") from None
    _check_values(data)
    return data


def load(path: Path, most_bytes: int = MOST_BYTES) -> Any:
    """The value of a JSON file; raises BadJson, also for a file that cannot be read, is not regular or too large."""
    try:
        return parse(read_regular(path, most_bytes), most_bytes)
    except OSError as error:
        why = error.strerror or str(error)
        raise BadJson(why if why.startswith("it ") else f"it cannot be read: {why}") from None
    except BadJson:
        raise
    except ValueError as error:  # a NUL in the path
        raise BadJson(str(error)) from None


def load_object(path: Path) -> dict[str, Any]:
    """As ``load``, of a file that holds an object."""
    return load_as(path, as_object)


def as_object(data: Any) -> dict[str, Any]:
    """Raises BadJson for another kind of value."""
    if not isinstance(data, dict):
        raise BadJson(f"it is {type(data).__name__}, not an object")
    return data


def load_as(path: Path, make: Callable[[Any], Noun]) -> Noun:
    """What ``make`` makes of a JSON file's value; raises BadJson for a value that it refuses."""
    return made(load(path), make)


def made(data: Any, make: Callable[[Any], Noun]) -> Noun:
    """What ``make`` makes of ``data``; raises BadJson where it raises the errors of unfit data."""
    try:
        return make(data)
    except BadJson:
        raise
    except SegquantError as error:
        raise BadJson(error.message.rstrip(".")) from None
    except KeyError as error:
        raise BadJson(f"it has no {error}") from None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise BadJson(str(error) or type(error).__name__) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        seen = set[str]()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadJson(f"it has the key {twice[:40]!r} twice in one object")
    return data


def _constant(name: str) -> float:
    raise BadJson(f"it has the number {name}")


def _check_values(data: Any) -> None:
    """Level by level, as a recursion could be driven as deep as the text is long."""
    level, depth = [data], 0
    while level:
        if depth > DEEPEST:
            raise BadJson(f"it is nested more than {DEEPEST} levels deep")
        deeper: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                deeper.extend(value.values())
            elif isinstance(value, list):
                deeper.extend(value)
            elif isinstance(value, float):
                if not math.isfinite(value):  # 1e999
                    raise BadJson("it has a number that is too large")
            elif isinstance(value, int) and abs(value) > LARGEST:
                raise BadJson("it has a number that is too large")
        level, depth = deeper, depth + 1
