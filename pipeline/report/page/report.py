"""A report of one or several runs, from their directories alone: as one HTML file, or as Markdown."""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pipeline.core.printable import printable
from pipeline.report.markdown import escaped
from pipeline.report.page.accuracy import confusions, per_class
from pipeline.report.page.blocks import Page, joined
from pipeline.report.page.calibrated import calibrated
from pipeline.report.page.coverage import coverage
from pipeline.report.page.evidence import evidence_of
from pipeline.report.page.images import pictures
from pipeline.report.page.provenance import provenance
from pipeline.report.page.subjects import subjects_of
from pipeline.report.page.timing import timing
from pipeline.report.page.tradeoff import tradeoff
from pipeline.report.page.training import training
from pipeline.report.page.verdict import verdict

HOME = Path(__file__).parent


def page_of(paths: Sequence[Path], version: str = "") -> Page:
    """Raises RunError for what is no run directory. ``version``: of this program, where it is known."""
    runs = evidence_of(paths)
    subjects = subjects_of(runs)
    names = joined([run.label for run in runs])
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")[:16].replace("T", " ")
    what = joined([f"{run.run.config.model.network} on {run.run.config.data.partition(':')[0]}" for run in runs])
    return Page(
        title=f"Report of {names}",
        subtitle=f"{what}; written {when} UTC by segquant {version}".strip(),
        sections=(
            verdict(runs, subjects),
            pictures(runs, subjects),
            per_class(runs, subjects),
            confusions(runs, subjects),
            training(runs),
            tradeoff(runs, subjects),
            coverage(runs),
            timing(runs),
            calibrated(runs),
            provenance(runs, subjects),
        ),
    )


def html(page: Page) -> str:
    """One file that loads nothing: its script is named by its hash, and no other runs."""
    script = (HOME / "page.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = _environment(autoescape=True, finalize=_visible).get_template("page.html")
    style = Markup((HOME / "page.css").read_text())
    return template.render(page=page, style=style, script=Markup(script), script_sha256=digest)


def markdown(page: Page) -> str:
    """For a pull request: the figures without the pictures."""
    text = _environment(autoescape=False, finalize=_escaped_markdown).get_template("page.md").render(page=page)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _environment(**how: Any) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HOME),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **how,
    )
    environment.filters |= {"kind": lambda block: type(block).__name__.lower(), "svg": Markup, "plain": Markup}
    return environment


def _visible(value: object) -> object:
    """Text as it may be shown; Jinja escapes it afterwards."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value)


def _escaped_markdown(value: object) -> object:
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return escaped(value)
