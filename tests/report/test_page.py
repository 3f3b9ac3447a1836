"""The report against the files that it is made of: every figure is theirs, and what is missing is named."""

import base64
import dataclasses
import io
import json
import os
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pipeline.cli.resolve import newest_artifact
from pipeline.core.run import open_run
from pipeline.gate.checks import Limits, gate
from pipeline.gate.standing import of_run
from pipeline.measure.saved import GATE, keep
from pipeline.report.page import charts
from pipeline.report.page.evidence import evidence_of
from pipeline.report.page.report import html, markdown, page_of
from tests.support.reported import add_the_rest, measured_run, with_names

SECTIONS = ("verdict", "pictures", "classes", "confusion", "training", "tradeoff", "coverage", "time", "ranges")
HOSTILE = ("<script>alert(1)</script>", "a|b`c", "$x^2$", "[x](http://x.y) @someone #1", "\x1b[31m\u202e\u200b\"'&")


class Reader(HTMLParser):
    """Tags with their attributes, and the text of each section, table cells apart."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.sections, self.here = [], [], {}, "head"
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self.here = dict(attrs)["id"]

    def handle_data(self, data):
        self.text.append(data)
        self.sections.setdefault(self.here, []).append(data.strip())


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(run, artifact, measurement) with nothing else."""
    return measured_run(tmp_path_factory.mktemp("measured"))


@pytest.fixture(scope="module")
def full_run(measured, tmp_path_factory):
    """The same run with all that the other commands keep."""
    run, artifact, _ = measured
    copy = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(run.path, copy)
    file = copy / artifact.path.relative_to(run.path)
    add_the_rest(open_run(copy), type(artifact)(file, artifact.recipe, artifact.sha256))
    return open_run(copy)


@pytest.fixture(scope="module")
def written(full_run):
    """That run's report, as HTML."""
    return html(page_of([full_run.path], "1.2"))


@pytest.fixture
def undrawn(monkeypatch):
    """Charts take most of the time, and not all tests look at them."""
    monkeypatch.setattr(charts, "_both", lambda *_: ("<svg/>", "<svg/>"))


def cells(section):
    return {text for text in section if text}


def test_the_sections_stand_in_their_order_and_each_figure_is_that_of_the_json(full_run, written):
    page = Reader(written)
    order = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert order == [*SECTIONS, "provenance"]
    (file,) = full_run.measurements.glob("bench-*.json")
    bench = json.loads(file.read_text())
    parent, ours = bench["parent"], bench["artifact"]
    verdict = cells(page.sections["verdict"])
    for value in (parent["score"]["miou_percent"], ours["score"]["miou_percent"], ours["latency"]["median_ms"]):
        assert f"{value:.2f}" in verdict
    assert f"{ours['size_bytes'] / 2**20:.2f}" in verdict and {"passed", "FAILED"} <= verdict
    for name, value in ours["score"]["iou_percent"].items():
        assert {name, f"{value:.2f}"} <= cells(page.sections["classes"])
    counts = np.array(ours["confusion"])
    shares = 100 * counts / counts.sum(1, keepdims=True)
    assert {f"{share:.1f}" for share in shares.ravel()} <= cells(page.sections["confusion"])
    assert {f"{count:,}" for count in counts.sum(1)} <= cells(page.sections["confusion"])
    assert {"4.25", "1.125", "1.062 to 1.250 (99 %)"} <= cells(page.sections["tradeoff"])  # of the heads
    assert {"20.50", "1.5000"} <= cells(page.sections["training"])
    assert {"1.250", "0.750", "2.0", "0.625"} - cells(page.sections["time"]) == {"0.625"}  # sums are of one stage each
    assert "0.125" in cells(page.sections["ranges"])
    assert {ours["sha256"], parent["sha256"]} - set(re.findall("[0-9a-f]{64}", " ".join(page.text))) == set()
    assert not any("To add it" in text for text in page.text if "its compiler" not in text)


def test_of_two_measurements_of_one_second_the_later_is_shown(measured, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(measured[0].path, copy)
    (file,) = (copy / "measurements").glob("bench-*.json")
    data = json.loads(file.read_text())
    data["artifact"]["size_bytes"] += 1
    file.with_name(f"{file.stem}-2.json").write_text(json.dumps(data))
    (evidence,) = evidence_of([copy])
    assert [bench.artifact.size_bytes for bench in evidence.benches] == [data["artifact"]["size_bytes"]]
    assert evidence.older_benches == 1


def test_figures_stand_under_how_they_came_about_and_each_section_says_where(full_run, written):
    bench = next(full_run.measurements.glob("bench-*.json")).read_text()
    machine = json.loads(bench)["machine"]
    page = Reader(written)
    for name in ("verdict", "pictures", "classes", "confusion", "tradeoff"):
        assert any(machine["cpu"] in each and machine["runtime"] in each for each in page.sections[name]), name
        assert any("5 val images of folder:" in each for each in page.sections[name]), name
    assert any("a CPU of a test" in each for each in page.sections["time"])
    assert "estimated" in page.sections["time"] and "estimated" not in page.sections["verdict"]


def test_what_is_missing_is_named_with_the_command_that_brings_it(measured, tmp_path, undrawn):
    run, _, _ = measured
    page = Reader(html(page_of([run.path], "1.2")))
    for section, command in (("training", "train"), ("time", "profile"), ("ranges", "agree")):
        assert any(f"python cli.py {command} --run {run.path}" in each for each in page.sections[section]), section
    bare = tmp_path / "a run"
    bare.mkdir()
    shutil.copy(run.path / "run.json", bare)
    page = Reader(html(page_of([bare], "1.2")))
    for section, command in (
        ("verdict", "convert"), ("pictures", "bench"), ("classes", "bench"), ("confusion", "bench"),
        ("tradeoff", "bench"), ("coverage", "convert"), ("time", "profile"), ("ranges", "convert"),
    ):  # fmt: skip
        assert any(f"python cli.py {command} --run '{bare}'" in each for each in page.sections[section]), section
    figures = [text for name in SECTIONS for text in page.sections[name] if re.search(r"\d+\.\d", text)]
    assert figures == []  # none from nowhere


def test_names_of_any_kind_are_text_and_nothing_else(full_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(full_run.path, copy)
    run = with_names(open_run(copy), HOSTILE)
    for file in copy.glob("measurements/bench-*.json"):
        text = file.read_text()
        for old, new in zip("abcde", HOSTILE, strict=True):
            text = text.replace(f'"{old}":', f"{json.dumps(new)}:")
            text = text.replace(f'"worst {old}"', json.dumps(f"worst {new}"))
        data = json.loads(text)
        data["machine"]["cpu"] = "<img src=x onerror=alert(1)>"
        data["shown"][0]["score"]["name"] = "<b>x"
        file.write_text(json.dumps(data))
    report = page_of([run.path], "1.2")
    text = html(report)
    page = Reader(text)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert all(attributes["src"].startswith("data:image/") for tag, attributes in page.tags if tag == "img")
    assert HOSTILE[0] in page.sections["classes"] and "$x^2$" in page.sections["classes"]
    assert "\x1b" not in text and "\u202e" not in text and "\\x1b" in text
    in_markdown = markdown(report)
    assert "<script" not in in_markdown and "<img" not in in_markdown and "](http" not in in_markdown
    assert "@someone" not in in_markdown and "a|b" not in in_markdown and "&#64;someone" in in_markdown


def test_the_file_asks_for_nothing_from_elsewhere(written):
    text, page = written, Reader(written)
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert attributes.get(name, "#")[:1] == "#" or attributes[name].startswith("data:"), (tag, attributes)
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", text) and "@import" not in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) and set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)
    assert set(re.findall(r"url\(#([\w-]+)\)", text)) <= set(ids)


def test_every_picture_is_in_the_page_with_words_for_those_who_do_not_see_it(full_run, written, undrawn):
    pictures = [attributes for tag, attributes in Reader(written).tags if tag == "img"]
    bench = json.loads(next(full_run.measurements.glob("bench-*.json")).read_text())
    assert len(pictures) == 5 * len(bench["shown"])
    assert all(picture["alt"] and picture["width"] for picture in pictures)
    gone = full_run.path / bench["shown"][0]["mask"]
    kept = gone.read_bytes()
    try:
        gone.unlink()
        page = Reader(html(page_of([full_run.path], "1.2")))
        assert sum(tag == "img" for tag, _ in page.tags) < len(pictures)
        assert any("is not shown" in text for text in page.sections["pictures"])
        flipped = bytearray(kept)
        flipped[kept.index(b"PLTE") + 30] ^= 1
        one = io.BytesIO()
        Image.new("P", (1, 1)).save(one, "PNG")
        for broken in (kept[: len(kept) // 2], bytes(flipped), one.getvalue(), b"%!PS-Adobe-3.0 EPSF-3.0\n"):
            gone.write_bytes(broken)
            page = Reader(html(page_of([full_run.path], "1.2")))
            assert any("is not shown" in text for text in page.sections["pictures"]), broken[:20]
        gone.unlink()
        os.mkfifo(gone)
        page = Reader(html(page_of([full_run.path], "1.2")))
        assert any("is not shown" in text for text in page.sections["pictures"])
    finally:
        gone.unlink(missing_ok=True)
        gone.write_bytes(kept)


def test_a_measurement_that_names_a_file_outside_the_run_shows_nothing_of_it(full_run, tmp_path, undrawn):
    copy = tmp_path / "run"
    shutil.copytree(full_run.path, copy)
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (file,) = copy.glob("measurements/bench-*.json")
    data = json.loads(file.read_text())
    (copy / "loop.png").symlink_to("loop.png")
    data["shown"] = [{**data["shown"][0], "image": name} for name in ("../secret.png", "loop.png")]
    file.write_text(json.dumps(data))
    page = Reader(html(page_of([copy], "1.2")))
    assert not any(tag == "img" for tag, _ in page.tags)
    assert any("../secret.png is no picture of this run" in text for text in page.sections["pictures"])
    assert any("loop.png is not shown" in text for text in page.sections["pictures"])


def test_what_is_not_labelled_is_painted_as_the_legend_says_and_as_no_class(full_run, tmp_path, undrawn):
    copy = tmp_path / "run"
    shutil.copytree(full_run.path, copy)
    bench = json.loads(next(copy.glob("measurements/bench-*.json")).read_text())
    for name in {shown["label"] for shown in bench["shown"]}:  # as earlier versions kept it, in black
        ids = np.array(Image.open(copy / name))
        ids[0, 0] = 255
        picture = Image.fromarray(ids)
        picture.putpalette([value for i in range(5) for value in (i, i, i)] + [0] * 753)
        picture.save(copy / name)
    page = Reader(html(page_of([copy], "1.2")))
    url = next(
        attributes["src"] for tag, attributes in page.tags if tag == "img" and attributes["data-title"] == "label"
    )
    picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    painted = np.asarray(picture.convert("RGB"))[0, 0].tolist()
    assert painted not in [[i, i, i] for i in range(5)]
    styles = [attributes["style"] for tag, attributes in page.tags if attributes.get("class") == "swatch"]
    assert styles[5] == "background: #{:02x}{:02x}{:02x}".format(*painted)


def test_a_measurement_of_an_earlier_version_and_a_broken_file_stop_nothing(full_run, tmp_path, undrawn):
    copy = tmp_path / "run"
    shutil.copytree(full_run.path, copy)
    (file,) = copy.glob("measurements/bench-*.json")
    data = json.loads(file.read_text())
    for key in ("per_image", "shown", "gates"):
        del data[key]
    for name in ("parent", "artifact"):
        del data[name]["confusion"]
    file.write_text(json.dumps({**data, "schema": 4}))
    (copy / "measurements" / "profile-cpu-1.json").write_text("{")
    (copy / "measurements" / "bench-cpu-1.json").write_text('{"schema": 1}')
    (copy / "artifacts" / "cpu" / "gone.tflite").symlink_to("nowhere")
    page = Reader(html(page_of([copy], "1.2")))
    assert f"{data['artifact']['score']['miou_percent']:.2f}" in page.sections["verdict"]
    for section in ("pictures", "confusion"):
        assert any(f"python cli.py bench --run {copy}" in each for each in page.sections[section]), section
    data["artifact"]["confusion"] = [[1, 2], [3, 4]]
    (copy / "measurements" / "bench-cpu-2.json").write_text(json.dumps({**data, "when": "2999-01-01T00:00:00+00:00"}))
    later = Reader(html(page_of([copy], "1.2")))
    assert any("confusion matrix of 2999" in text and "5 classes" in text for text in later.sections["verdict"])
    problems = [text for text in page.sections["verdict"] if "cannot be read" in text]
    assert len(problems) == 2 and "bench-cpu-1.json" in " ".join(problems)


@pytest.mark.parametrize(
    ("kind", "nonsense"),
    [
        ("bench", {"speedup": {"ratio": 0, "low": None, "high": None, "confidence_percent": 99}}),
        ("bench", {"speedup": {"ratio": 1, "low": 0, "high": 2, "confidence_percent": 99}}),
        ("bench", {"per_image": [{"name": "", "parent_miou_percent": 1, "miou_percent": 1e9, "agreement_percent": 1}]}),
        ("inspect", {"verdicts": []}),
    ],
    ids=["no ratio", "an interval from 0", "an accuracy of 1e9", "no verdicts"],
)  # fmt: skip
def test_numbers_that_cannot_be_are_named_and_stop_nothing(kind, nonsense, full_run, tmp_path, undrawn):
    copy = tmp_path / "run"
    shutil.copytree(full_run.path, copy)
    (file,) = copy.glob(f"measurements/{kind}-*.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | nonsense))
    page = Reader(html(page_of([copy], "1.2")))
    assert any(f"{file.name} cannot be read" in text for text in page.sections["verdict"])


def test_what_a_compiler_told_counts_before_what_the_rules_said_later(full_run, tmp_path, undrawn):
    copy = tmp_path / "run"
    shutil.copytree(full_run.path, copy)
    (file,) = copy.glob("measurements/inspect-*.json")
    by_rule = json.loads(file.read_text())
    told = {**by_rule, "real": by_rule["verdicts"], "real_coverage": {**by_rule["coverage"], "by": "a compiler"}}
    (copy / "measurements" / "inspect-cpu-1.json").write_text(json.dumps(told))
    page = Reader(html(page_of([copy], "1.2")))
    assert "a compiler" in page.sections["coverage"]


def test_the_newest_gate_of_the_file_stands_in_the_verdict(full_run, cli, tmp_path, undrawn):
    copy = tmp_path / "run"
    shutil.copytree(full_run.path, copy)
    artifact = newest_artifact(open_run(copy), "cpu", print)
    standing = of_run(open_run(copy), artifact)
    on_test = dataclasses.replace(standing, split="test")
    for floor, gates in ((99.875, standing), (0.125, standing), (88.5, on_test)):
        gated = gate(gates, None, Limits(max_drop_points=100.0, class_floors={next(iter(standing.iou_percent)): floor}))
        keep(GATE, artifact.path, gated.to_json())
    page = Reader(html(page_of([copy], "1.2")))
    verdict = cells(page.sections["verdict"])
    name, iou = next(iter(standing.iou_percent.items()))
    assert {f"IoU of {name}", f"{iou:.2f}", "0.125 % at least", "drop from the float parent"} <= verdict
    assert not {"99.875 % at least", "88.5 % at least"} & verdict


def test_the_pictures_lead_to_the_live_page(full_run, tmp_path, undrawn):
    copy = tmp_path / "run"
    shutil.copytree(full_run.path, copy)

    def said():
        return next(text for text in Reader(html(page_of([copy], "1.2"))).sections["pictures"] if "camera" in text)

    assert f"bundle --run {copy} --target cpu writes that page, npm ci --prefix {copy}/bundles/cpu/browser" in said()
    page = copy / "bundles" / "gpu" / "browser" / "serve.py"
    page.parent.mkdir(parents=True)
    page.touch()
    assert "bundle --run" not in said() and f"fetches LiteRT.js, and python {page} serves it" in said()
    (page.parent / "node_modules").mkdir()
    assert "npm" not in said()


def test_several_runs_stand_side_by_side(full_run, measured, cli, tmp_path, undrawn):
    asked = ("report", "--run", str(full_run.path), "--run", str(measured[0].path))
    refused = cli(*asked, cwd=tmp_path)
    assert refused.returncode == 2 and "--out FILE" in refused.stderr
    result = cli(*asked, "--out", "both.html", cwd=tmp_path)
    assert result.returncode == 0 and result.stdout.split() == ["both.html"], result.stderr
    page = Reader((tmp_path / "both.html").read_text())
    names = {"/".join(run.parts[-2:]) for run in (full_run.path, measured[0].path)}  # both folders are called run
    assert {f"{name} · cpu" for name in names} <= cells(page.sections["verdict"])
    assert {f"{name} · cpu" for name in names} <= cells(page.sections["tradeoff"])


def test_markdown_has_the_same_figures_in_tables_that_hold_together(full_run, cli, tmp_path):
    result = cli("report", "--run", str(full_run.path), "--format", "md", "--out", "-", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    bench = json.loads(next(full_run.measurements.glob("bench-*.json")).read_text())
    assert f" {bench['artifact']['score']['miou_percent']:.2f} |" in result.stdout
    assert next(line for line in lines if line.startswith("## ")) == "## Verdict"
    widths: dict[int, tuple[int, int]] = {}
    for number, line in enumerate(lines):
        if line.startswith("|"):
            start = number if not lines[number - 1].startswith("|") else widths[number - 1][0]
            widths[number] = (start, line.count("|"))
    assert len({start for start, _ in widths.values()}) >= 9
    for start, count in widths.values():
        assert count == widths[start][1], lines[start]
    assert "data:image" not in result.stdout and "<svg" not in result.stdout


def test_the_report_lies_in_the_run_and_the_one_before_is_kept(full_run, cli, tmp_path):
    (full_run.path / "report.md").write_text("mine")
    result = cli("report", "--run", str(full_run.path), "--format", "md", cwd=tmp_path)
    assert result.stdout.strip() == str(full_run.path / "report.md"), result.stderr
    assert (full_run.path / "report.md.1").read_text() == "mine"
    refused = cli("report", "--run", "nowhere", cwd=tmp_path)
    assert refused.returncode == 2 and "nowhere does not exist" in refused.stderr
