"""The ranges of the activations, and how many values reach their ends."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from pipeline.core.agreement import Agreement, LayerAgreement
from pipeline.core.graph import Graph
from pipeline.core.ranges import Range, Ranges
from pipeline.core.recipe import Origin
from pipeline.measure.profile import layer_of
from pipeline.report.page.blocks import Block, Chart, Column, Missing, Paragraphs, Section, Table, words
from pipeline.report.page.charts import Bar, bars
from pipeline.report.page.evidence import Evidence, Shipped
from pipeline.report.page.numbers import NONE, fixed, several

RANGES = (
    Column("layer"),
    Column("low", "measured", True),
    Column("high", "measured", True),
    Column("scale", "counted", True),
    Column("zero point", "counted", True),
)
MOST_LAYERS = 400
"""More than a network here has; a chart of more cannot be read."""
UNEVEN = 10.0
"""Times the median range from which on the widest needs a logarithmic axis, or the others are not seen."""
SATURATION = Column("at an end of the range, %", "measured", True)


def calibrated(runs: Sequence[Evidence]) -> Section:
    blocks: list[Block] = []
    for run in runs:
        of_run = _newest_of_each_ranges(run)
        for shipped in of_run:
            blocks += _of_file(run, shipped, len(runs) > 1)
        if not of_run:
            blocks.append(Missing(f"{run.label} has no int8 file", run.command("convert", "--target", "cpu")))
    return Section("ranges", "Calibration ranges and saturation", tuple(blocks))


def _newest_of_each_ranges(run: Evidence) -> list[Shipped]:
    """Files of several targets mostly share their ranges: each set once, of a file that was compared where there is."""
    newest: dict[str, Shipped] = {}
    for shipped in sorted(run.artifacts, key=lambda each: each.artifact.sha256 not in run.agreements):
        if shipped.artifact.recipe.ranges:
            newest.setdefault(repr(shipped.artifact.recipe.ranges), shipped)
    return list(newest.values())


def _of_file(run: Evidence, shipped: Shipped, several: bool) -> Iterator[Block]:
    recipe = shipped.artifact.recipe
    name = f"{run.label}: {shipped.name}" if several else shipped.name
    assert recipe.ranges is not None
    agreement = run.agreements.get(shipped.artifact.sha256)
    saturated = {layer.layer: layer for layer in agreement.layers} if agreement else {}
    heads = (*RANGES, SATURATION) if agreement else RANGES
    known = dict(list(recipe.ranges.items())[:MOST_LAYERS])
    ranges = _in_order(known, shipped.graph)
    rows = tuple(
        words(layer, *_range(r), *(_ends(saturated.get(layer)) if agreement else ())) for layer, r in ranges.items()
    )
    widths = sorted(r.high - r.low for r in ranges.values())
    uneven = widths[-1] > UNEVEN * widths[len(widths) // 2]
    unit = "real values, linear from −1 to 1, logarithmic beyond" if uneven else "real values"
    draw = functools.partial(bars, [Bar(layer, r.low, r.high) for layer, r in ranges.items()], unit, uneven)
    yield Chart(
        f"{name}: the range of each layer",
        f"{len(rows)} {'' if len(rows) == len(recipe.ranges) else f'of {len(recipe.ranges)} '}ranges of activations."
        " int8 cuts each into 255 steps: real = scale × (q − zero point).",
        draw,
        Table(
            f"{name}: the range of each layer",
            heads,
            rows,
            _how(recipe.origin),
            True,
        ),
    )
    if agreement is None:
        yield Missing(
            f"{name}: how many values reach the ends of their range is not known",
            run.command("agree", "--target", shipped.target),
        )
    else:
        yield Paragraphs(tuple(_most_saturated(agreement)))


def _how(origin: Origin | None) -> str:
    record = origin.calibration if origin else None
    if record is None:
        return "The file does not tell how its ranges were found."
    where = f"images of the {record.split} split" if record.split else "images of a folder"
    return (
        f"Calibrated by {record.method or 'an unknown method'} on {len(record.images)} {where}, chosen by"
        f" {record.selection or 'an unknown rule'}; with QAT these are the ranges that it ended with. Sha256 of the"
        f" images' names: {record.images_sha256}."
    )


def _in_order(ranges: Ranges, graph: Graph) -> dict[str, Range]:
    """From the network's input to its output, where the file's names tell; its recipe has them by name."""
    place = {layer_of(op, graph): op.index for op in reversed(graph.ops)}

    def of(layer: str) -> int:
        """A layer that the converter folded into another: with the first whose name begins alike."""
        stem = layer.rpartition("_")[0]
        alike = (index for name, index in place.items() if stem and name.startswith(stem))
        return place.get(layer, min(alike, default=len(graph.ops)))

    return dict(sorted(ranges.items(), key=lambda item: of(item[0])))


def _range(r: Range) -> tuple[str, ...]:
    return fixed(r.low, 4), fixed(r.high, 4), f"{r.scale:.6g}", str(r.zero_point)


def _ends(layer: LayerAgreement | None) -> tuple[str, ...]:
    return (NONE if layer is None or layer.saturated_percent is None else fixed(layer.saturated_percent, 3),)


def _most_saturated(agreement: Agreement) -> Iterator[str]:
    known = [layer for layer in agreement.layers if layer.saturated_percent is not None]
    if not known:
        yield "This comparison is of an earlier version, which did not count the values at the ends of the ranges."
        return
    worst = sorted((layer for layer in known if layer.saturated_percent), key=lambda x: -(x.saturated_percent or 0))[:5]
    on = f"Measured on {several(agreement.images, 'validation image')}, {agreement.kernels}."
    if not worst:
        yield f"No value lies at an end of its range. {on}"
        return
    listed = ", ".join(f"{layer.layer} {fixed(layer.saturated_percent, 3)} %" for layer in worst)
    yield f"Most values at an end of their range, where they were cut off or lie exactly there: {listed}. {on}"
