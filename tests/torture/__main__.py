"""Ends commands at any moment, lets any change of a file fail, and repeats them. Exit 1 where one did not go on.

What passed is kept in the work folder: the same call goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.torture import faults, server, table
from tests.torture.case import Case, Verdict
from tests.torture.draw import draw
from tests.torture.fuzz import fuzz
from tests.torture.oracle import judge
from tests.torture.prepare import COMMANDS, Reference, prepare
from tests.torture.sweep import sweep

INTERRUPTED = 130
EVERY_SECONDS = 30
FUZZ_SECONDS = 600
"""100,000 mutants take about as long on one core."""


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the moments [default: 0]")
    parser.add_argument("--moments", type=int, default=40, help="for each command and signal [default: 40]")
    parser.add_argument("--only", default="", metavar="COMMAND,...", help="[default: all]")
    parser.add_argument("--cases", default="", metavar="NAME,...", help="these alone, named as the table names them")
    parser.add_argument("--most", type=int, metavar="N", help="the first N cases alone [default: all]")
    parser.add_argument("--every-error", action="store_true", help="let each change fail with each error")
    parser.add_argument(
        "--minutes", type=float, default=57, help="no case begins later, fuzzing included [default: 57]"
    )
    parser.add_argument("--mutants", type=int, default=100_000, help="files to fuzz with [default: 100000]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes [default: one for each core]")
    parser.add_argument("--work", type=Path, default=server.ROOT / ".torture", help="folder [default: .torture]")
    return parser.parse_args()


def source_digest() -> str:
    """Of all that decides a case's end: what passed with other sources says nothing."""
    root, digest = server.ROOT, hashlib.sha256()
    folders = ("pipeline", "models", "calib", "tests/torture", "tests/support/tiny")
    for file in [root / "cli.py", *(f for folder in folders for f in sorted((root / folder).rglob("*.[pc]*")))]:
        if file.suffix in (".py", ".c"):
            digest.update(b"%s\0%s\0" % (bytes(file.relative_to(root)), file.read_bytes()))
    return digest.hexdigest()[:12]


def home_in(work: Path) -> Path:
    """The folder of these sources; those of others are removed."""
    home = work.absolute() / source_digest()
    for other in work.absolute().glob("*"):
        if other != home and re.fullmatch("[0-9a-f]{12}", other.name):
            shutil.rmtree(other)
    (home / "passed").mkdir(parents=True, exist_ok=True)
    return home


def prepared(home: Path) -> dict[str, Reference]:
    """In a process that has loaded what the commands load; it starts again with the library that lets calls fail."""
    library = home / faults.LIBRARY
    if not faults.preloaded(library):
        faults.start_again_with(faults.library(home), server.ENVIRONMENT)
    server.load()
    server.adopt_orphans()
    references = prepare(home, lambda place, words: server.call(place, words, library))
    for name, reference in references.items():
        print(f"{name}: {reference.seconds:.1f} s, {len(reference.changes)} changes of files", flush=True)
    return references


def passed_before(file: Path) -> dict[str, Verdict]:
    lines = file.read_text().splitlines() if file.is_file() else []
    verdicts = (Verdict(**{**json.loads(line), "problems": ()}) for line in lines)
    return {verdict.case: verdict for verdict in verdicts}


def verdicts_of(
    cases: list[Case], references: dict[str, Reference], home: Path, jobs: int, until: float
) -> Iterator[Verdict]:
    """Those of earlier calls first; each is shown where it failed, and stored where it did not."""
    file, library = home / "passed.jsonl", home / faults.LIBRARY
    before = passed_before(file)
    yield from (before[case.name] for case in cases if case.name in before)
    rest = [case for case in cases if case.name not in before]

    def judged(case: Case, number: int) -> Verdict:
        place = home / f"process-{number}" / "case"
        return judge(case, references[case.command], place, library, home / "passed")

    told = time.monotonic()
    with open(file, "a") as stored:
        for count, verdict in enumerate(sweep(rest, jobs, judged, until), 1):
            if verdict.problems:
                print(f"FAILED {verdict.case}: {'; '.join(verdict.problems)}\n  {verdict.detail}", flush=True)
            else:
                stored.write(json.dumps(dataclasses.asdict(verdict)) + "\n")
                stored.flush()
            if time.monotonic() - told > EVERY_SECONDS:
                told = time.monotonic()
                print(f"{count} of {len(rest)} cases", flush=True)
            yield verdict


def main() -> int:
    asked = options()
    if faults.compiler() is None:
        print("torture: skipped: there is no C compiler (cc) to build the library that lets changes of files fail")
        return 0
    fuzzes = asked.mutants > 0 and not (asked.only or asked.cases)
    for number in (signal.SIGINT, signal.SIGTERM):  # also behind `&`, where a shell has Ctrl-C ignored
        signal.signal(number, signal.default_int_handler)
    until = time.monotonic() + 60 * asked.minutes - (FUZZ_SECONDS if fuzzes else 0)
    home = home_in(asked.work)
    references = prepared(home)
    only = asked.only.split(",") if asked.only else list(COMMANDS)
    cases = draw({name: references[name] for name in only}, asked.seed, asked.moments, asked.every_error)
    if asked.cases:
        cases = [Case.parse(name) for name in asked.cases.split(",")]
    cases = cases[: asked.most]
    verdicts: list[Verdict] = []
    interrupted = False
    try:
        for verdict in verdicts_of(cases, references, home, asked.jobs, until):
            verdicts.append(verdict)
    except KeyboardInterrupt:
        interrupted = True
    others = fuzz(asked.mutants, FUZZ_SECONDS, asked.seed, home / "fuzz-found") if fuzzes and not interrupted else []
    print(table.show(table.rows(cases, verdicts), others))
    for other in others:
        if other.note:
            print(f"{other.name}: {other.note}")
    failed = [verdict.case for verdict in verdicts if verdict.problems]
    print(f"seed {asked.seed}, {len(verdicts)} of {len(cases)} cases, {sum(v.cpu_seconds for v in verdicts):.0f} CPU s")
    for name in failed:
        print(f"failed: make torture CASES={name}")
    if interrupted:
        print("interrupted: the same call goes on with the cases that are left")
        return INTERRUPTED
    return int(bool(failed) or any(other.failed for other in others))


if __name__ == "__main__":
    sys.exit(main())
