"""Where everything comes from: the run, its files, their recipes, and the machines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from pipeline.core.division import UNDIVIDED
from pipeline.core.files import sha256
from pipeline.report.page.blocks import Block, Cell, Column, Section, Table, words
from pipeline.report.page.evidence import Evidence, Shipped
from pipeline.report.page.numbers import integer
from pipeline.report.page.subjects import Subject

PAIR = (Column("what"), Column("value"))
FILES = (
    Column("file"),
    Column("bytes", "counted", True),
    Column("method"),
    Column("sha256"),
    Column("made from"),
)


def provenance(runs: Sequence[Evidence], subjects: Sequence[Subject]) -> Section:
    blocks: list[Block] = []
    for run in runs:
        blocks.append(Table(f"The run {run.label}", PAIR, tuple(_run_rows(run))))
        if run.artifacts:
            weights = _weights(run)
            rows = tuple(_file_row(shipped, weights) for shipped in run.artifacts)
            blocks.append(Table(f"The files of {run.label}", FILES, rows))
        for shipped in run.artifacts:
            title = f"Recipe of {shipped.name}" if len(runs) == 1 else f"Recipe of {run.label}: {shipped.name}"
            blocks.append(Table(title, PAIR, tuple(_recipe_rows(shipped)), folded=True, in_markdown=False))
    for subject in subjects:
        rows = tuple(_machine_rows(subject))
        blocks.append(Table(f"How {subject.label} was measured", PAIR, rows, folded=True, in_markdown=False))
    return Section("provenance", "Provenance", tuple(blocks))


def _run_rows(run: Evidence) -> Iterator[tuple[Cell, ...]]:
    config = run.run.config
    network = ", ".join(f"{name} {value}" for name, value in vars(config.model).items())
    yield words("directory", str(run.run.path))
    yield words("made", config.created)
    yield words("network", network)
    yield words("dataset", config.data)
    if config.division != UNDIVIDED:
        yield words("trained on", str(config.division))
    yield words("classes", ", ".join(config.classes))
    yield words("seed", str(config.seed))
    for name, digest in _weights(run).items():
        yield words("weights", f"{name}, sha256 {digest}")


def _weights(run: Evidence) -> dict[str, str]:
    """The sha256 of each checkpoint that is there."""
    files = [training.best for training in (run.run.float_training, run.run.qat_training)]
    return {file.relative_to(run.run.path).as_posix(): sha256(file) for file in files if file.is_file()}


def _file_row(shipped: Shipped, weights: dict[str, str]) -> tuple[Cell, ...]:
    artifact, origin = shipped.artifact, shipped.artifact.recipe.origin
    made_from = "unknown"
    if origin is not None:
        name, digest = origin.parent.checkpoint, origin.parent.sha256
        made_from = name if weights.get(name) == digest else f"{name} as it was, sha256 {digest}"
    method = origin.how if origin else "unknown"
    return words(shipped.name, integer(shipped.size_bytes), method, artifact.sha256, made_from)


def _recipe_rows(shipped: Shipped) -> Iterator[tuple[Cell, ...]]:
    """All but the ranges, which have a section of their own."""
    for name, value in shipped.artifact.recipe.to_json().items():
        if name != "ranges":
            yield words(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _machine_rows(subject: Subject) -> Iterator[tuple[Cell, ...]]:
    bench = subject.bench
    yield words("at", bench.when)
    yield words("data", f"{bench.images} {bench.split} images of {bench.data}")
    for name, value in bench.protocol.items():
        yield words(f"protocol: {name}", str(value))
    for name, value in bench.machine.items():
        yield words(f"machine: {name}", _text(value))
    for name, value in bench.machine_after.items():
        yield words(f"afterwards: {name}", _text(value))
    for title, measured in (("float", bench.parent), ("artifact", bench.artifact)):
        yield words(f"{title} file", f"{measured.file}, sha256 {measured.sha256}, run by {measured.runs_on}")
        if latency := measured.latency:
            yield words(
                f"{title} latency",
                f"{latency.runs} inferences in {latency.rounds} rounds, {latency.starts} starts,"
                f" {latency.warmup_runs} warm-up runs, {latency.threads} threads",
            )


def _text(value: object) -> str:
    return "not told" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
