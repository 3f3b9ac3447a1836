"""Charts as SVG by matplotlib: text stays text, and colours are the page's own, in light and in dark.

Each is drawn twice, for a page and for a phone: one that is only made smaller cannot be read.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from pipeline.core.printable import printable

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
INK, MUTED, LINE = "#010101", "#020202", "#030303"
SERIES = ("#040404", "#050505", "#060606", "#070707", "#080808", "#090909")
"""Stand for the page's colours, which CSS decides: see VARIABLES."""
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    **{colour: f"--series-{n}" for n, colour in enumerate(SERIES)},
}
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1)), (0, (1, 1)))
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "segquant",
    "text.parse_math": False,  # a class may be called $x$
    "font.size": 9.5,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": INK,
}
WIDE, NARROW = 7.6, 3.6
"""Inches; a phone's 390 pixels leave room for 358, of which 72 make an inch of ours."""
FARTHEST = 1e38
"""Of a coordinate; beyond some 1e308 matplotlib's own sums are infinite."""
LONGEST_LABEL = 28
HALF_A_PHONE = 16
"""Characters that fit beside as many others in a phone's legend."""
LEGEND_ROW = 0.2
"""Inches."""
APART = 0.5
"""Of a row, over which its marks are spread, so that none hides another of the same value."""
_drawn = itertools.count()


@dataclasses.dataclass(frozen=True)
class Series:
    """One value per place; None where there is none. ``hollow``: what the others are compared with."""

    title: str
    values: tuple[float | None, ...]
    hollow: bool = False


@dataclasses.dataclass(frozen=True)
class Curve:
    title: str
    points: tuple[tuple[float, float], ...]


@dataclasses.dataclass(frozen=True)
class Point:
    title: str
    x: float
    y: float
    kind: int
    hollow: bool = False


@dataclasses.dataclass(frozen=True)
class Bar:
    """A horizontal bar from ``low`` to ``high``."""

    title: str
    low: float
    high: float


def _drawn_at(value: float) -> float:
    """A coordinate that a chart can have: what a stranger's file says may be more, or no number once it is added."""
    return value if -FARTHEST < value < FARTHEST else math.copysign(FARTHEST, value)


def _look(number: int) -> tuple[str, str]:
    """A colour and a marker; 36 pairs before one comes again."""
    rounds, place = divmod(number, len(SERIES))
    return SERIES[place], MARKERS[(place + rounds) % len(MARKERS)]


def short(text: str) -> str:
    return printable(text, LONGEST_LABEL)


def dot_plot(places: Sequence[str], series: Sequence[Series], unit: str, from_zero: bool = False) -> tuple[str, str]:
    """A row for each place, a mark for each series. Returns the wide and the narrow SVG, as all charts do.

    ``from_zero``: values are differences, drawn from a line at 0.
    """

    def draw(axes: Axes, narrow: bool) -> None:
        rows = range(len(places))
        for row in rows:
            known = [value for each in series if (value := each.values[row]) is not None]
            known += [0.0] * from_zero
            if known:
                axes.hlines(row, min(known), max(known), color=MUTED, linewidth=1.2, zorder=1)
        for number, each in enumerate(series):
            points = [(value, row) for row, value in enumerate(each.values) if value is not None]
            colour, marker = _look(number)
            axes.scatter(
                [value for value, _ in points],
                [row + APART * (number - (len(series) - 1) / 2) / len(series) for _, row in points],
                s=42 if each.hollow else 30,
                marker=marker,
                facecolors="none" if each.hollow else colour,
                edgecolors=colour,
                linewidths=1.5,
                label=short(each.title),
                zorder=2,
            )
        if from_zero:
            axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.set_yticks(list(rows), [short(place) for place in places])
        axes.invert_yaxis()
        axes.set_xlabel(unit)
        axes.grid(axis="x")

    return _both(draw, 0.9 + 0.25 * len(places), [each.title for each in series])


def curves(lines: Sequence[Curve], unit: str, across: str) -> tuple[str, str]:
    def draw(axes: Axes, narrow: bool) -> None:
        for number, line in enumerate(lines):
            axes.plot(
                [_drawn_at(x) for x, _ in line.points],
                [_drawn_at(y) for _, y in line.points],
                color=SERIES[number % len(SERIES)],
                linestyle=DASHES[number % len(DASHES)],
                marker=MARKERS[number % len(MARKERS)],
                markersize=4,
                linewidth=1.6,
                label=short(line.title),
            )
        axes.set_xlabel(across)
        axes.set_ylabel(unit)
        axes.grid()

    return _both(draw, 3.0, [line.title for line in lines])


def scatter(points: Sequence[Point], across: str, unit: str) -> tuple[str, str]:
    """Points of one ``kind`` look alike, but for those that are hollow."""

    def draw(axes: Axes, narrow: bool) -> None:
        for point in points:
            colour, marker = _look(point.kind)
            axes.scatter(
                [_drawn_at(point.x)],
                [_drawn_at(point.y)],
                s=60,
                marker=marker,
                facecolors="none" if point.hollow else colour,
                edgecolors=colour,
                linewidths=1.6,
                label=short(point.title),
            )
        axes.margins(0.15)
        axes.set_xlim(left=0)
        axes.set_xlabel(across)
        axes.set_ylabel(unit)
        axes.grid()

    return _both(draw, 3.4, [point.title for point in points])


def bars(rows: Sequence[Bar], unit: str, symmetric_log: bool = False) -> tuple[str, str]:
    def draw(axes: Axes, narrow: bool) -> None:
        axes.barh(
            range(len(rows)),
            [_drawn_at(row.high) - _drawn_at(row.low) for row in rows],
            left=[_drawn_at(row.low) for row in rows],
            height=0.62,
            color=SERIES[1],
        )
        axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.set_yticks(range(len(rows)), [short(row.title) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        if symmetric_log:
            axes.set_xscale("symlog", linthresh=1)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))  # its own is in math
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(unit)
        axes.grid(axis="x")

    return _both(draw, 0.7 + 0.19 * len(rows))


def _both(draw: Callable[[Axes, bool], None], height: float, entries: Sequence[str] = ()) -> tuple[str, str]:
    """``height``: inches, with up to two rows of legend; ``entries``: of the legend, where there is one."""
    return _drawn_as(draw, WIDE, height, False, entries), _drawn_as(draw, NARROW, height, True, entries)


def _drawn_as(
    draw: Callable[[Axes, bool], None], width: float, height: float, narrow: bool, entries: Sequence[str]
) -> str:
    columns = 1 if narrow and max(map(len, entries), default=0) > HALF_A_PHONE else 2
    height += LEGEND_ROW * max(0, -(-len(entries) // columns) - 2)
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # Of characters that its font lacks, as of Japanese names: the reader's own font has them.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot(), narrow)
        if entries:
            figure.legend(loc="outside upper left", ncols=columns, handletextpad=0.4, columnspacing=1.2, borderpad=0)
        file = io.BytesIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inlined(file.getvalue(), f"chart{next(_drawn)}-")


def _inlined(data: bytes, prefix: str) -> str:
    """The SVG without its head, with the page's colours and font, and with ids of its own."""
    for name, address in (("", SVG), ("xlink", XLINK)):
        ElementTree.register_namespace(name, address)
    root = ElementTree.fromstring(data)
    for metadata in root.findall(f"{{{SVG}}}metadata"):
        root.remove(metadata)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.set("aria-hidden", "true")  # the figure around it says what it shows
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == "id":
                element.set(name, prefix + value)
            elif name == f"{{{XLINK}}}href":
                element.set(name, value.replace("#", f"#{prefix}", 1))
            else:
                element.set(name, _styled(value.replace("url(#", f"url(#{prefix}")))
    return ElementTree.tostring(root, encoding="unicode")


def _styled(value: str) -> str:
    value = re.sub(r"(font(?:-family)?:[^;]*?)'DejaVu Sans'[^;]*", r"\1system-ui, sans-serif", value)
    return re.sub(r"#0[1-9]0[1-9]0[1-9]\b", lambda match: f"var({VARIABLES[match.group()]})", value)
