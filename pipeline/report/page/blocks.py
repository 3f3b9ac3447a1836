"""What a report is made of, the same for HTML and Markdown. All text is plain: the templates escape it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

Basis = Literal["measured", "counted", "estimated", ""]
"""How the figures of a column came about; '' for words."""


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
      numbers: its cells stand on the right.
    """

    title: str
    basis: Basis = ""
    numbers: bool = False


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
      heat: 0 to 1, how strongly its background is coloured; None: not at all.
      mark: 'good' or 'bad' where the text says so; the text says it without the colour, too.
    """

    text: str
    heat: float | None = None
    mark: Literal["good", "bad", ""] = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is the row's heading.

    Attributes:
      caption: what it shows.
      source: machine, runtime and data that the figures are of.
      folded: it is shown when it is asked for.
      in_markdown: whether it is in the Markdown, too, where GitHub takes 65,536 characters.
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    source: str = ""
    folded: bool = False
    in_markdown: bool = True

    @property
    def numbers(self) -> tuple[bool, ...]:
        return tuple(column.numbers for column in self.columns)


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart, and its figures as a table.

    Attributes:
      title, description: for those who do not see it.
      draw: () → its SVG for a page and for a phone.
    """

    title: str
    description: str
    draw: Callable[[], tuple[str, str]]
    table: Table


@dataclasses.dataclass(frozen=True)
class Paragraphs:
    """Sentences, each a paragraph.

    Attributes:
      kind: 'lead' for what matters most, 'notes' for a list of what a reader must know.
    """

    texts: tuple[str, ...]
    kind: Literal["lead", "plain", "notes"] = "plain"


@dataclasses.dataclass(frozen=True)
class Missing:
    """What the run does not hold, and the command that adds it."""

    what: str
    command: str


@dataclasses.dataclass(frozen=True)
class Layer:
    """One picture of an image.

    Attributes:
      data_url: the picture itself.
      kind: 'image', 'mask' or 'differences'.
    """

    title: str
    data_url: str
    kind: Literal["image", "mask", "differences"]
    alternative: str


@dataclasses.dataclass(frozen=True)
class ShownPicture:
    """An image with its label and masks.

    Attributes:
      reasons: why it is here.
      caption: its scores.
      first: shown at once, and not when it is asked for.
    """

    name: str
    reasons: tuple[str, ...]
    caption: str
    layers: tuple[Layer, ...]
    width: int
    height: int
    first: bool


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Images of one run.

    Attributes:
      legend: each class and its colour, '#rrggbb'; ``differences``: the same of the picture of the differences.
    """

    title: str
    legend: tuple[tuple[str, str], ...]
    differences: tuple[tuple[str, str], ...]
    pictures: tuple[ShownPicture, ...]
    source: str


Block = Table | Chart | Paragraphs | Missing | Pictures


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
      anchor: its address in the page.
    """

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclasses.dataclass(frozen=True)
class Page:
    """The whole report.

    Attributes:
      subtitle: what it was made of, and when.
    """

    title: str
    subtitle: str
    sections: tuple[Section, ...]


def words(*texts: str) -> tuple[Cell, ...]:
    return tuple(map(Cell, texts))


def columns(*titles: str | tuple[str, Basis]) -> tuple[Column, ...]:
    """A column for each title; one with a basis holds numbers."""
    return tuple(Column(title) if isinstance(title, str) else Column(title[0], title[1], True) for title in titles)


def joined(texts: Sequence[str]) -> str:
    """'a, b and c'."""
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
