"""The verdict: accuracy, latency, size and gates of each artifact beside its float parent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.core.measurement import Ratio
from pipeline.core.training import QatResult
from pipeline.report.measurement import faster, smaller
from pipeline.report.page.blocks import (
    Block,
    Cell,
    Column,
    Missing,
    Paragraphs,
    Section,
    Table,
    joined,
    words,
)
from pipeline.report.page.evidence import QAT, Evidence, Shipped
from pipeline.report.page.numbers import NONE, fixed, interval, mib, points
from pipeline.report.page.subjects import Subject, source_of

COLUMNS = (
    Column("artifact"),
    Column("weights"),
    Column("float mIoU %", "measured", True),
    Column("mIoU %", "measured", True),
    Column("change, points", "measured", True),
    Column("float ms, median", "measured", True),
    Column("ms, median", "measured", True),
    Column("times as fast as float", "measured", True),
    Column("its interval", "measured", True),
    Column("float MiB", "counted", True),
    Column("MiB", "counted", True),
)
GATES = (
    Column("artifact"),
    Column("gate"),
    Column("value", "measured", True),
    Column("limit", "", True),
    Column("result"),
)

OUTCOMES = {"passed": Cell("passed", mark="good"), "failed": Cell("FAILED", mark="bad"), "skipped": Cell("not checked")}


def verdict(runs: Sequence[Evidence], subjects: Sequence[Subject]) -> Section:
    blocks: list[Block] = []
    if subjects:
        blocks.append(Paragraphs(tuple(f"{subject.label}: {_sentence(subject)}" for subject in subjects), "lead"))
        rows = tuple(_row(subject) for subject in subjects)
        blocks.append(Table("Each artifact beside its float parent", COLUMNS, rows, _sources(subjects)))
        if gates := tuple(row for subject in subjects for row in _gates(subject)):
            blocks.append(Table("Gates", GATES, gates))
        if notes := tuple(_notes(subjects)):
            blocks.append(Paragraphs(notes, "notes"))
    blocks += [missing for run in runs for missing in _unmeasured(run)]
    if problems := tuple(f"{run.label}: {problem}" for run in runs for problem in run.problems):
        blocks.append(Paragraphs(problems, "notes"))
    return Section("verdict", "Verdict", tuple(blocks))


def _sentence(subject: Subject) -> str:
    bench = subject.bench
    parent, ours = bench.parent.score, bench.artifact.score
    parts = []
    if parent and ours:
        change = ours.miou_percent - parent.miou_percent
        parts.append(
            f"{fixed(ours.miou_percent)} % mIoU, {fixed(parent.miou_percent)} % in float ({points(change)} points)"
        )
    if bench.speedup:
        parts.append(_latency(bench.speedup))
    if bench.artifact.size_bytes and bench.parent.size_bytes:
        parts.append(smaller(bench.parent.size_bytes, bench.artifact.size_bytes, "×"))
    outcomes = [gate.passed for gate in bench.gates]
    if gated := subject.evidence.gated_of(bench):
        outcomes += [check.outcome == "passed" for check in gated.checks if check.outcome != "skipped"]
    if outcomes:
        failed = outcomes.count(False)
        parts.append(f"{failed} of {len(outcomes)} gates failed" if failed else "all gates passed")
    return "; ".join(parts) + "."


def _latency(ratio: Ratio) -> str:
    if ratio.is_significant:
        return faster(ratio)
    if ratio.low is None:
        return f"{fixed(ratio.ratio)}× as fast, from too few starts to tell which is faster"
    return f"{fixed(ratio.ratio)}× as fast ({interval(ratio)}: this does not show which is faster)"


def _row(subject: Subject) -> tuple[Cell, ...]:
    bench, shipped = subject.bench, subject.evidence.artifact_of(subject.bench)
    parent, ours = bench.parent, bench.artifact
    change = ours.score.miou_percent - parent.score.miou_percent if ours.score and parent.score else None
    return (
        Cell(subject.label),
        Cell(_weights(shipped) if shipped else NONE),
        Cell(fixed(parent.score.miou_percent if parent.score else None)),
        Cell(fixed(ours.score.miou_percent if ours.score else None)),
        Cell(points(change)),
        Cell(fixed(parent.latency.median_ms if parent.latency else None)),
        Cell(fixed(ours.latency.median_ms if ours.latency else None)),
        Cell(fixed(bench.speedup.ratio if bench.speedup else None)),
        Cell(interval(bench.speedup)),
        Cell(mib(parent.size_bytes)),
        Cell(mib(ours.size_bytes)),
    )


def _weights(shipped: Shipped) -> str:
    recipe = shipped.artifact.recipe
    method = recipe.origin.how if recipe.origin else "unknown method"
    return f"{recipe.file.weights}, {method}" if recipe.file.weights == "int8" else recipe.file.weights


def _gates(subject: Subject) -> Iterator[tuple[Cell, ...]]:
    for gate in subject.bench.gates:
        result = OUTCOMES["passed" if gate.passed else "failed"]
        yield (*words(subject.label, gate.name, fixed(gate.value), f"{gate.limit:g}"), result)
    gated = subject.evidence.gated_of(subject.bench)
    for check in gated.checks if gated else ():
        value, limit = (NONE if check.value is None else fixed(check.value)), f"{check.limit:g} {check.unit}"
        yield (*words(subject.label, check.name, value, limit), OUTCOMES[check.outcome])


def _sources(subjects: Sequence[Subject]) -> str:
    """Each source once, and whose it is where they differ."""
    by_source: dict[str, list[str]] = {}
    for subject in subjects:
        runtimes = f"{source_of(subject.bench)[:-1]}, run by {subject.artifact.runs_on}."
        by_source.setdefault(runtimes, []).append(subject.label)
    if len(by_source) == 1:
        return next(iter(by_source))
    return " ".join(f"{', '.join(labels)}: {source}" for source, labels in by_source.items())


def _notes(subjects: Sequence[Subject]) -> Iterator[str]:
    for subject in subjects:
        bench, evidence = subject.bench, subject.evidence
        yield from (f"{subject.label}: {note}" for note in bench.notes)
        if bench.unfinished:
            yield f"{subject.label}: unfinished: {bench.unfinished}"
        if evidence.artifact_of(bench) is None:
            yield f"{subject.label}: {bench.artifact.file} is not there any more as it was when it was measured"
        if kept := _start_kept(subject):
            yield kept
    for run in dict.fromkeys(subject.evidence for subject in subjects):
        if run.older_benches:
            yield f"{run.label}: {run.older_benches} older measurements of the same files are not shown"


def _start_kept(subject: Subject) -> str | None:
    """What it means that the quantization-aware training that the file is from gained nothing."""
    shipped = subject.evidence.artifact_of(subject.bench)
    if shipped is None or shipped.artifact.recipe.origin is None or not shipped.artifact.recipe.origin.kept_start:
        return None
    result = next((t.result for t in subject.evidence.trainings if t.title == QAT), None)
    if isinstance(result, QatResult) and result.gain_not_judged:
        return (
            f"{subject.label}: what quantization-aware training gained could not be judged, so the file has the float"
            f" weights with calibrated ranges: {result.gain_not_judged}"
        )
    return (
        f"{subject.label}: quantization-aware training gained nothing beyond luck, so the file has the float weights"
        " with calibrated ranges: it is as good as it gets by this training"
    )


def _unmeasured(run: Evidence) -> Iterator[Missing]:
    """Of each target that has a file, whether its newest was measured."""
    if not run.artifacts:
        yield Missing(f"{run.label} has no artifact", run.command("convert", "--target", "cpu"))
    measured = {shipped.name for bench in run.benches if (shipped := run.artifact_of(bench))}
    newest = {shipped.target: shipped.name for shipped in reversed(run.artifacts)}
    targets = [target for target, name in newest.items() if name not in measured]
    if len(targets) == 1:
        yield Missing(f"{newest[targets[0]]} has not been measured", run.command("bench", "--target", targets[0]))
    elif targets:
        names = joined(sorted(targets))
        command = f"{run.command('bench', '--target')} NAME"
        yield Missing(f"The files of {run.label} for {names} have not been measured", command)
