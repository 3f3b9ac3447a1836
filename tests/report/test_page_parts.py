"""Parts of the report that need no run."""

import math
import re
import sys
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.core.training import QatResult
from pipeline.report.measurement import smaller
from pipeline.report.page import charts
from pipeline.report.page.charts import Point, Series, dot_plot, scatter
from pipeline.report.page.evidence import QAT, label_of
from pipeline.report.page.images import DIFFERENCES, differences
from pipeline.report.page.verdict import _start_kept


@pytest.mark.parametrize(
    ("not_judged", "words"),
    [
        (None, "gained nothing beyond luck, .* as good as it gets"),
        ("5 of 29 images held out are too few", "could not be judged, .* 5 of 29 images held out are too few$"),
    ],
)
def test_a_start_that_was_kept_untested_is_not_called_as_good_as_it_gets(not_judged, words):
    result = QatResult(50.0, 1.0, kept_step=0, gain_not_judged=not_judged)
    shipped = SimpleNamespace(artifact=SimpleNamespace(recipe=SimpleNamespace(origin=SimpleNamespace(kept_start=True))))
    trained = SimpleNamespace(title=QAT, result=result)
    evidence = SimpleNamespace(artifact_of=lambda _: shipped, trainings=(trained,))
    subject: Any = SimpleNamespace(label="x", bench=None, evidence=evidence)
    assert re.search(words, _start_kept(subject))


def test_a_file_that_grew_is_not_called_smaller():
    assert smaller(300, 100) == "3.00x smaller" and smaller(100, 100, "×") == "1.00× smaller"
    assert smaller(100, 250) == "2.50x larger"


def test_runs_of_one_name_are_told_apart_by_as_much_of_their_paths_as_it_takes():
    parts = [("/", "1", "x", "run"), ("/", "2", "x", "run"), ("/", "2", "y", "run"), ("/", "other")]
    assert [label_of(own, parts) for own in parts] == ["1/x/run", "2/x/run", "y/run", "other"]


@pytest.mark.parametrize("count", [2, 9])
def test_no_legend_is_cut_off_on_a_phone_or_takes_the_charts_place(count):
    titles = [f"summer-{n} · openvino-ir" for n in range(count)]
    for drawn in (
        dot_plot(["road", "sky"], [Series(title, (1.0, 2.0)) for title in titles], "IoU, %"),
        scatter([Point(title, 1.0, 2.0, n) for n, title in enumerate(titles)], "ms", "mIoU"),
    ):
        for svg in drawn:
            root = ElementTree.fromstring(svg)
            width = float(root.attrib["viewBox"].split()[2])
            shown = {text.text: text for text in root.iter("{http://www.w3.org/2000/svg}text")}
            assert set(titles) <= set(shown)
            for title in titles:
                assert float(shown[title].attrib["x"]) + 0.45 * 9.5 * len(title) <= width  # narrow letters
            axes = next(e for e in root.iter() if e.attrib.get("id", "").endswith("patch_2"))
            corners = [float(n) for n in re.findall(r"[ML] [\d.]+ ([\d.]+)", next(iter(axes)).attrib["d"])]
            assert max(corners) - min(corners) > 30


def test_differences_say_who_is_right():
    label = np.array([[0, 0, 0, 0, 0, 255]], np.uint8)
    parent = np.array([[0, 1, 1, 0, 1, 0]], np.uint8)
    mask = np.array([[0, 1, 0, 1, 2, 1]], np.uint8)
    words = [DIFFERENCES[place][0] for place in differences(label, parent, mask)[0]]
    assert words == [
        "both right",
        "both wrong, the same class",
        "the artifact alone is right",
        "float alone is right",
        "both wrong, different classes",
        "without a label",
    ]


@pytest.mark.parametrize("value", [sys.float_info.max, math.inf, math.nan])
def test_a_chart_of_what_is_no_figure_is_drawn(value):
    """Floats add up to infinity, and infinities to no number."""
    assert "<svg" in charts.bars([charts.Bar("x", 0.0, value), charts.Bar("y", 0.0, 1.0)], "ms")[0]
    assert "<svg" in charts.curves([charts.Curve("x", ((1.0, value), (value, 1.0)))], "loss", "step")[0]
    assert "<svg" in charts.scatter([charts.Point("x", value, 1.0, 0)], "ms", "%")[0]
