"""The command `gate`."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.options import (
    ARTIFACT_TARGET,
    JSON,
    RUN,
    Number,
    OutputFile,
    complete,
    say,
    split_option,
    tell,
    write_numbers,
    write_text,
)
from pipeline.cli.resolve import newest_artifact, run_to_use
from pipeline.core.errors import BadSpec, GateFailed
from pipeline.core.run import FILE, open_run
from pipeline.data import TEST
from pipeline.gate.checks import Limits
from pipeline.gate.checks import gate as compare
from pipeline.gate.standing import Standing, of_file, of_run
from pipeline.measure.saved import GATE, keep
from pipeline.report.gated import as_junit, as_markdown, show_gated

POINTS, TIMES = Number(-100, 100), Number(0, 1000, min_open=True)


@click.command()
@RUN
@ARTIFACT_TARGET
@click.option(
    "--baseline",
    "baseline_path",
    type=click.Path(path_type=Path),
    metavar="FILE|RUN",
    help="What to compare with: a run, the JSON of a `bench`, or what --save wrote.",
    shell_complete=complete("files_or_runs"),
)
@split_option("val", TEST, words="Which images the measurement is of.")
@click.option(
    "--images",
    type=click.IntRange(1),
    help="Take the measurement of the first N images, which `bench --images N` made.  [default: of all]",
)
@click.option("--max-loss", "max_loss", type=POINTS, metavar="POINTS", help="mIoU, from the baseline.  [default: 0.5]")
@click.option(
    "--max-class-loss", type=POINTS, metavar="POINTS", help="IoU of any class, from the baseline.  [default: 5]"
)
@click.option("--max-latency-ratio", type=TIMES, metavar="N", help="Latency over the baseline's.  [default: 1.1]")
@click.option("--max-size-ratio", type=TIMES, metavar="N", help="File size over the baseline's.  [default: 1.05]")
@click.option(
    "--max-coverage-loss",
    type=POINTS,
    metavar="POINTS",
    help="Share of multiply-accumulates accelerated, from the baseline.  [default: 0]",
)
@click.option("--max-drop", type=POINTS, metavar="POINTS", help="mIoU, from the float parent.")
@click.option("--max-latency-ms", type=Number(0, min_open=True), metavar="MS", help="Median latency.")
@click.option("--min-coverage", type=Number(0, 100), metavar="PERCENT", help="Multiply-accumulates accelerated.")
@click.option(
    "--class-floor", "floors", multiple=True, metavar="CLASS=PERCENT", help="Least IoU of a class; may be repeated."
)
@click.option("--junit", type=OutputFile(), metavar="FILE.xml", help="Write JUnit XML here.")
@click.option("--markdown", type=OutputFile(), metavar="FILE.md", help="Write a summary for a pull request here.")
@click.option("--save", type=OutputFile(), metavar="FILE.json", help="Write the next baseline, if the gate is passed.")
@JSON
def gate(
    run_path: Path | None,
    target_name: str | None,
    baseline_path: Path | None,
    split: str,
    images: int | None,
    max_loss: float | None,
    max_class_loss: float | None,
    max_latency_ratio: float | None,
    max_size_ratio: float | None,
    max_coverage_loss: float | None,
    max_drop: float | None,
    max_latency_ms: float | None,
    min_coverage: float | None,
    floors: tuple[str, ...],
    junit: str | None,
    markdown: str | None,
    save: str | None,
    json_path: str | None,
) -> None:
    """Let a measured artifact pass, or not: exit code 0 or 1.

    Takes the newest `bench` of the artifact as it is now on all images, and compares it with limits, with a baseline of
    the same images, or both. A limit that was asked for and cannot be checked is not kept. Latencies are compared where
    the machine is the same. The outcome is kept in the run, where `report` shows it.

    \b
      python cli.py gate --run runs/new --baseline runs/released
      python cli.py gate --max-drop 1 --class-floor person=60 --junit gate.xml
    """
    limits = Limits(
        max_loss,
        max_class_loss,
        max_latency_ratio,
        max_size_ratio,
        max_coverage_loss,
        max_drop,
        max_latency_ms,
        min_coverage,
        floors_of(floors),
    )
    run = run_to_use(run_path, say)
    artifact = newest_artifact(run, target_name, say)
    baseline = None if baseline_path is None else _baseline(baseline_path, artifact.recipe.target, split, images)
    gated = compare(of_run(run, artifact, split, images), baseline, limits)
    show_gated(gated)
    keep(GATE, artifact.path, gated.to_json())
    write_numbers(json_path, gated.to_json())
    write_text(junit, as_junit(gated).decode())
    write_text(markdown, as_markdown(gated))
    failed = [check.name for check in gated.checks if check.outcome == "failed"]
    if failed:
        raise GateFailed(f"gate failed: {', '.join(failed)} ({gated.standing.where}).")
    write_numbers(save, gated.standing.to_json())
    tell("gate passed")


def _baseline(path: Path, target: str, split: str, images: int | None) -> Standing:
    if (path / FILE).is_file():
        run = open_run(path)
        return of_run(run, newest_artifact(run, target, say), split, images)
    return of_file(path)


def floors_of(texts: tuple[str, ...]) -> dict[str, float]:
    """('person=60',) → {'person': 60.0}; raises BadSpec."""
    floors = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        if name in floors:
            raise BadSpec(f"--class-floor gives {name!r} two limits: leave one of them out.")
        try:
            floors[name] = float(value)
        except ValueError:
            floors[name] = float("nan")
        if not name or not 0 <= floors[name] <= 100:
            raise BadSpec(f"--class-floor {text}: write CLASS=PERCENT, such as person=60.")
    return floors
