"""Reads a list of classes: names in the order of their ids, with or without colours, in the formats of common tools.

    name                        one class a line
    name R G B                  with its colour; R G B name likewise, as in CamVid's label_colors.txt
    name,R,G,B                  class_dict.csv, with or without the header 'name,r,g,b'
    name:R,G,B:parts:actions    CVAT's labelmap.txt
    0 name   or   name 0        with its id; ids must be 0, 1, 2, ... in this order

Lines that begin with # are comments; blank lines do not count. Numbers that alone tell names apart, as of 'zone 1' and
'zone 2', are part of the names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.dataset import IGNORE
from pipeline.core.errors import DataError
from pipeline.data.decode import Colour
from pipeline.data.images import read_list

LAYOUT = "one class a line, 'name' or 'name R G B', in the order of the ids"
HEADER_WORDS = {
    "name",
    "names",
    "class",
    "classes",
    "class_name",
    "classname",
    "label",
    "labels",
    "category",
    "id",
    "index",
    "value",
    "color",
    "colour",
    "color_rgb",
    "rgb",
    "r",
    "g",
    "b",
    "red",
    "green",
    "blue",
    "parts",
    "actions",
}
FORMS = (
    re.compile(r"(?P<name>[^:]*[^:\s])\s*:\s*(?P<rgb>(\d+\s*,\s*\d+\s*,\s*\d+)?)\s*:[^:]*(:[^:]*)?"),
    re.compile(r"(?P<name>[^,;\t]*[^,;\s])\s*[,;\t]\s*(?P<rgb>\d+\s*[,;\t]\s*\d+\s*[,;\t]\s*\d+)\s*[,;]?"),
    re.compile(r"(?P<name>.*\S)\s+(?P<rgb>\d+\s+\d+\s+\d+)"),
    re.compile(r"(?P<rgb>\d+[\s,;]+\d+[\s,;]+\d+)[\s,;]+(?P<name>[^\d\s,:;\[\]{}][^,:;\t\[\]{}]*)"),
    re.compile(r"(?P<name>[^,:;\t\[\]{}]+)(?P<rgb>)"),
)
"""labelmap.txt, class_dict.csv, 'name R G B', 'R G B name', and a name alone."""
ID_FIRST = re.compile(r"(?P<id>\d+)\s*[\s,:;=]\s*(?P<rest>\D.*)")
ID_LAST = re.compile(r"(?P<rest>\D*[^\s\d,:;=])\s*[\s,:;=]\s*(?P<id>\d+)")
LONGEST_NAME = 200
LONGEST_LINE = 2000
"""Longer ones are no classes, and the patterns above take too long on them."""


def read_classes(path: Path) -> tuple[tuple[str, ...], tuple[Colour | None, ...]]:
    """(names, colours), None for a class without a colour; raises DataError naming a line that is not a class."""
    lines = read_list(path, "class list", LAYOUT, comment="#")
    if (longest := max(map(len, lines), default=0)) > LONGEST_LINE:
        raise DataError(
            f"class list {path} has a line of {longest} characters, which is not a class: expected {LAYOUT}."
        )
    if lines and _is_header(lines[0]):
        lines = lines[1:]
    if len(lines) > IGNORE:  # at once: the names below are compared with each other
        check_count(len(lines), path)
    names, colours = [], list[Colour | None]()
    for line in _without_ids(lines, path):
        name, colour = _class_of(line, path)
        if name in names:
            raise DataError(f"class list {path} lists {name!r} twice: remove one of them.")
        names.append(name)
        colours.append(colour)
    check_count(len(names), path)
    known = [rgb for rgb in colours if rgb is not None]
    if len(set(known)) < len(known):
        shared = next(rgb for rgb in known if known.count(rgb) > 1)
        sharing = [name for name, rgb in zip(names, colours, strict=True) if rgb == shared]
        raise DataError(f"class list {path} gives {' and '.join(map(repr, sharing))} one colour, {shared}: change one.")
    return tuple(names), tuple(colours)


def check_count(classes: int, path: Path) -> None:
    """Raises DataError for a number of classes that no dataset has."""
    if not 2 <= classes <= IGNORE:
        raise DataError(f"class list {path} holds {classes} class(es): a dataset has 2 to {IGNORE}; correct it.")


def _is_header(line: str) -> bool:
    """Whether the line holds only column names, two or more: 'label' alone may be a class."""
    words = [word for word in re.split(r"[\s,;:]+", line.lower()) if word]
    return len(words) > 1 and all(word in HEADER_WORDS for word in words)


def _without_ids(lines: Sequence[str], path: Path) -> list[str]:
    """The lines without their ids, if all begin or all end with one; raises DataError for ids out of order.

    Numbers that alone tell names apart, as of 'zone 1' and 'zone 2', are part of the names.
    """
    for form in (ID_FIRST, ID_LAST):
        matches = [form.fullmatch(line) for line in lines]
        if not matches or not all(matches):
            continue
        if form is ID_LAST and len({match["rest"] for match in matches if match}) < len(lines):
            break
        for place, match in enumerate(matches):
            if match is not None and int(match["id"]) != place:
                raise DataError(
                    f"class list {path} gives {match['rest']!r} the id {match['id']}, but it is at place {place}:"
                    " put the classes in the order of their ids, from 0 on."
                )
        return [match["rest"] for match in matches if match is not None]
    return list(lines)


def _class_of(line: str, path: Path) -> tuple[str, Colour | None]:
    match = next((match for form in FORMS if (match := form.fullmatch(line))), None)
    if match is None or len(match["name"]) > LONGEST_NAME or match["name"].lower() in ("name", "names", "classes"):
        raise DataError(
            f"class list {path} has the line {line[:60]!r}, which is not a class: expected {LAYOUT}; remove headers,"
            " and begin comments with #."
        )
    numbers = [int(n) for n in re.findall(r"\d+", match["rgb"])]
    if not numbers:
        return match["name"].strip(), None
    colour = (numbers[0], numbers[1], numbers[2])
    if max(colour) > 255:
        raise DataError(
            f"class list {path} gives {match['name']!r} the colour {colour}: red, green and blue are 0 to 255."
        )
    return match["name"].strip(), colour
