"""A gate's outcome as a table, as Markdown for a pull request, and as JUnit XML for a CI system."""

from __future__ import annotations

from xml.etree import ElementTree

from rich.table import Table

from pipeline.core.printable import printable
from pipeline.core.score import says_nothing
from pipeline.gate.checks import Check, Gated
from pipeline.report.console import console
from pipeline.report.markdown import escaped

SIGNS = {"passed": "✓", "failed": "✗", "skipped": "–"}


def show_gated(gated: Gated) -> None:
    table = Table()
    for column, justify in (("", "left"), ("check", "left"), ("found", "right"), ("limit", "right"), ("", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for check in gated.checks:
        table.add_row(SIGNS[check.outcome], check.name, _found(check), _limit(check), check.detail)
    out = console()
    s = gated.standing
    out.print(f"{s.target}: {s.where}, {s.miou_percent:.2f} % on {s.scored}", soft_wrap=True)
    if s.one_class is not None:
        out.print(f"note: {says_nothing(s.one_class)}", soft_wrap=True)
    if gated.baseline is not None:
        out.print(f"baseline: {gated.baseline.where}", soft_wrap=True)
    out.print(table)


def _found(check: Check) -> str:
    return "–" if check.value is None else f"{check.value:.3g}" if "times" in check.unit else f"{check.value:.2f}"


def _limit(check: Check) -> str:
    return f"{check.limit:g} {check.unit}"


def as_markdown(gated: Gated) -> str:
    s = gated.standing
    lines = [
        f"### segquant gate: {'passed' if gated.passed else 'failed'} ({escaped(s.target)})",
        "",
        "| | check | found | limit | |",
        "|---|---|---:|---:|---|",
    ]
    for check in gated.checks:
        cells = (SIGNS[check.outcome], check.name, _found(check), _limit(check), check.detail)
        lines.append(f"| {' | '.join(escaped(cell) for cell in cells)} |")
    where = f"mIoU {s.miou_percent:.2f} % on {s.scored}"
    machine = f"; {s.median_ms:.2f} ms on {s.machine.get('cpu')}" if s.median_ms is not None else ""
    note = [escaped(f"Note: {says_nothing(s.one_class)}."), ""] if s.one_class is not None else []
    return "\n".join([*lines, "", escaped(where + machine) + ".", "", *note])


def as_junit(gated: Gated) -> bytes:
    """One test suite, a test case for each check, as CI systems read it."""
    outcomes = [check.outcome for check in gated.checks]
    suite = ElementTree.Element(
        "testsuite",
        name="segquant gate",
        tests=str(len(outcomes)),
        failures=str(outcomes.count("failed")),
        errors="0",
        skipped=str(outcomes.count("skipped")),
    )
    for check in gated.checks:
        case = ElementTree.SubElement(
            suite, "testcase", classname=printable(f"segquant.{gated.standing.target}"), name=printable(check.name)
        )
        words = printable(f"found {_found(check)}, limit {_limit(check)}. {check.detail}".strip())
        if check.outcome == "failed":
            ElementTree.SubElement(case, "failure", message=words).text = printable(gated.standing.where)
        elif check.outcome == "skipped":
            ElementTree.SubElement(case, "skipped", message=printable(check.detail))
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    xml: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return xml + b"\n"
